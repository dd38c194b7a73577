package kube

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/shim/podwire"
	"github.com/bermhq/berm/internal/shim/wire"
)

// TestEnding holds what is said of each end against what was seen of it.
func TestEnding(t *testing.T) {
	began := time.Date(2026, 11, 28, 10, 0, 0, 500, time.UTC)
	terminated := func(code int32, reason string) *corev1.ContainerStateTerminated {
		return &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, FinishedAt: metav1.NewTime(began.Truncate(time.Second))}
	}
	pod := func(t *corev1.ContainerStateTerminated, phase corev1.PodPhase, reason string) *corev1.Pod {
		p := &corev1.Pod{}
		p.Status.Phase, p.Status.Reason = phase, reason
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: MainContainer, State: corev1.ContainerState{Terminated: t}}}
		return p
	}
	deleted := pod(nil, corev1.PodRunning, "")
	deleted.DeletionTimestamp = &metav1.Time{Time: began}
	started := &podwire.Journal{Key: make([]byte, 32), StartedAt: began}
	exit := func(code int32, signal int) *podwire.End {
		return &podwire.End{At: began.Add(time.Second), Exit: &wire.Exit{Code: code, Signal: signal}}
	}
	for name, tt := range map[string]struct {
		evidence
		failed bool
		reason string
		code   int32 // -1 for none
	}{
		"the init told":                         {evidence{pod: pod(nil, corev1.PodRunning, ""), journal: started, end: exit(7, 0)}, false, core.EndExited, 7},
		"the node told":                         {evidence{pod: pod(terminated(7, "Error"), corev1.PodFailed, ""), journal: started}, false, core.EndExited, 7},
		"stopped":                               {evidence{pod: pod(nil, corev1.PodRunning, ""), journal: started, end: exit(143, 15), why: core.EndIdle}, false, core.EndIdle, 143},
		"idle and stopped":                      {evidence{pod: pod(nil, corev1.PodRunning, ""), journal: started, end: &podwire.End{At: began}, why: core.EndStopped}, false, core.EndStopped, -1},
		"out of memory":                         {evidence{pod: pod(terminated(137, "OOMKilled"), corev1.PodFailed, ""), journal: started, end: exit(137, 9)}, true, core.EndOutOfMemory, 137},
		"a child ran out of memory, it went on": {evidence{pod: pod(terminated(0, "OOMKilled"), corev1.PodSucceeded, ""), journal: started, end: exit(0, 0)}, false, core.EndExited, 0},
		"process 1 was killed from outside":     {evidence{pod: pod(terminated(137, "Error"), corev1.PodFailed, ""), journal: started}, true, core.EndKilled, 137},
		"killed by itself":                      {evidence{pod: pod(terminated(137, "Error"), corev1.PodFailed, ""), journal: started, end: exit(137, 9)}, false, core.EndExited, 137},
		"evicted":                               {evidence{pod: pod(terminated(143, "Error"), corev1.PodFailed, "Evicted"), journal: started}, true, core.EndKilled, 143},
		"its deadline":                          {evidence{pod: pod(terminated(143, "Error"), corev1.PodFailed, "DeadlineExceeded"), journal: started}, false, core.EndLifetimeExceeded, 143},
		"deleted by hand, seen":                 {evidence{pod: deleted, gone: true, journal: started, end: exit(143, 15)}, true, core.EndKilled, 143},
		"gone, not seen":                        {evidence{pod: pod(nil, corev1.PodRunning, ""), gone: true, journal: started}, true, core.EndLost, -1},
		"lost by its node":                      {evidence{pod: pod(terminated(137, "ContainerStatusUnknown"), corev1.PodFailed, ""), journal: started}, true, core.EndLost, -1},
		"no such program":                       {evidence{pod: pod(terminated(127, "Error"), corev1.PodFailed, ""), journal: &podwire.Journal{Failed: &wire.Error{Message: "x"}}}, true, core.EndStartFailed, -1},
		"127 of its own":                        {evidence{pod: pod(terminated(127, "Error"), corev1.PodFailed, ""), journal: started}, false, core.EndExited, 127},
		"127 of nobody knows whom":              {evidence{pod: pod(terminated(127, "Error"), corev1.PodFailed, "")}, true, core.EndLost, -1},
		"the init cannot run":                   {evidence{pod: pod(terminated(128, "StartError"), corev1.PodFailed, "")}, true, core.EndStartFailed, -1},
		"the init ended early":                  {evidence{pod: pod(terminated(1, "Error"), corev1.PodFailed, ""), journal: &podwire.Journal{}}, true, core.EndStartFailed, -1},
	} {
		o := ending(tt.evidence)
		code := int32(-1)
		if o.ExitCode != nil {
			code = *o.ExitCode
		}
		if o.Failed != tt.failed || o.Reason != tt.reason || code != tt.code {
			t.Errorf("%s: failed %v, %s, code %d (%s); want %v, %s, %d", name, o.Failed, o.Reason, code, o.Message, tt.failed, tt.reason, tt.code)
		}
		if o.Failed && o.Message == "" || o.At.Before(o.StartedAt) {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestHindrance(t *testing.T) {
	p := patience{schedule: time.Minute, stuck: time.Second}
	waiting := func(reason string) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{Name: MainContainer, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "m"}}}}
	}
	failedInit := []corev1.ContainerStatus{{Name: InitContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}}}}
	for name, tt := range map[string]struct {
		status corev1.PodStatus
		reason string
		after  time.Duration
	}{
		"on its way":        {corev1.PodStatus{ContainerStatuses: waiting("ContainerCreating")}, "", 0},
		"no image":          {corev1.PodStatus{ContainerStatuses: waiting("ImagePullBackOff")}, core.EndImageFailed, 0},
		"the first try":     {corev1.PodStatus{ContainerStatuses: waiting("ErrImagePull")}, core.EndImageFailed, time.Second},
		"no container":      {corev1.PodStatus{ContainerStatuses: waiting("CreateContainerError")}, core.EndStartFailed, time.Second},
		"no init":           {corev1.PodStatus{Phase: corev1.PodFailed, InitContainerStatuses: failedInit}, core.EndStartFailed, 0},
		"not admitted":      {corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "m"}, core.EndStartFailed, 0},
		"deadline, no node": {corev1.PodStatus{Phase: corev1.PodFailed, Reason: "DeadlineExceeded"}, core.EndLifetimeExceeded, 0},
		"no node": {corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable},
		}}, core.EndStartFailed, time.Minute},
		"no pod sandbox": {corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse},
		}}, core.EndStartFailed, time.Second},
	} {
		o := p.hindrance(&corev1.Pod{Status: tt.status})
		switch {
		case o == nil && tt.reason != "", o != nil && (o.reason != tt.reason || o.after != tt.after || o.message == ""):
			t.Errorf("%s: %+v, want %s after %v", name, o, tt.reason, tt.after)
		}
	}
}

// TestMountedInit: a main container that waits for the image of the init is no matter of its own image.
func TestMountedInit(t *testing.T) {
	waiting := func(image string) *corev1.Pod {
		message := "Back-off pulling image \"" + image + "\": no such host"
		return &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: MainContainer, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: message}},
		}}}}
	}
	for _, tt := range []struct {
		mounted, waits string
		init           bool
	}{{"r/berm:1", "r/berm:1", true}, {"r/berm:1", "r/berm:10", false}, {"r/berm:1", "python", false}, {"", "r/berm:1", false}} {
		o := patience{mounted: tt.mounted}.hindrance(waiting(tt.waits))
		if o == nil || o.init != tt.init || strings.HasPrefix(o.message, "Berm's init") != tt.init || o.reason != core.EndImageFailed {
			t.Errorf("%+v: %+v", tt, o)
		}
	}
}
