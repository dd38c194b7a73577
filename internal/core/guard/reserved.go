package guard

import "strings"

// reservedDomains are domains, with everything below them, whose annotations mean something to Kubernetes, to Berm, to the
// platform that Berm is compatible with, or to what commonly runs beside them (networks, service meshes, secret injectors).
// A request that could set them could, for one, join another network or have a sidecar injected.
var reservedDomains = [...]string{
	"kubernetes.io", "k8s.io", "berm.dev", "coreweave.com",
	"cncf.io", "projectcalico.org", "cilium.io", "k8s.ovn.org", "antrea.io", "openshift.io",
	"istio.io", "linkerd.io", "consul.hashicorp.com", "vault.hashicorp.com", "kuma.io", "dapr.io",
	"kyverno.io", "gatekeeper.sh", "kubevirt.io", "nvidia.com", "gvisor.dev",
	"amazonaws.com", "gke.io", "azure.com",
}

// reservedPrefixes are beginnings of keys that container runtimes read as configuration: hooks, devices, cgroup properties,
// hypervisor settings.
var reservedPrefixes = [...]string{
	"io.kubernetes.", "io.containerd.", "io.katacontainers.", "io.podman.", "io.crun.", "dev.gvisor.", "run.oci.",
	"org.systemd.property.", "org.opencontainers.", "com.docker.", "devices.",
}

// reserved returns the rule that keeps an annotation key from requests, "" when none does.
func reserved(key string) string {
	domain, _, qualified := strings.Cut(key, "/")
	domain = strings.ToLower(domain)
	if qualified {
		for _, d := range reservedDomains {
			if domain == d || strings.HasSuffix(domain, "."+d) {
				return d + "/"
			}
		}
	}
	lower := strings.ToLower(key)
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(lower, p) {
			return p
		}
	}
	return ""
}
