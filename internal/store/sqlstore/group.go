package sqlstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// Limits of group commit.
const (
	// maxGroup is how many updates share a commit: more would make the first of them wait for the last.
	maxGroup = 128
	// maxQueue is how many may wait for the writer; further callers wait to be let in.
	maxQueue = 4096
)

// group runs the updates of concurrent callers one after another in one transaction, each under a savepoint, and flushes once for all of
// them. SQLite has one writer anyway, and with synchronous=FULL the flush is what costs. An error undoes only its own savepoint; when the
// commit fails, every caller of the group hears it.
type group struct {
	store *Store
	queue chan *update
	done  chan struct{}
	ended chan struct{}
}

type update struct {
	run func(store.Tx) error
	ctx func() error
	// result gets the outcome once; panicked is the value of a panic in run, to go on in the caller.
	result   chan error
	panicked any
	changes  int64
}

func newGroup(s *Store) *group {
	g := &group{store: s, queue: make(chan *update, maxQueue), done: make(chan struct{}), ended: make(chan struct{})}
	go g.loop()
	return g
}

// do queues fn and waits for its commit. A caller who goes away before its turn changes nothing; from its turn on it waits for the end, so
// that what it hears is what happened.
func (g *group) do(ctx context.Context, fn func(store.Tx) error) error {
	u := &update{run: fn, ctx: ctx.Err, result: make(chan error, 1)}
	select {
	case <-g.done:
		return closed()
	default:
	}
	select {
	case g.queue <- u:
	case <-ctx.Done():
		return ctx.Err()
	case <-g.done:
		return closed()
	}
	select {
	case err := <-u.result:
		if u.panicked != nil {
			panic(u.panicked) //nolint:forbidigo // it is the caller's own panic, carried over from the writer
		}
		return err
	case <-g.ended:
		select {
		case err := <-u.result:
			return err
		default:
			return closed()
		}
	}
}

func closed() error {
	return fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "the store is closed")
}

// close lets the queue run empty and ends the writer.
func (g *group) close() {
	close(g.done)
	<-g.ended
}

func (g *group) loop() {
	defer close(g.ended)
	batch := make([]*update, 0, maxGroup)
	for {
		batch = batch[:0]
		select {
		case u := <-g.queue:
			batch = append(batch, u)
		case <-g.done:
			select {
			case u := <-g.queue:
				batch = append(batch, u)
			default:
				return
			}
		}
		for len(batch) < maxGroup {
			select {
			case u := <-g.queue:
				batch = append(batch, u)
				continue
			default:
			}
			break
		}
		g.commit(batch)
	}
}

// commit runs a batch in one transaction and answers every caller.
func (g *group) commit(batch []*update) {
	outcome := make([]error, len(batch))
	err := g.transaction(batch, outcome)
	changed := false
	for i, u := range batch {
		switch {
		case err != nil && outcome[i] == nil:
			outcome[i] = err
		case err == nil && outcome[i] == nil && u.changes > 0:
			changed = true
		}
	}
	if changed {
		g.store.wake.all()
	}
	for i, u := range batch {
		u.result <- fromDriver(outcome[i])
	}
}

func (g *group) transaction(batch []*update, outcome []error) error {
	// The writer belongs to no caller: one who goes away must not undo the others.
	ctx := context.Background() //nolint:forbidigo // see above
	t, err := g.store.write.BeginTx(ctx, g.store.dialect.begin)
	if err != nil {
		return err
	}
	defer t.Rollback() //nolint:errcheck // after a commit it does nothing
	ran := 0
	for i, u := range batch {
		if outcome[i] = u.ctx(); outcome[i] != nil {
			continue
		}
		if outcome[i] = g.savepoint(ctx, t, u); outcome[i] == nil {
			ran++
		}
	}
	if ran == 0 {
		return nil
	}
	failpoint.Hit(FailBeforeCommit)
	if err := t.Commit(); err != nil {
		return err
	}
	failpoint.Hit(FailAfterCommit)
	return nil
}

// savepoint runs one update so that its failure undoes nothing else.
func (g *group) savepoint(ctx context.Context, t *sql.Tx, u *update) error {
	if _, err := t.ExecContext(ctx, "SAVEPOINT one"); err != nil {
		return err
	}
	x := &tx{store: g.store, sql: t, writable: true}
	err := g.call(x, u)
	if err != nil {
		if _, undo := t.ExecContext(ctx, "ROLLBACK TO one"); undo != nil {
			return fmt.Errorf("%w (and the undo failed: %w)", err, undo)
		}
	}
	if _, release := t.ExecContext(ctx, "RELEASE one"); release != nil && err == nil {
		err = release
	}
	u.changes = x.changes
	return err
}

// call catches a panic of the caller's function: it must not end the writer.
func (g *group) call(x *tx, u *update) (err error) {
	defer func() {
		if p := recover(); p != nil {
			u.panicked = p
			err = fault.Internalf(nil, "panic in a transaction")
		}
	}()
	return u.run(x)
}
