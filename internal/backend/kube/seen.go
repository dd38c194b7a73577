package kube

import (
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// take takes what the cluster says of a pod.
func (b *Backend) take(g *sighting, gone bool) { b.learn(g, gone, false) }

// answered takes the answer to the making of a pod. What was seen of it meanwhile is newer.
func (b *Backend) answered(g *sighting) { b.learn(g, false, true) }

func (b *Backend) learn(g *sighting, gone, answer bool) {
	if g.id == "" {
		return
	}
	s := b.whose(g, gone, answer)
	if s == nil {
		return
	}
	pod := g.pod()
	taken, begin := false, false
	s.change(func() {
		begin = s.state == ""
		// A pod of this name may have been made before; the events of the old one come late.
		if taken = (s.uid == "" || s.uid == g.uid) && (begin || !answer); taken {
			s.state, s.gone, s.routed = g.state, gone, pod.Annotations[AnnotationHTTPRoute] != ""
			s.listed, s.settled = s.listed || !answer, s.settled || begin && g.found
		}
	})
	if !taken {
		return
	}
	if gone {
		b.wentAway(s)
	}
	if pod.Annotations[AnnotationService] != "" && !gone {
		b.watchExposed(pod)
		b.tellAddress(s, exposure{})
	}
	if begin {
		at := g.submittedAt
		b.publish(s, backend.Observation{Phase: backend.PhaseCreating, At: at}, core.Event{Name: "created", At: at})
	}
	main := mainState(pod)
	over := gone || main.Terminated != nil
	b.rota.wake(s, begin && (over || main.Running != nil), over && !begin) // What runs at first sight, or has ended, is there since an earlier runner.
	if pod.DeletionTimestamp != nil && main.Running != nil {
		at := pod.DeletionTimestamp.Time
		b.publish(s, backend.Observation{Phase: backend.PhaseStopping, At: at}, core.Event{Name: "stopping", At: at, Message: "the pod is being deleted"})
	}
}

// whose returns the sandbox of a pod, which is new unless it is known; nil for one that nothing is to be learned of.
func (b *Backend) whose(g *sighting, gone, answer bool) *sandbox {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, deleted := b.deleted[g.uid]; deleted || b.closed {
		if deleted && gone {
			delete(b.deleted, g.uid)
		} else if deleted && !answer {
			b.deleted[g.uid] = true
		}
		return nil
	}
	s := b.sandboxes[g.id]
	if s == nil && !gone {
		s = &sandbox{id: g.id, namespace: g.namespace, name: g.name, uid: g.uid, submitted: g.submitted}
		b.sandboxes[s.id] = s
	}
	return s
}

// missed returns the sandboxes whose pods were seen before, and are not among those that there are.
func (b *Backend) missed(there map[string]bool) []*sandbox {
	b.mu.Lock()
	defer b.mu.Unlock()
	for uid, listed := range b.deleted {
		if listed && !there[uid] {
			delete(b.deleted, uid)
		}
	}
	var out []*sandbox
	for _, s := range b.sandboxes {
		s.mu.Lock()
		if s.listed && !s.gone && !there[s.uid] {
			out = append(out, s)
		}
		s.mu.Unlock()
	}
	return out
}

// lose notes that the pod of a sandbox is gone, which nobody saw go.
func (b *Backend) lose(s *sandbox) {
	s.change(func() { s.gone = true })
	b.wentAway(s)
	b.rota.wake(s, false, true)
}

// wentAway follows the news that a pod is gone. Nothing more is told of it, so that one that was deleted just now need not be remembered.
func (b *Backend) wentAway(s *sandbox) {
	b.mu.Lock()
	delete(b.deleted, s.uid)
	b.mu.Unlock()
	s.hangUp()
}
