package kube_test

import (
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core/fault"
)

// FuzzFragment: no fragment makes anything panic; what CheckFragment takes, Kubernetes' own decoder takes, so that building
// the pod never ends in an internal error; and what comes out is no more than a plain sandbox.
func FuzzFragment(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `{"hostNetwork":true}`, `{"containers":[{"name":"","env":[{"name":"A","value":"1"}]},{"name":"side","image":"x"}]}`,
		`{"containers":[{}]}`, `{"containers":[null]}`, `{"volumes":[{"name":"v","hostPath":{"path":"/"}}],"$patch":"delete"}`,
		`{"initContainers":[{"name":"a","image":"b","ports":[{"containerPort":1}]}],"tolerations":[{"key":"a","tolerationSeconds":9007199254740993}]}`,
		`{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{}]}}},"overhead":{"cpu":1}}`,
		`{"securityContext":{"runAsUser":1e300},"containers":[{"name":"main","livenessProbe":{"httpGet":{"port":"x"}},"volumeMounts":[{"mountPath":"/a"},{"mountPath":"/a"}]}]}`,
		`{"topologySpreadConstraints":[{"maxSkew":1}],"hostAliases":[{}],"imagePullSecrets":[{}],"containers":[{"name":"main","ports":[{}]}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var object map[string]any
		if json.Unmarshal(data, &object) != nil {
			return
		}
		fragment, err := structpb.NewStruct(object)
		if err != nil {
			return
		}
		checked := kube.CheckFragment(fragment)
		if checked != nil && !fault.Is(checked, fault.Invalid) {
			t.Fatalf("not the author's fault: %v", checked)
		}
		in := plain()
		image, types := "python:3.11", []string{"cpu.small"}
		in.Spec = &specpb.ProfileSpec{ContainerImage: &image, InstanceTypes: types, Pod: &specpb.Pod{Spec: fragment}}
		pod, err := kube.PodFor(in)
		switch {
		case err != nil && fault.Is(err, fault.Internal):
			t.Fatalf("a checked fragment (%v) ended in %v", checked, err)
		case err != nil:
			return
		case checked != nil:
			t.Fatalf("a pod was made of a fragment that is %v", checked)
		}
		if found := kube.Recheck(pod, kube.Carried{}); len(found) > 0 {
			t.Fatalf("without permission the pod has %v", found)
		}
		if main := pod.Spec.Containers[0]; main.Name != kube.MainContainer || main.Image != image {
			t.Fatalf("the main container is %q with image %q", main.Name, main.Image)
		}
	})
}
