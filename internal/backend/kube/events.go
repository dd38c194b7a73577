package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/bermhq/berm/internal/core"
)

// component is who events on pods are from.
const component = "berm"

// eventReasons are what Berm does to pods that `kubectl describe pod` tells of, in the spelling of Kubernetes. What its callers do, and
// what goes as planned, is not among them: a sandbox that starts and ends costs the API server no event.
var eventReasons = map[string]string{
	core.EndIdle:             "SandboxIdle",
	core.EndLifetimeExceeded: "SandboxLifetimeExceeded",
	core.EndImageFailed:      "SandboxImageFailed",
	core.EndStartFailed:      "SandboxStartFailed",
}

// podEvents records events on the pods of sandboxes. They are sent aside, by one goroutine, joined where they repeat, and 25 of a pod at
// once at most, then one in five minutes; what does not fit into its queue is dropped. An account that may not write events loses them, and
// nothing else.
type podEvents struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

func newPodEvents(c *cluster) *podEvents {
	b := record.NewBroadcaster()
	b.StartRecordingToSink(eventSink{c})
	return &podEvents{b, b.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: component})}
}

func (e *podEvents) close() { e.broadcaster.Shutdown() }

// note records why Berm ends a sandbox, if it is its own doing.
func (e *podEvents) note(s *sandbox, why, message string) {
	reason, ok := eventReasons[why]
	if !ok {
		return
	}
	kind := corev1.EventTypeWarning
	if why == core.EndIdle || why == core.EndLifetimeExceeded {
		kind = corev1.EventTypeNormal
	}
	pod := &corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: s.namespace, Name: s.name, UID: types.UID(s.uid)}
	e.recorder.Event(pod, kind, reason, core.ClipText(message))
}

// eventSink writes events with the REST client, as the clientset would.
type eventSink struct{ cluster *cluster }

func (s eventSink) send(r *rest.Request) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	out := &corev1.Event{}
	return out, r.Resource("events").Do(ctx).Into(out)
}

func (s eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
	return s.send(s.cluster.core.Post().Namespace(e.Namespace).Body(e))
}

func (s eventSink) Update(e *corev1.Event) (*corev1.Event, error) {
	return s.send(s.cluster.core.Put().Namespace(e.Namespace).Name(e.Name).Body(e))
}

func (s eventSink) Patch(e *corev1.Event, patch []byte) (*corev1.Event, error) {
	return s.send(s.cluster.core.Patch(types.StrategicMergePatchType).Namespace(e.Namespace).Name(e.Name).Body(patch))
}
