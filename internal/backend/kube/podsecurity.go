package kube

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// levelLabel is the label of a namespace by which Kubernetes holds its pods to a Pod Security level.
const levelLabel = "pod-security.kubernetes.io/enforce"

const levelPath = "namespace.pod_security"

// Pod Security levels, from the one that allows most.
const (
	levelPrivileged = "privileged"
	levelBaseline   = "baseline"
	levelRestricted = "restricted"
)

var levels = []string{levelPrivileged, levelBaseline, levelRestricted} //nolint:gochecknoglobals // a constant

// restrict fills in what level restricted demands where the fragment left a choice open.
func restrict(pod *corev1.PodSpec, level string) {
	if level != levelRestricted {
		return
	}
	if pod.SecurityContext.RunAsNonRoot == nil {
		pod.SecurityContext.RunAsNonRoot = new(true)
	}
	for _, all := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for i := range all {
			s := all[i].SecurityContext
			if s.Capabilities == nil {
				s.Capabilities = &corev1.Capabilities{}
			}
			if s.Capabilities.Drop == nil {
				s.Capabilities.Drop = []corev1.Capability{"ALL"}
			}
		}
	}
}

// checkLevel refuses a level that this runner cannot keep, and one that takes the word of the cluster's owner. What a level says of a pod
// is for the API server to judge, which knows the level's newest meaning and the cluster's exemptions.
func checkLevel(pod *corev1.PodSpec, in PodInput) error {
	level := in.Spec.GetNamespace().GetPodSecurity()
	switch {
	case level == "":
		return nil
	case !slices.Contains(levels, level):
		return invalidNamespace(levelPath, "%s", tree.NoneOf(level, levels))
	case level == levelPrivileged:
		return checkPrivilegedLevel(in)
	case guarded(pod):
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "the pod does not keep to the Pod Security level of its namespace").
			WithField(levelPath, "%s forbids NET_ADMIN, with which the init container writes the rules of the egress mode", level).
			WithHint("leave the level out, or run it where --kube-network is policies")
	}
	return nil
}

// guarded reports whether the init container writes rules for the pod's network.
func guarded(pod *corev1.PodSpec) bool {
	return slices.ContainsFunc(pod.InitContainers, func(c corev1.Container) bool {
		return c.Name == InitContainer && c.SecurityContext.Capabilities != nil && slices.Contains(c.SecurityContext.Capabilities.Add, capNetAdmin)
	})
}

// checkPrivilegedLevel: it may open what the cluster closes by default, so that a profile alone does not choose it. Where pods are held to
// their modes from within, the owner of the cluster has chosen what needs it.
func checkPrivilegedLevel(in PodInput) error {
	if in.Options.Network.Guards() || in.Options.AllowPrivileged && in.Privileged {
		return nil
	}
	return fault.Preconditionf(fault.ReasonGuardrailViolated, "the namespace would allow what those of sandboxes do not").
		WithField(levelPath, "privileged: %s does not allow it", unwilling(in)).
		WithHint("remove it from the profile; else it takes two: allow_privileged_profile_annotations of the runner, and --kube-allow-privileged where the runner is started")
}

// weaker reports whether a namespace of level held allows more than want; held may be "", which says nothing.
func weaker(held, want string) bool { return slices.Index(levels, held) < slices.Index(levels, want) }
