package kube

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/bermhq/berm/internal/backend"
)

// hub hands observations to observers. A slow observer gets the latest of each sandbox, with the events of those that it missed.
type hub struct {
	mu        sync.Mutex
	last      map[string]backend.Observation
	observers map[*observer]struct{}
	closed    chan struct{}
	closeOnce sync.Once
}

type observer struct {
	pending map[string]*backend.Observation
	order   []string
	wake    chan struct{}
}

func newHub() *hub {
	return &hub{last: map[string]backend.Observation{}, observers: map[*observer]struct{}{}, closed: make(chan struct{})}
}

func (h *hub) publish(o backend.Observation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last[o.SandboxID] = o
	for w := range h.observers {
		w.add(o)
	}
}

func (h *hub) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.last, id)
	for w := range h.observers {
		delete(w.pending, id)
	}
}

func (h *hub) close() { h.closeOnce.Do(func() { close(h.closed) }) }

func (w *observer) add(o backend.Observation) {
	if old, ok := w.pending[o.SandboxID]; ok {
		o.Events = slices.Concat(old.Events, o.Events)
		*old = o
	} else {
		w.pending[o.SandboxID] = &o
		w.order = append(w.order, o.SandboxID)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// observe yields the last observation of each sandbox, nil, and then what happens.
func (h *hub) observe(ctx context.Context) iter.Seq[*backend.Observation] {
	return func(yield func(*backend.Observation) bool) {
		w := &observer{pending: map[string]*backend.Observation{}, wake: make(chan struct{}, 1)}
		defer h.leave(w)
		for _, o := range append(h.enter(w), nil) {
			if ctx.Err() != nil || !yield(o) {
				return
			}
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-h.closed:
				return
			case <-w.wake:
			}
			for _, o := range h.take(w) {
				if ctx.Err() != nil || !yield(o) {
					return
				}
			}
		}
	}
}

func (h *hub) enter(w *observer) []*backend.Observation {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := make([]*backend.Observation, 0, len(h.last)+1)
	for _, o := range h.last {
		first = append(first, &o)
	}
	h.observers[w] = struct{}{}
	return first
}

func (h *hub) leave(w *observer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.observers, w)
}

func (h *hub) take(w *observer) []*backend.Observation {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*backend.Observation, 0, len(w.order))
	for _, id := range w.order {
		if o, ok := w.pending[id]; ok {
			out = append(out, o)
			delete(w.pending, id)
		}
	}
	w.order = w.order[:0]
	return out
}
