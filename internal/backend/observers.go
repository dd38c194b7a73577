package backend

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/bermhq/berm/internal/core"
)

// Observers hands what is observed of a backend's sandboxes to whoever follows them. The zero value is ready, and safe for concurrent use.
//
// Nobody waits for an observer that is slow or stuck. It finds the latest observation of each sandbox with the events of those that it
// missed, see Merge: for each sandbox that the backend has one observation, with core.MaxTimeline events at most.
type Observers struct {
	mu     sync.Mutex
	last   map[string]*Observation
	all    map[*observer]struct{}
	closed bool
}

// observer is one of them, with what it has not taken yet: order names the sandboxes in waiting, each once, by when they came.
type observer struct {
	waiting map[string]*Observation
	order   []string
	wake    chan struct{}
	ended   chan struct{}
}

// Merge returns the observation that stands for both: the later one with the events of the earlier, except that an end is final. Either
// may be nil.
func Merge(earlier, later *Observation) *Observation {
	if earlier == nil {
		return later
	}
	if later == nil || earlier.Phase == PhaseEnded {
		return earlier
	}
	out := *later
	out.Events = core.AppendEvents(earlier.Events, later.Events)
	if out.StartedAt.IsZero() {
		out.StartedAt = earlier.StartedAt
	}
	if out.Submitted == nil {
		out.Submitted = earlier.Submitted
	}
	if out.Service == nil {
		out.Service = earlier.Service
	}
	return &out
}

// Publish makes o the last observation of its sandbox, and returns the one that it keeps, which nobody may change.
func (h *Observers) Publish(o Observation) *Observation {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = map[string]*Observation{}
	}
	h.last[o.SandboxID] = &o
	for w := range h.all {
		w.add(&o)
	}
	return &o
}

// Forget drops a sandbox that is gone.
func (h *Observers) Forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.last, id)
	for w := range h.all {
		if _, ok := w.waiting[id]; ok {
			delete(w.waiting, id)
			w.order = slices.DeleteFunc(w.order, func(k string) bool { return k == id })
		}
	}
}

// Close ends all who observe, and those who come until Open find nothing, not even the end of a first pass.
func (h *Observers) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.all {
		close(w.ended)
		delete(h.all, w)
	}
}

// Open takes Close back.
func (h *Observers) Open() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = false
}

// Observe is what Backend.Observe promises.
func (h *Observers) Observe(ctx context.Context) iter.Seq[*Observation] {
	return func(yield func(*Observation) bool) {
		w := &observer{waiting: map[string]*Observation{}, wake: make(chan struct{}, 1), ended: make(chan struct{})}
		first, ok := h.enter(w)
		if !ok {
			return
		}
		defer h.leave(w)
		for _, o := range first {
			own := *o // One at a time: there may be tens of thousands.
			if ctx.Err() != nil || !yield(&own) {
				return
			}
		}
		if ctx.Err() != nil || !yield(nil) {
			return
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.ended:
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
func (h *Observers) enter(w *observer) ([]*Observation, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, false
	}
	first := slices.Collect(maps.Values(h.last))
	if h.all == nil {
		h.all = map[*observer]struct{}{}
	}
	h.all[w] = struct{}{}
	return first, true
}

func (h *Observers) leave(w *observer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, w)
}

// take returns what waits, in the order of arrival.
func (h *Observers) take(w *observer) []*Observation {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*Observation, len(w.order))
	for i, id := range w.order {
		own := *w.waiting[id]
		out[i] = &own
		delete(w.waiting, id)
	}
	w.order = w.order[:0]
	return out
}

func (w *observer) add(o *Observation) {
	if _, ok := w.waiting[o.SandboxID]; !ok {
		w.order = append(w.order, o.SandboxID)
	}
	w.waiting[o.SandboxID] = Merge(w.waiting[o.SandboxID], o)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
