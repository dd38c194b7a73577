package kube

import (
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/shim/podwire"
)

// evidence is all that is known of an end.
type evidence struct {
	// pod is the last that was seen of it; gone says that the cluster has it no more.
	pod  *corev1.Pod
	gone bool
	// journal is what the init wrote, nil when it could not be read; end how the sandbox ended, as the init told over its connection
	// or in its journal.
	journal *podwire.Journal
	end     *podwire.End
	// why is the reason of the stop that was asked for, "" for none.
	why string
	// now is used where nobody wrote down when.
	now time.Time
}

// ending says in the port's words how a sandbox ended. It is pure. There is an exit code only if the node or the init saw one.
func ending(e evidence) backend.Observation {
	o := backend.Observation{Phase: backend.PhaseEnded, At: e.now, Reason: core.EndExited}
	t := mainState(e.pod).Terminated
	if e.journal != nil {
		o.StartedAt = e.journal.StartedAt
	}
	switch {
	case e.end != nil:
		o.At = e.end.At
	case t != nil && !t.FinishedAt.IsZero():
		o.At = t.FinishedAt.Time
	}
	if o.StartedAt.IsZero() && t != nil && e.journal == nil {
		o.StartedAt = t.StartedAt.Time
	}
	if o.At.Before(o.StartedAt) { // The node writes whole seconds.
		o.At = o.StartedAt
	}
	switch {
	case e.journal != nil && e.journal.Failed != nil:
		o.Failed, o.Reason, o.Message = true, core.EndStartFailed, e.journal.Failed.Message
		return o
	case t != nil && e.journal == nil && (t.Reason == "StartError" || t.Reason == "ContainerCannotRun"):
		o.Failed, o.Reason, o.Message = true, core.EndStartFailed, "Berm's init could not be started: "+terminatedText(t)
		return o
	case t != nil && e.journal != nil && e.journal.StartedAt.IsZero():
		o.Failed, o.Reason, o.Message = true, core.EndStartFailed, "Berm's init ended before it had started anything: "+terminatedText(t)
		return o
	}
	o.ExitCode = exitCode(e, t)
	return because(o, e, t)
}

// exitCode returns the code that was seen. A sandbox without a main process has none.
func exitCode(e evidence, t *corev1.ContainerStateTerminated) *int32 {
	switch {
	case e.end != nil && e.end.Exit != nil:
		return new(e.end.Exit.Code)
	case e.end != nil:
		return nil
	case t == nil || t.Reason == "ContainerStatusUnknown":
		return nil
	case t.ExitCode == initNoMain && e.journal == nil:
		return nil // Of the main process, or of an init that could not start it: nobody can tell any more.
	default:
		return new(t.ExitCode)
	}
}

// initNoMain is what an init ends with that could not start the main process.
const initNoMain = 127

// because adds why it ended.
func because(o backend.Observation, e evidence, t *corev1.ContainerStateTerminated) backend.Observation {
	killed := o.ExitCode != nil && *o.ExitCode == 128+int32(syscall.SIGKILL)
	switch {
	case t != nil && t.Reason == "OOMKilled" && killed:
		o.Failed, o.Reason, o.Message = true, core.EndOutOfMemory, "the kernel ended it at its memory limit"
	case e.why != "":
		o.Reason = e.why
	case e.pod.Status.Reason == "DeadlineExceeded":
		o.Reason = core.EndLifetimeExceeded
	case e.pod.Status.Phase == corev1.PodFailed && e.pod.Status.Reason != "":
		o.Failed, o.Reason = true, core.EndKilled
		o.Message = strings.TrimSpace("the cluster ended the pod: " + e.pod.Status.Reason + ": " + e.pod.Status.Message)
	case e.gone && e.end == nil && t == nil:
		o.Failed, o.Reason, o.ExitCode = true, core.EndLost, nil
		o.Message = "the pod is gone, and nobody saw its end"
	case e.gone || e.pod.DeletionTimestamp != nil:
		o.Failed, o.Reason, o.Message = true, core.EndKilled, "somebody else deleted the pod"
	case t != nil && t.Reason == "ContainerStatusUnknown":
		o.Failed, o.Reason, o.Message = true, core.EndLost, "the node lost the container: "+terminatedText(t)
	case e.end == nil && killed:
		o.Failed, o.Reason, o.Message = true, core.EndKilled, "something on the node killed its process 1"
	case e.end == nil && o.ExitCode == nil:
		o.Failed, o.Reason, o.Message = true, core.EndLost, "nobody saw its end"
	}
	return o
}
