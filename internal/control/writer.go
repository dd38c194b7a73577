package control

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

const (
	// maxStatusBatch is how many sandboxes one transaction of the status writer changes.
	maxStatusBatch = 256
	// The status writer tries again after a failed transaction, at first after the shorter of these.
	minStatusRetry = 50 * time.Millisecond
	maxStatusRetry = 5 * time.Second
)

// statusQueue holds what was observed and not yet written: at most one observation per live sandbox, so it is bounded by
// their number.
type statusQueue struct {
	mu      sync.Mutex
	pending map[string]*backend.Observation
	order   []string
	running bool
}

// put adds an observation and reports whether a writer has to be started.
func (q *statusQueue) put(o *backend.Observation) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pending == nil {
		q.pending = map[string]*backend.Observation{}
	}
	if _, ok := q.pending[o.SandboxID]; !ok {
		q.order = append(q.order, o.SandboxID)
	}
	q.pending[o.SandboxID] = backend.Merge(q.pending[o.SandboxID], o)
	start := !q.running
	q.running = true
	return start
}

// take removes a batch. An empty one ends the writer.
func (q *statusQueue) take() []*backend.Observation {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.order), maxStatusBatch)
	batch := make([]*backend.Observation, 0, n)
	for _, id := range q.order[:n] {
		batch = append(batch, q.pending[id])
		delete(q.pending, id)
	}
	q.order = append(q.order[:0], q.order[n:]...)
	q.running = n > 0
	return batch
}

// submit hands an observation to the status writer, the only place that writes statuses: one transaction for all that
// gathered while the one before was committed, so that a burst of starts costs few commits.
func (s *Service) submit(o *backend.Observation) {
	if s.status.put(o) {
		s.tasks.run(s.writeStatuses)
	}
}

func (s *Service) writeStatuses(ctx context.Context) {
	for batch := s.status.take(); len(batch) > 0; batch = s.status.take() {
		if !s.writeBatch(ctx, batch) {
			return
		}
	}
}

// writeBatch writes a batch, for as long as it takes: nothing observed is lost while this process lives, and after it the
// backends are asked again. It reports false when ctx ended.
func (s *Service) writeBatch(ctx context.Context, batch []*backend.Observation) bool {
	for retry := minStatusRetry; ; retry = min(2*retry, maxStatusRetry) {
		failpoint.Hit(fpStatusCommit)
		var done committed
		err := s.used.change(func() (err error) {
			done, err = s.commitStatuses(ctx, batch)
			if err == nil {
				s.countEnds(done)
			}
			return err
		})
		switch {
		case err == nil:
			failpoint.Hit(fpStatusCommitted)
			for _, row := range done.written {
				s.statusWritten(ctx, row, true)
			}
			for _, row := range done.others {
				s.statusWritten(ctx, row, false)
			}
			for _, id := range done.missing {
				s.live.remove(id)
			}
			return true
		case ctx.Err() != nil:
			return false
		case !fault.Is(err, fault.Unavailable) && len(batch) > 1:
			// One of them cannot be written. The others must not wait for it.
			for i := range batch {
				if !s.writeBatch(ctx, batch[i:i+1]) {
					return false
				}
			}
			return true
		case !fault.Is(err, fault.Unavailable):
			s.log.ErrorContext(ctx, "a status cannot be written", "sandbox", batch[0].SandboxID, "phase", batch[0].Phase, "error", err)
			return true
		}
		s.log.ErrorContext(ctx, "statuses could not be written, trying again", "sandboxes", len(batch), "error", err, "retry", retry)
		if !sleep(ctx, retry) {
			return false
		}
	}
}

// committed is what a transaction of the status writer did.
type committed struct {
	written []*core.Sandbox
	// others are what another server had written already: it has seen the same.
	others []*core.Sandbox
	// missing are sandboxes that have no row: their launch was not committed after all.
	missing []string
}

// countEnds counts what has ended out. What another server has ended may have been read as ended, or not: it is asked for.
func (s *Service) countEnds(done committed) {
	for _, row := range done.written {
		if row.Status.Terminal() {
			s.used.add(row.RunnerUUID, row.Reserved, -1)
		}
	}
	for _, row := range done.others {
		if row.Status.Terminal() {
			s.used.forget(row.RunnerUUID)
		}
	}
}

