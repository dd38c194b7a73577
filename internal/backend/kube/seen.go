package kube

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// see takes what the cluster says of a pod.
func (b *Backend) see(object any, gone bool) { b.take(object, gone, false) }

// answered takes the answer to the making of a pod. What was seen of it meanwhile is newer.
func (b *Backend) answered(pod any) { b.take(pod, false, true) }

func (b *Backend) take(object any, gone, answer bool) {
	if u, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = u.Obj
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	id := sandboxOf(pod)
	if id == "" {
		return
	}
	b.mu.Lock()
	if b.deleted[string(pod.UID)] || b.closed {
		if gone {
			delete(b.deleted, string(pod.UID))
		}
		b.mu.Unlock()
		return
	}
	s := b.sandboxes[id]
	first := s == nil
	if first && gone {
		b.mu.Unlock()
		return
	}
	if first {
		s = newSandbox(id, pod)
		b.sandboxes[id] = s
	}
	delete(pod.Annotations, AnnotationSubmitted) // The sandbox has it. The pod is ours: trim made it.
	b.mu.Unlock()
	taken, begin := false, false
	s.change(func() {
		begin = s.pod == nil
		// A pod of this name may have been made before; the events of the old one come late.
		if taken = (s.uid == "" || s.uid == string(pod.UID)) && (begin || !answer); taken {
			s.pod, s.gone = pod, gone
		}
	})
	if !taken {
		return
	}
	if gone {
		s.hangUp()
	}
	if pod.Annotations[AnnotationService] != "" && !gone {
		b.watchExposed(pod)
		b.tellAddress(s, exposure{})
	}
	if begin {
		b.publish(s, backend.Observation{Phase: backend.PhaseCreating, At: submittedAt(pod)}, core.Event{Name: "created", At: submittedAt(pod)})
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.closed {
			b.work.Go(func() { b.keep(s) })
		}
	}
	if pod.DeletionTimestamp != nil && mainState(pod).Running != nil {
		at := pod.DeletionTimestamp.Time
		b.publish(s, backend.Observation{Phase: backend.PhaseStopping, At: at}, core.Event{Name: "stopping", At: at, Message: "the pod is being deleted"})
	}
}

func newSandbox(id string, pod *corev1.Pod) *sandbox {
	return &sandbox{
		id: id, namespace: pod.Namespace, name: pod.Name, uid: string(pod.UID), packed: pod.Annotations[AnnotationSubmitted],
		changed: make(chan struct{}),
	}
}
