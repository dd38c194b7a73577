package kube

import "strings"

// ownDomains hold what says whose a pod is. Only Berm writes there.
var ownDomains = [...]string{"berm.dev", "sandbox.coreweave.com"}

// privilegedDomains are domains, with everything below them, whose labels and annotations change how a cluster treats a
// pod: its kernel confinement, its networks, its eviction, what is injected into it.
var privilegedDomains = [...]string{
	"kubernetes.io", "k8s.io", "x-k8s.io", "coreweave.com", "cncf.io", "projectcalico.org", "cilium.io", "k8s.ovn.org", "antrea.io",
	"openshift.io", "istio.io", "linkerd.io", "consul.hashicorp.com", "vault.hashicorp.com", "kuma.io", "dapr.io", "kyverno.io",
	"gatekeeper.sh", "kubevirt.io", "nvidia.com", "gvisor.dev", "amazonaws.com", "gke.io", "azure.com", "azure.workload.identity",
}

// privilegedPrefixes begin keys that container runtimes read as configuration.
var privilegedPrefixes = [...]string{
	"io.kubernetes.", "io.containerd.", "io.katacontainers.", "io.podman.", "io.crun.", "dev.gvisor.", "run.oci.",
	"org.systemd.property.", "org.opencontainers.", "com.docker.", "devices.",
}

// recommendedLabels are Kubernetes' labels for people, which nothing acts on.
const recommendedLabels = "app.kubernetes.io/"

// own reports whether a label or annotation key is Berm's to set.
func own(key string) bool {
	return key == LabelManagedBy || under(key, ownDomains[:])
}

// privileged reports whether a key changes how the cluster treats the pod.
func privileged(key string) bool {
	key = strings.ToLower(key)
	if strings.HasPrefix(key, recommendedLabels) {
		return false
	}
	for _, p := range privilegedPrefixes {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return under(key, privilegedDomains[:])
}

// under reports whether key is qualified by one of the domains or a domain below one.
func under(key string, domains []string) bool {
	domain, _, qualified := strings.Cut(strings.ToLower(key), "/")
	if !qualified {
		return false
	}
	for _, d := range domains {
		if domain == d || strings.HasSuffix(domain, "."+d) {
			return true
		}
	}
	return false
}