// commitStatuses writes what a batch of observations changes, in one transaction.
func (s *Service) commitStatuses(ctx context.Context, batch []*backend.Observation) (committed, error) {
	type step struct {
		row *core.Sandbox
		o   *backend.Observation
	}
	steps := make([]step, 0, len(batch))
	for _, o := range batch {
		s.live.look(o.SandboxID, func(e *liveSandbox) {
			o := backend.Merge(e.unwritten, o)
			if _, changes := advance(e.row, o); changes {
				steps = append(steps, step{e.row, o})
				return
			}
			e.unwritten = o // its events go into the next write
		})
	}
	var done committed
	if len(steps) == 0 {
		return done, nil
	}
	// In one order everywhere, as in releaseEnded.
	slices.SortFunc(steps, func(a, b step) int { return strings.Compare(a.row.ID, b.row.ID) })
	err := s.store.Update(ctx, func(tx store.Tx) error {
		done = committed{}
		for _, st := range steps {
			row, wrote, err := writeStatus(ctx, tx, st.row, st.o)
			switch {
			case fault.Is(err, fault.NotFound):
				done.missing = append(done.missing, st.row.ID)
			case err != nil:
				return err
			case wrote:
				done.written = append(done.written, row)
			default:
				done.others = append(done.others, row)
			}
		}
		return releaseEnded(ctx, tx, done.written)
	})
	return done, err
}

// releaseEnded releases the reservations of what has ended, in the transaction that ends it: last, and in one order everywhere, so that
// servers which do that for the same runners do not wait for each other in a circle.
func releaseEnded(ctx context.Context, tx store.Tx, rows []*core.Sandbox) error {
	sums := map[string]core.Amounts{}
	for _, row := range rows {
		if row.Status.Terminal() {
			sums[row.RunnerUUID] = plus(sums[row.RunnerUUID], row.Reserved, 1)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(sums)) {
		if err := tx.Release(ctx, id, sums[id]); err != nil {
			return err
		}
	}
	return nil
}

// writeStatus writes one row, and with it what was submitted. It returns the row as it then is, and whether that is its work.
func writeStatus(ctx context.Context, tx store.Tx, row *core.Sandbox, o *backend.Observation) (next *core.Sandbox, wrote bool, err error) {
	next, _ = advance(row, o)
	err = tx.UpdateSandbox(ctx, next)
	if fault.Is(err, fault.Conflict) || fault.Is(err, fault.Precondition) {
		// Somebody else wrote the row: another server, say, that has seen the same. What is there now decides.
		current, err := tx.Sandbox(ctx, row.OrgID, row.ID)
		if err != nil {
			return nil, false, err
		}
		if o.Reason == core.EndStartFailed && current.Status != core.StatusPending {
			return current, false, nil // it has started after all
		}
		if next, wrote = advance(current, o); !wrote {
			return next, false, nil
		}
		if err := tx.UpdateSandbox(ctx, next); err != nil {
			return nil, false, err
		}
	} else if err != nil {
		return nil, false, err
	}
	// Whoever leaves PENDING takes it along: the one write that knows of a start, or of one that failed.
	if submitted := keepable(o.Submitted); submitted != nil && row.Status == core.StatusPending {
		if err := tx.PutSubmitted(ctx, next.OrgID, next.ID, submitted); err != nil {
			return nil, false, err
		}
	}
	return next, true, nil
}

// keepable returns what a backend says that it submitted, or nil when no store would keep that: a status must not wait for it.
func keepable(object json.RawMessage) json.RawMessage {
	if len(object) > store.MaxSubmitted || !utf8.Valid(object) || !json.Valid(object) {
		return nil
	}
	return object
}

// statusWritten follows a write, here or by another server: memory learns of it, waiters wake, and what an end leaves behind is cleaned
// up.
func (s *Service) statusWritten(ctx context.Context, row *core.Sandbox, here bool) {
	if !row.Status.Terminal() {
		s.live.update(row.ID, func(e *liveSandbox) {
			if here && e.row.Status == core.StatusPending && row.Status == core.StatusRunning {
				s.countStart(row, e.trace)
			}
			e.written(row)
		})
		return
	}
	s.live.remove(row.ID)
	if here {
		s.log.InfoContext(ctx, "sandbox ended", "sandbox", row.ID, "org", row.OrgID, "status", row.Status, "reason", row.StatusReason)
	}
	// The link is taken now: a runner that is being deleted may be gone before the clean-up begins.
	if link, _ := s.contacts.linkOf(row.RunnerUUID); link != nil {
		s.tasks.run(func(ctx context.Context) { s.cleanUp(ctx, link, row.ID) })
	}
	s.tasks.run(func(ctx context.Context) { s.drained(ctx, row.OrgID, row.RunnerUUID) })
}

// sleep waits and reports whether the context still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
