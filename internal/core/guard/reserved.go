package guard

import "strings"

// reservedDomains are domains, with everything below them, whose labels and annotations mean something to Kubernetes, to Berm, to
// the platform that Berm is compatible with, or to what commonly runs beside them (networks, service meshes, secret injectors).
// Whoever can set them could, for one, join another network or have a sidecar injected.
var reservedDomains = [...]string{
	"kubernetes.io", "k8s.io", "berm.dev", "coreweave.com",
	"cncf.io", "projectcalico.org", "cilium.io", "k8s.ovn.org", "antrea.io", "openshift.io",
	"istio.io", "linkerd.io", "consul.hashicorp.com", "vault.hashicorp.com", "kuma.io", "dapr.io",
	"kyverno.io", "gatekeeper.sh", "kubevirt.io", "nvidia.com", "gvisor.dev",
	"amazonaws.com", "gke.io", "azure.com", "azure.workload.identity",
}

// reservedPrefixes are beginnings of keys that container runtimes read as configuration: hooks, devices, cgroup properties,
// hypervisor settings.
var reservedPrefixes = [...]string{
	"io.kubernetes.", "io.containerd.", "io.katacontainers.", "io.podman.", "io.crun.", "dev.gvisor.", "run.oci.",
	"org.systemd.property.", "org.opencontainers.", "com.docker.", "devices.",
}

// Reserved returns the rule that keeps a label or annotation key from requests, and from profiles on runners that do not allow
// it; "" when none does. This is the one list of such keys.
func Reserved(key string) string {
	key = strings.ToLower(key)
	if domain, _, qualified := strings.Cut(key, "/"); qualified {
		for _, d := range reservedDomains {
			if domain == d || strings.HasSuffix(domain, "."+d) {
				return d + "/"
			}
		}
	}
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(key, p) {
			return p
		}
	}
	return ""
}
