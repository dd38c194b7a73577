package kube

import (
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/bermhq/berm/internal/core"
)

// AnnotationSubmitted holds what was submitted of a pod, without values of the request, compressed: what `berm explain` shows, also
// when the runner was started anew.
const AnnotationSubmitted = "berm.dev/submitted"

// AnnotationSubmittedAt is when: Kubernetes' own time has whole seconds.
const AnnotationSubmittedAt = "berm.dev/submitted-at"

// AnnotationTrace names the span in which the pod was submitted, where tracing is on, for whatever in the cluster adds to the trace.
const AnnotationTrace = "berm.dev/traceparent"

// submittedAt returns when a pod was submitted.
func submittedAt(pod *corev1.Pod) time.Time {
	if at, err := time.Parse(time.RFC3339Nano, pod.Annotations[AnnotationSubmittedAt]); err == nil {
		return at
	}
	return pod.CreationTimestamp.Time
}

// trim keeps of a pod what is looked at again. Its names, its id and its times are elsewhere.
func trim(pod *corev1.Pod) *corev1.Pod {
	out := &corev1.Pod{}
	out.DeletionTimestamp = pod.DeletionTimestamp
	out.Annotations = keep(pod.Annotations, AnnotationPolicy, AnnotationService, AnnotationRoute, AnnotationHTTPRoute, AnnotationIngress)
	if hasSecret(pod) {
		out.Spec.Volumes = []corev1.Volume{{Name: filesVolume}}
	}
	s := &pod.Status
	out.Status = corev1.PodStatus{Phase: s.Phase, Reason: s.Reason, Message: s.Message, PodIP: s.PodIP, HostIP: s.HostIP}
	for i := range s.Conditions {
		if c := &s.Conditions[i]; c.Status == corev1.ConditionFalse && (c.Type == corev1.PodScheduled || c.Type == corev1.PodReadyToStartContainers) {
			out.Status.Conditions = append(out.Status.Conditions, corev1.PodCondition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message})
		}
	}
	for i := range s.ContainerStatuses {
		if c := &s.ContainerStatuses[i]; c.Name == MainContainer {
			out.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: c.Name, State: c.State}}
		}
	}
	for i := range s.InitContainerStatuses {
		c := &s.InitContainerStatuses[i]
		out.Status.InitContainerStatuses = append(out.Status.InitContainerStatuses, corev1.ContainerStatus{Name: c.Name, State: c.State})
	}
	return out
}

// hasSecret reports whether a pod has a Secret of its own, which is deleted with it: mounted, or read by the main container, or both. It is
// also true of a trimmed pod.
func hasSecret(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == filesVolume {
			return true
		}
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		for j := range c.Env {
			from := c.Env[j].ValueFrom
			if c.Name == MainContainer && from != nil && from.SecretKeyRef != nil && from.SecretKeyRef.Name == pod.Name+filesSuffix {
				return true
			}
		}
	}
	return false
}

func keep(from map[string]string, keys ...string) map[string]string {
	out := map[string]string{}
	for _, k := range keys {
		if v, ok := from[k]; ok {
			out[k] = v
		}
	}
	return out
}

// sandboxOf returns the id of the sandbox that a pod is of.
func sandboxOf(pod *corev1.Pod) string {
	if id := pod.Annotations[LabelSandbox]; id != "" {
		return id
	}
	return pod.Labels[LabelSandbox]
}

// mainState returns the state of the main container.
func mainState(pod *corev1.Pod) corev1.ContainerState {
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].Name == MainContainer {
			return pod.Status.ContainerStatuses[i].State
		}
	}
	return corev1.ContainerState{}
}

// obstacle is what keeps a pod from starting.
type obstacle struct {
	// reason is one of core.End…, message says more.
	reason, message string
	// after is how long it may last, 0 for not at all.
	after time.Duration
	// init: it is about Berm's init, and no matter of this pod alone.
	init bool
}

