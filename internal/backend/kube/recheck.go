package kube

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/guard"
)

// Finding is something in a pod that a sandbox does not have by default and that could be turned against the cluster.
type Finding struct {
	// Path is where it stands: "pod.spec.containers[main].securityContext.privileged", "pod.metadata.annotations[KEY]".
	Path string
	// What says what it gives.
	What string
	// Carried is true when the profile, an override or the zone set it, and the runner does not allow them to.
	Carried bool
}

// Carried is what the layers below the request set of the things that Recheck looks for.
type Carried struct {
	paths   map[string]bool
	allowed bool
	// own are those of Berm's init container, whose name no fragment can have.
	own map[string]bool
}

// CarriedBy returns what the profile, the override and the zone carry in this launch. The error is CheckFragment's.
func CarriedBy(in PodInput) (Carried, error) {
	f, err := fragmentOf(in.Spec.GetPod().GetSpec())
	if err != nil {
		return Carried{}, err
	}
	return carriedBy(in, f), nil
}

func carriedBy(in PodInput, f *fragment) Carried {
	c := Carried{paths: map[string]bool{}, allowed: in.Options.AllowPrivileged && in.Privileged, own: map[string]bool{}}
	if in.Options.Network.Guards() {
		c.own[fragmentPath+".initContainers["+InitContainer+"].securityContext.capabilities.add["+string(capNetAdmin)+"]"] = true
	}
	for _, found := range privileges(in.Spec.GetPod().GetMetadata(), f) {
		c.paths[found.Path] = true
	}
	// The resolved annotations include the request's own, which carry nothing.
	for key := range in.Launch.GetPodAnnotations() {
		delete(c.paths, annotationPath(key))
	}
	return c
}

// CheckCarried returns what layers 1 to 3 of a binding carry beyond a plain sandbox, in a fixed order. A runner without
// allow_privileged_profile_annotations is no place for any of it, whatever is asked for, so that the binding is refused and not
// each of its launches. It is meant for the moment at which a binding, or what it is made of, is written.
func CheckCarried(s *specpb.ProfileSpec) []guard.Violation {
	f, err := fragmentOf(s.GetPod().GetSpec())
	if err != nil {
		return []guard.Violation{{Reason: guard.ReasonUnresolvable, Path: fragmentPath, Message: err.Error()}}
	}
	var out []guard.Violation
	for _, found := range privileges(s.GetPod().GetMetadata(), f) {
		out = append(out, guard.Violation{Reason: guard.ReasonUnresolvable, Path: found.Path, Message: found.What})
	}
	return out
}

func privileges(meta *specpb.PodMetadata, f *fragment) []Finding {
	found := metadata(meta.GetLabels(), meta.GetAnnotations())
	if f == nil {
		return found
	}
	spec := *f.spec
	if spec.AutomountServiceAccountToken == nil {
		spec.AutomountServiceAccountToken = new(false)
	}
	return append(found, inspect(&spec)...)
}

// Recheck looks at a finished pod, whoever built it, and returns what it has beyond a plain sandbox, except for what is
// carried and allowed. Nothing that a request says can be carried.
func Recheck(pod *corev1.Pod, carried Carried) []Finding {
	found := append(metadata(pod.Labels, pod.Annotations), inspect(&pod.Spec)...)
	var out []Finding
	for _, f := range found {
		if f.Carried = carried.paths[f.Path]; (!f.Carried || !carried.allowed) && !carried.own[f.Path] {
			out = append(out, f)
		}
	}
	return out
}

// metadata returns the labels and annotations that change how the cluster treats a pod. Berm's own are not among them.
func metadata(labels, annotations map[string]string) []Finding {
	var out []Finding
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if privileged(key) {
			out = append(out, Finding{Path: "pod.metadata.labels[" + key + "]", What: "this label changes how the cluster treats the pod"})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if privileged(key) {
			out = append(out, Finding{Path: annotationPath(key), What: "this annotation changes how the cluster treats the pod"})
		}
	}
	return out
}

func annotationPath(key string) string { return "pod.metadata.annotations[" + key + "]" }
