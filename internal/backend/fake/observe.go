package fake

import (
	"context"
	"iter"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// watcher holds what one observer has not seen yet: at most one observation per sandbox, so it is bounded by their number.
type watcher struct {
	pending map[string]*backend.Observation
	order   []string
	wake    chan struct{}
	closed  chan struct{}
	done    bool
}

func (w *watcher) close() {
	if !w.done {
		w.done = true
		close(w.closed)
	}
}

// add queues o, replacing an older observation of the sandbox but keeping its events.
func (w *watcher) add(o backend.Observation) {
	if old, ok := w.pending[o.SandboxID]; ok {
		o.Events = append(append([]core.Event(nil), old.Events...), o.Events...)
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

// take returns what is queued, in the order of arrival. Backend.mu is held.
func (w *watcher) take() []*backend.Observation {
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

// publish completes o, makes it the sandbox's last observation and hands it to the observers.
func (b *Backend) publish(s *sandbox, o backend.Observation) {
	o.SandboxID = s.work.SandboxID
	o.At = b.cfg.Now()
	if o.StartedAt.IsZero() {
		o.StartedAt = s.last.StartedAt
	}
	o.Submitted = s.submitted
	s.last = o
	for w := range b.watchers {
		w.add(o)
	}
}

// retract drops what is queued of a sandbox that is gone.
func (b *Backend) retract(id string) {
	for w := range b.watchers {
		delete(w.pending, id)
	}
}

// Observe yields the last observation of every sandbox, nil, and then what happens, until ctx ends, Close is called or
// the backend becomes unreachable.
func (b *Backend) Observe(ctx context.Context) iter.Seq[*backend.Observation] {
	return func(yield func(*backend.Observation) bool) {
		w := &watcher{pending: map[string]*backend.Observation{}, wake: make(chan struct{}, 1), closed: make(chan struct{})}
		first, ok := b.watch(w)
		if !ok {
			return
		}
		defer b.locked(func() { delete(b.watchers, w) })
		for _, o := range append(first, nil) {
			if ctx.Err() != nil || !yield(o) {
				return
			}
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.closed:
				return
			case <-w.wake:
			}
			var batch []*backend.Observation
			b.locked(func() { batch = w.take() })
			for _, o := range batch {
				if ctx.Err() != nil || !yield(o) {
					return
				}
			}
		}
	}
}

// watch registers w and returns the first pass.
func (b *Backend) watch(w *watcher) ([]*backend.Observation, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.reachable() != nil {
		return nil, false
	}
	first := make([]*backend.Observation, 0, len(b.sandboxes)+1)
	for _, s := range b.sandboxes {
		o := s.last
		first = append(first, &o)
	}
	b.watchers[w] = struct{}{}
	return first, true
}
