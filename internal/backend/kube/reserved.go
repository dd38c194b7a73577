package kube

import (
	"strings"

	"github.com/bermhq/berm/internal/core/guard"
)

// ownDomains hold what says whose a pod is. Only Berm writes there.
var ownDomains = [...]string{"berm.dev", "sandbox.coreweave.com"}

// recommendedLabels are Kubernetes' labels for people, which nothing acts on.
const recommendedLabels = "app.kubernetes.io/"

// own reports whether a label or annotation key is Berm's to set.
func own(key string) bool {
	if key == LabelManagedBy {
		return true
	}
	domain, _, qualified := strings.Cut(strings.ToLower(key), "/")
	for _, d := range ownDomains {
		if qualified && (domain == d || strings.HasSuffix(domain, "."+d)) {
			return true
		}
	}
	return false
}

// privileged reports whether a key, not Berm's own, changes how the cluster treats the pod: its kernel confinement, its
// networks, its eviction, what is injected into it.
func privileged(key string) bool {
	return guard.Reserved(key) != "" && !own(key) && !strings.HasPrefix(strings.ToLower(key), recommendedLabels)
}
