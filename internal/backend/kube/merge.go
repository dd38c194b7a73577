package kube

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"google.golang.org/protobuf/types/known/structpb"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// fragment is a profile's pod fragment, checked and decoded once for all that look at it.
type fragment struct {
	// patch is what is merged, spec the same in Kubernetes' types.
	patch map[string]any
	spec  *corev1.PodSpec
}

// fragmentOf decodes a fragment; nil without one. Its faults are CheckFragment's.
func fragmentOf(s *structpb.Struct) (*fragment, error) {
	if len(s.GetFields()) == 0 {
		return nil, nil
	}
	if err := CheckFragment(s); err != nil {
		return nil, err
	}
	patch := patchOf(s)
	spec, err := podSpec(patch)
	if err != nil {
		return nil, fault.Internalf(err, "decoding the pod fragment")
	}
	return &fragment{patch: patch, spec: spec}, nil
}

// merge strategic-merges the fragment onto the generated pod, once: containers by name, environment by name, mounts by
// path, volumes by name; other lists, tolerations for one, are the fragment's. What the request and the fragment both set
// is refused, since one of them would silently lose.
func merge(pod *corev1.PodSpec, f *fragment) error {
	if f == nil {
		return nil
	}
	if err := checkOverlap(&pod.Containers[0], f.spec); err != nil {
		return err
	}
	base, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		return fault.Internalf(err, "encoding the generated pod")
	}
	merged, err := strategicpatch.StrategicMergeMapPatch(base, f.patch, corev1.PodSpec{})
	if err != nil {
		return fault.Internalf(err, "merging the pod fragment")
	}
	out, err := podSpec(merged)
	if err != nil {
		return fault.Internalf(err, "decoding the merged pod")
	}
	// The merge puts the fragment's containers first. People and tools take the first one for the one that matters.
	slices.SortStableFunc(out.Containers, func(a, b corev1.Container) int {
		return cmp.Compare(rank(a.Name), rank(b.Name))
	})
	*pod = *out
	return nil
}

func rank(container string) int {
	if container == MainContainer {
		return 0
	}
	return 1
}

// podSpec decodes strictly, so that nothing of a fragment or a merge is lost on the way.
func podSpec(object map[string]any) (*corev1.PodSpec, error) {
	out := &corev1.PodSpec{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object, out, true); err != nil {
		return nil, err
	}
	return out, nil
}

// patchOf returns a checked fragment as a patch: the main container under its name, keys that were cleared left out.
func patchOf(s *structpb.Struct) map[string]any {
	patch := s.AsMap()
	maps.DeleteFunc(patch, func(_ string, v any) bool { return v == nil })
	list, _ := patch["containers"].([]any)
	for _, item := range list {
		if c, ok := item.(map[string]any); ok {
			if name, _ := c["name"].(string); isMain(name) {
				c["name"] = MainContainer
			}
		}
	}
	return patch
}

// checkOverlap refuses variables, ports and paths of the request that the fragment sets for the main container too.
func checkOverlap(main *corev1.Container, fragment *corev1.PodSpec) error {
	var p tree.Problems
	for i := range fragment.Containers {
		if fragment.Containers[i].Name == MainContainer {
			overlap(&p, main, &fragment.Containers[i])
		}
	}
	err := p.Err("the request sets what its profile's pod fragment sets too")
	if err == nil {
		return nil
	}
	return fault.From(err).WithHint("leave it out of the request, or choose another profile")
}

func overlap(p *tree.Problems, main, fragment *corev1.Container) {
	env, ports, paths := map[string]bool{}, map[int32]bool{}, map[string]bool{}
	for _, e := range fragment.Env {
		env[e.Name] = true
	}
	for _, port := range fragment.Ports {
		ports[port.ContainerPort] = true
	}
	for _, m := range fragment.VolumeMounts {
		paths[m.MountPath] = true
	}
	for _, e := range main.Env {
		if env[e.Name] && e.ValueFrom != nil {
			p.Add(nil, "secret_stores", "%s is set by the profile", e.Name)
		} else if env[e.Name] {
			p.Add(nil, "environment_variables["+e.Name+"]", "is set by the profile")
		}
	}
	for i, port := range main.Ports {
		if ports[port.ContainerPort] {
			p.Add(nil, "ports["+strconv.Itoa(i)+"].container_port", "%d is declared by the profile", port.ContainerPort)
		}
	}
	for i, m := range main.VolumeMounts {
		if paths[m.MountPath] {
			p.Add(nil, "mounted_files["+strconv.Itoa(i)+"].mount_path", "the profile mounts a volume at %q", m.MountPath)
		}
	}
}
