package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const (
	// changesPage is how many changes are read at a time.
	changesPage = 500
	// settleInterval is how long a watcher sleeps that has seen a change which is not final yet.
	settleInterval = 10 * time.Millisecond
)

// LastChange implements store.Reader.
func (r *reader) LastChange(ctx context.Context) (int64, error) {
	var seq int64
	_, err := r.one(ctx, `SELECT coalesce(max(seq), 0) FROM changes WHERE seq < `+r.engine.horizon(), nil, &seq)
	return seq, err
}

// Changes implements store.Store. Wake-ups are hints: what is yielded is what the log says, in its order, up to the first
// change that is not final. A wake-up that is lost costs the poll interval.
func (s *Store) Changes(ctx context.Context, after int64) iter.Seq2[store.Change, error] {
	return func(yield func(store.Change, error) bool) {
		err := s.follow(ctx, after, func(c store.Change) bool { return yield(c, nil) })
		if err != nil && ctx.Err() == nil {
			yield(store.Change{}, err)
		}
	}
}

// errStop ends follow because nobody listens any more.
var errStop = errors.New("stop")

func (s *Store) follow(ctx context.Context, after int64, yield func(store.Change) bool) error {
	if err := s.checkCursor(ctx, after); err != nil {
		return err
	}
	for {
		woken := s.wake.next() // before the log is read, so that no wake-up falls between
		page, unsettled, err := s.changesAfter(ctx, after)
		if err != nil {
			return err
		}
		for _, c := range page {
			after = c.Seq
			if !yield(c) {
				return nil
			}
		}
		if len(page) == changesPage {
			continue
		}
		pause := s.engine.pollInterval()
		if unsettled {
			pause = settleInterval
		}
		if err := s.sleep(ctx, pause, woken); err != nil {
			return err
		}
	}
}

// sleep waits for a wake-up, or for the time to pass.
func (s *Store) sleep(ctx context.Context, d time.Duration, woken <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-woken:
	case <-t.C:
	case <-s.closing:
		return errClosed()
	case <-ctx.Done():
		return contextFault(ctx.Err())
	}
	return nil
}

// checkCursor refuses a position that the log has not reached.
func (s *Store) checkCursor(ctx context.Context, after int64) error {
	if after < 0 {
		return fault.Invalidf(fault.ReasonFieldInvalid, "a position in the change log is not negative").WithField("after", "is %d", after)
	}
	return s.View(ctx, func(r store.Reader) error {
		var last int64
		if _, err := r.(*reader).one(ctx, `SELECT coalesce(max(seq), 0) FROM changes`, nil, &last); err != nil {
			return err
		}
		if after > last {
			return fault.New(fault.OutOfRange, fault.ReasonChangesUnknown, "the change log has not reached %d; it comes from another store", after).
				WithHint("list again, and watch from there")
		}
		return nil
	})
}

// changesAfter returns final changes, and whether there are others behind them that are not final.
func (s *Store) changesAfter(ctx context.Context, after int64) (page []store.Change, unsettled bool, err error) {
	err = s.View(ctx, func(r store.Reader) error {
		err := r.(*reader).each(ctx, func(rows *sql.Rows) error {
			var (
				c           store.Change
				deleted, at int64
				final       int64
			)
			if err := rows.Scan(&c.Seq, &c.Kind, &c.OrgID, &c.ID, &c.Revision, &deleted, &at, &final); err != nil {
				return err
			}
			if final == 0 {
				unsettled = true
				return errStop
			}
			c.Deleted, c.At = deleted != 0, fromNanos(at)
			page = append(page, c)
			return nil
		}, `SELECT seq, kind, org_id, id, revision, deleted, at, CASE WHEN seq < `+s.engine.horizon()+` THEN 1 ELSE 0 END
			FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2`, after, changesPage)
		if errors.Is(err, errStop) {
			return nil
		}
		return err
	})
	return page, unsettled, err
}

// wake wakes everybody who waits.
type wake struct {
	mu sync.Mutex
	ch chan struct{}
}

func newWake() *wake { return &wake{ch: make(chan struct{})} }

// next returns a channel that is closed at the next wake-up.
func (w *wake) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ch
}

func (w *wake) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.ch)
	w.ch = make(chan struct{})
}
