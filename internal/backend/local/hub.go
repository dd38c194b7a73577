package local

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/bermhq/berm/internal/backend"
)

// hub hands observations to observers. An observer that is slow gets the latest observation of each sandbox, with the
// events of those that it missed: what waits for it is bounded by the number of sandboxes.
type hub struct {
	mu        sync.Mutex
	last      map[string]backend.Observation
	observers map[*observer]struct{}
	closed    chan struct{}
	isClosed  bool
}

type observer struct {
	pending map[string]*backend.Observation
	order   []string
	wake    chan struct{}
}

func newHub() *hub {
	return &hub{last: map[string]backend.Observation{}, observers: map[*observer]struct{}{}, closed: make(chan struct{})}
}

// publish makes o the last observation of its sandbox.
func (h *hub) publish(o backend.Observation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last[o.SandboxID] = o
	for w := range h.observers {
		w.add(o)
	}
}

// forget drops a sandbox that is gone.
func (h *hub) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.last, id)
	for w := range h.observers {
		delete(w.pending, id)
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isClosed {
		h.isClosed = true
		close(h.closed)
	}
}

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
		first, ok := h.enter(w)
		if !ok {
			return
		}
		defer h.leave(w)
		for _, o := range append(first, nil) {
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

// enter registers an observer and returns its first pass.
func (h *hub) enter(w *observer) ([]*backend.Observation, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isClosed {
		return nil, false
	}
	first := make([]*backend.Observation, 0, len(h.last)+1)
	for _, o := range h.last {
		first = append(first, &o)
	}
	h.observers[w] = struct{}{}
	return first, true
}

func (h *hub) leave(w *observer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.observers, w)
}

// take returns what waits, in the order of arrival.
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
