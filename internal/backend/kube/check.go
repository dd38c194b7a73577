package kube

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/structpb"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// checkSelectors refuses a layer that wants two values of one node label: whatever lies above or below it, it says nothing.
func checkSelectors(p *tree.Problems, selector map[string]string, fragment *structpb.Struct) {
	other := fragment.GetFields()["nodeSelector"].GetStructValue().GetFields()
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		if v, ok := other[key].GetKind().(*structpb.Value_StringValue); ok && v.StringValue != selector[key] {
			p.Add(nil, "node_selector["+key+"]", "is %q here and %q in pod.spec.nodeSelector: no node has both", selector[key], v.StringValue)
		}
	}
}

// CheckSpec reports what no cluster would take of a spec, or of a part of one, beyond what its schema says: the pod
// fragment (CheckFragment), node labels with two values, metadata that is Berm's own, routes that contradict themselves, and namespaces that are Kubernetes' own. All of it comes in one
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
	checkNamespaceLabels(&p, s.GetNamespace().GetLabels())
	checkOwn(&p, "pod.metadata.annotations", s.GetPod().GetMetadata().GetAnnotations())
	checkOwn(&p, "pod.metadata.labels", s.GetPod().GetMetadata().GetLabels())
	checkRoutes(&p, s.GetNetwork().GetIngress().GetModes())
	checkFragment(&p, s.GetPod().GetSpec())
	checkSelectors(&p, s.GetNodeSelector(), s.GetPod().GetSpec())
	err := p.Err("the spec makes no pod")
	if err == nil {
		return nil
	}
	return fault.From(err).WithHint("pod.spec is a part of a Kubernetes PodSpec, merged onto the pod that Berm makes")
}
