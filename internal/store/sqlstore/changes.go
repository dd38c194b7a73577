package sqlstore

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// The change feed. A change's number is that of its transaction, shifted, plus its place in the transaction. On PostgreSQL a transaction
// with a larger number can commit first; a reader that went past it would never see the smaller one. So readers stop at the oldest transaction
// that still runs (dialect.horizon): below it nothing can appear any more.
const (
	// placeBits is the room for the changes of one transaction.
	placeBits = 20
	// feedPage is how many changes are read at once.
	feedPage = 500
	// feedPoll is how often a waiting reader looks without having been woken: a wake-up is a hint, the log is the truth.
	feedPoll = time.Second
)

// changed appends to the change log.
func (t *tx) changed(ctx context.Context, kind, orgID, id string, revision int64, deleted bool) error {
	if t.number == 0 {
		if err := t.row(ctx, t.store.dialect.txNumber).Scan(&t.number); err != nil {
			return t.mark(err)
		}
	}
	if t.changes >= 1<<placeBits {
		return fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "more than %d changes in one transaction", 1<<placeBits)
	}
	seq := t.number<<placeBits | t.changes
	t.changes++
	_, err := t.exec(ctx, `INSERT INTO changes (seq, kind, org_id, id, revision, deleted, at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		seq, kind, orgID, id, revision, flag(deleted), t.store.now().UnixNano())
	return err
}

func (t *tx) LastChange(ctx context.Context) (int64, error) {
	var seq int64
	err := t.row(ctx, `SELECT COALESCE(MAX(seq), 0) FROM changes WHERE seq < `+t.store.dialect.horizon).Scan(&seq)
	return seq, t.mark(err)
}

// Changes implements store.Store.
func (s *Store) Changes(ctx context.Context, after int64) iter.Seq2[store.Change, error] {
	return func(yield func(store.Change, error) bool) {
		for {
			woken := s.wake.channel()
			page, err := s.changesAfter(ctx, after)
			if err != nil {
				yield(store.Change{}, err)
				return
			}
			for _, c := range page {
				if !yield(c, nil) {
					return
				}
				after = c.Seq
			}
			if len(page) == feedPage {
				continue
			}
			timer := time.NewTimer(feedPoll)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-woken:
				timer.Stop()
				if s.wake.isClosed() {
					return
				}
			case <-timer.C:
			}
		}
	}
}

func (s *Store) changesAfter(ctx context.Context, after int64) ([]store.Change, error) {
	var page []store.Change
	err := s.View(ctx, func(r store.Reader) error {
		rows, err := r.(*tx).rows(ctx, `SELECT seq, kind, org_id, id, revision, deleted, at FROM changes WHERE seq > $1 AND seq < `+s.dialect.horizon+` ORDER BY seq LIMIT $2`,
			after, feedPage)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c store.Change
			var deleted, at int64
			if err := rows.Scan(&c.Seq, &c.Kind, &c.OrgID, &c.ID, &c.Revision, &deleted, &at); err != nil {
				return err
			}
			c.Deleted, c.At = deleted != 0, time.Unix(0, at)
			page = append(page, c)
		}
		return rows.Err()
	})
	return page, err
}

// wake tells waiting readers that there may be changes.
type wake struct {
	mu     sync.Mutex
	ch     chan struct{}
	closed bool
}

func newWake() *wake { return &wake{ch: make(chan struct{})} }

func (w *wake) channel() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ch
}

func (w *wake) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		close(w.ch)
		w.ch = make(chan struct{})
	}
}

func (w *wake) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.ch)
	}
}

func (w *wake) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// listen wakes readers for the changes of other processes, over a connection of its own. Without it they are found by the timer.
func listen(s *Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // it lives as long as the store
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := listenOnce(ctx, s); err != nil && ctx.Err() == nil {
				s.log.Debug("listening for changes ended; will try again", "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(feedPoll):
			}
		}
	}()
	return func() { cancel(); <-done }
}

func listenOnce(ctx context.Context, s *Store) error {
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the connection is done with
	if _, err := conn.Exec(ctx, "LISTEN berm_changes"); err != nil {
		return err
	}
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		s.wake.all()
	}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
