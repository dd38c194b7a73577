package kube

import (
	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// CheckSpec reports what no cluster would take of a spec, or of a part of one, beyond what its schema says: the pod
// fragment (CheckFragment), metadata that is Berm's own, and namespaces that are Kubernetes' own. All of it comes in one
// Invalid fault. It is meant for the moment at which a profile, an override or zone defaults are written.
func CheckSpec(s *specpb.ProfileSpec) error {
	var p tree.Problems
	if name := s.GetNamespace().GetStaticNamespace(); name != "" {
		if why := badStatic(name); why != "" {
			p.Add(nil, "namespace.static_namespace", "%s", why)
		}
	}
	if prefix := s.GetNamespace().GetNamespacePrefix(); prefix != "" {
		if why := badPrefix(prefix); why != "" {
			p.Add(nil, "namespace.namespace_prefix", "%s", why)
		}
	}
	checkOwn(&p, "pod.metadata.annotations", s.GetPod().GetMetadata().GetAnnotations())
	checkOwn(&p, "pod.metadata.labels", s.GetPod().GetMetadata().GetLabels())
	checkFragment(&p, s.GetPod().GetSpec())
	err := p.Err("the spec makes no pod")
	if err == nil {
		return nil
	}
	return fault.From(err).WithHint("pod.spec is a part of a Kubernetes PodSpec, merged onto the pod that Berm makes")
}
