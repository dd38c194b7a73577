// Package sqlstore is the store on SQL: one text of every statement, with $1…$n, for SQLite inside the server and for
// PostgreSQL under several.
//
// Files are named by what they hold: objects, sandboxes, list, capacity, usage, orgs, changes. What the engines do
// differently is the engine interface in dialect.go: dialect_sqlite.go and dialect_postgres.go alone know about locks and
// visibility, open_sqlite.go and open_postgres.go how a database is opened. errors.go alone knows what drivers say when
// something is wrong.
//
// On SQLite there is one connection that writes. Concurrent updates take turns on it inside one transaction, each under
// a savepoint, and share one flush to disk (group.go). Reads have connections of their own and never wait for a write.
package sqlstore

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// Config says which store to open.
type Config struct {
	// DSN is "sqlite://PATH", everything after it being the path of the database file as it is, or
	// "postgres://user:password@host:port/database?…". A missing SQLite file is made, with its directory.
	DSN string
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Logger gets what nobody is told otherwise; nil discards.
	Logger *slog.Logger
	// SealPause is how long rows of the audit gather before they are sealed; 0 is DefaultSealPause, less is until SealAudit is called.
	SealPause time.Duration
}

// Store is the store on SQL. Methods are safe for concurrent use.
type Store struct {
	engine engine
	now    func() time.Time
	log    *slog.Logger
	wake   *wake
	sealer sealer
	// closing ends what waits and what listens.
	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
}

var _ store.Store = (*Store)(nil)

// Open opens the store and brings its schema up to date. What it refuses, with the way out in the hint: a database that
// is not Berm's, is corrupt, was written by a newer Berm, cannot be written, or is in use by another server (SQLite).
// ctx bounds only the opening.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	target, err := parseDSN(cfg.DSN)
	if err != nil {
		return nil, err
	}
	s := &Store{now: cfg.Now, log: cfg.Logger, wake: newWake(), closing: make(chan struct{})}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.engine, err = target.open(ctx, engineConfig{now: s.now, log: s.log, committed: s.wake.all, wake: s.wake.all})
	if err != nil {
		return nil, err
	}
	s.startSealing(cmp.Or(cfg.SealPause, DefaultSealPause))
	return s, nil
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	return s.engine.view(ctx, func(c conn) error {
		r := &reader{conn: c, engine: s.engine}
		defer func() { r.over = true }()
		return fn(r)
	})
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	w := &work{store: s, fn: fn}
	err := s.engine.update(ctx, w)
	if err == nil && len(w.tx.audits) > 0 {
		s.sealer.poke()
	}
	return err
}

// Ready implements store.Store.
func (s *Store) Ready(ctx context.Context) error {
	select {
	case <-s.closing:
		return errClosed()
	default:
	}
	probe, err := s.engine.ready(ctx)
	if err != nil || !probe {
		return err
	}
	return s.Update(ctx, func(t store.Tx) error {
		_, err := t.(*tx).conn.exec(ctx, `INSERT INTO settings (name, value) VALUES ('probe', 1)
			ON CONFLICT (name) DO UPDATE SET value = settings.value + 1`)
		if err != nil {
			return driverFault(err)
		}
		return nil
	})
}

// Close ends the sequences of Changes, waits for the updates that have begun, and closes the database. Later calls fail
// with Unavailable.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		s.sealer.quit()
		s.closeErr = s.engine.close()
		<-s.sealer.done
	})
	return s.closeErr
}

// work is one call of Update. Engines run it, perhaps several times, and undo each run that they do not commit.
type work struct {
	store *Store
	fn    func(store.Tx) error
	tx    *tx
}

// run runs the function once inside a transaction that the engine has begun. When it does not return nil, the engine rolls
// back what it wrote.
func (w *work) run(ctx context.Context, c conn) error {
	w.tx = newTx(c, w.store)
	done := false
	defer func(t *tx) {
		t.over = true
		if !done {
			w.undo() // fn panicked, or ended its goroutine
		}
	}(w.tx)
	err := w.fn(w.tx)
	if err == nil {
		err = w.tx.finish(context.WithoutCancel(ctx))
	} else if w.tx.broken != nil {
		err = w.tx.broken
	}
	done = true
	if err != nil {
		w.undo()
	}
	return err
}

// undo gives the values of the last run back the revisions that they had.
func (w *work) undo() {
	if w.tx != nil {
		w.tx.undoAll()
		w.tx = nil
	}
}

// changed reports whether the last run wrote anything that watchers want to know.
func (w *work) changed() bool { return w.tx != nil && len(w.tx.changes) > 0 }

func errClosed() error {
	return fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "the store is closed").
		WithHint("the server is shutting down; ask again when it is back")
}