// patience is how long obstacles may last that may go away by themselves, and which image Berm's init is mounted from, if it is.
type patience struct {
	schedule, stuck time.Duration
	mounted         string
}

// Limits of starts.
const (
	// DefaultScheduleTimeout is how long a sandbox may wait for a node, DefaultStuckTimeout how long for what its node makes of it.
	DefaultScheduleTimeout = 5 * time.Minute
	DefaultStuckTimeout    = 2 * time.Minute
)

// hindrance returns what keeps a pod from starting now, nil for nothing, or nothing yet. It is pure.
func (p patience) hindrance(pod *corev1.Pod) *obstacle {
	if mainState(pod).Running != nil {
		return nil
	}
	for i := range pod.Status.InitContainerStatuses {
		c := &pod.Status.InitContainerStatuses[i]
		whose := "init container " + c.Name
		if c.Name == InitContainer {
			whose = "Berm's init"
		}
		if o := p.stuckOn(whose, &c.State); o != nil {
			o.init = c.Name == InitContainer
			return o
		}
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 && pod.Status.Phase == corev1.PodFailed {
			return &obstacle{reason: core.EndStartFailed, message: whose + " failed: " + terminatedText(t)}
		}
	}
	state := mainState(pod)
	whose, init := "the sandbox", p.waitsForInit(&state)
	if init {
		whose = "Berm's init"
	}
	if o := p.stuckOn(whose, &state); o != nil {
		o.init = init
		return o
	}
	if pod.Status.Phase == corev1.PodFailed && state.Terminated == nil {
		return failedPod(pod)
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		switch {
		case c.Status != corev1.ConditionFalse:
		case c.Type == corev1.PodReadyToStartContainers:
			return &obstacle{reason: core.EndStartFailed, message: "its node does not get the pod ready for containers: the runtime class, the network or a volume (kubectl describe pod says which)", after: p.stuck}
		case c.Reason == corev1.PodReasonUnschedulable:
			return &obstacle{reason: core.EndStartFailed, message: "no node takes the pod: " + c.Message, after: p.schedule}
		}
	}
	return nil
}

// waitsForInit reports whether the main container waits for the image that Berm's init is mounted from. It is pulled for the container,
// so that the message alone says which image is meant.
func (p patience) waitsForInit(s *corev1.ContainerState) bool {
	return p.mounted != "" && s.Waiting != nil && strings.Contains(s.Waiting.Message, strconv.Quote(p.mounted))
}

// failedPod is a pod that the cluster gave up before its main container ran.
func failedPod(pod *corev1.Pod) *obstacle {
	o := &obstacle{reason: core.EndStartFailed, message: strings.TrimSpace(pod.Status.Reason + ": " + pod.Status.Message)}
	if pod.Status.Reason == "DeadlineExceeded" {
		o.reason = core.EndLifetimeExceeded
	}
	return o
}

// stuckOn returns what a container waits for that does not come by itself.
func (p patience) stuckOn(whose string, s *corev1.ContainerState) *obstacle {
	if s.Waiting == nil {
		return nil
	}
	text := whose + ": " + s.Waiting.Reason
	if s.Waiting.Message != "" {
		text += ": " + s.Waiting.Message
	}
	switch s.Waiting.Reason {
	case "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError":
		return &obstacle{reason: core.EndImageFailed, message: text}
	case "ErrImagePull", "RegistryUnavailable":
		return &obstacle{reason: core.EndImageFailed, message: text, after: p.stuck} // It is tried once more, and then backs off.
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError":
		return &obstacle{reason: core.EndStartFailed, message: text, after: p.stuck}
	}
	return nil
}

func terminatedText(t *corev1.ContainerStateTerminated) string {
	text := t.Reason
	if t.Message != "" {
		text += ": " + strings.TrimSpace(t.Message)
	}
	if text == "" {
		text = "it ended"
	}
	return text
}
