package sqlstore

import (
	"context"
	"slices"
	"sync"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

const (
	// maxBatch is how many updates share one commit at most: with more, the first would wait longer for the last than a
	// flush to disk takes.
	maxBatch = 128
	// maxWaiting is how many updates wait for their turn at most; more are refused rather than left to pile up.
	maxWaiting = 4096
)

// group lets concurrent updates share one connection and one commit.
//
// Updates take turns on the connection, in the order in which they come. The first begins a transaction; each runs under
// a savepoint in the goroutine of its caller, so that a panic is the caller's, and passes the connection to the next that
// waits; the last one commits for all. Nobody returns before that commit, not even with an error: what an update refused
// may have been decided from what another one in the same transaction wrote.
//
// When the transaction as a whole is lost (the disk was full at the commit, say), every update of it runs once more, each
// in a transaction of its own: only those that cannot be done fail.
type group struct {
	session *session
	// committed is called after a commit of so many updates; changed: they have changes for watchers.
	committed func(updates int, changed bool)

	mu      sync.Mutex
	held    bool // somebody has the connection
	closed  bool
	idle    chan struct{} // closed when closed and nobody has the connection
	waiting []*turn

	// lastFailed, guarded by mu, says that the last commit failed.
	lastFailed bool
}

// turn is one update that waits.
type turn struct {
	alone bool
	ready chan *batch
}

// batch is one transaction. Its fields belong to whoever has the connection, until done is closed.
type batch struct {
	alone bool
	// size counts the updates that had their turn, kept those that are to be committed.
	size, kept int
	begun      bool
	changed    bool
	// err is why nothing of it was committed.
	err  error
	done chan struct{}
}

func newBatch(alone bool) *batch { return &batch{alone: alone, size: 1, done: make(chan struct{})} }

func newGroup(s *session, committed func(updates int, changed bool)) *group {
	return &group{session: s, committed: committed, idle: make(chan struct{})}
}

// update runs w and returns after its commit.
func (g *group) update(ctx context.Context, w *work) error {
	lost, err := g.once(ctx, false, w)
	if lost {
		_, err = g.once(ctx, true, w)
	}
	return err
}

// once runs w in a shared transaction, or alone. lost: that transaction failed as a whole, with others in it.
func (g *group) once(ctx context.Context, alone bool, w *work) (lost bool, err error) {
	b, err := g.enter(ctx, alone)
	if err != nil {
		return false, err
	}
	err = g.member(ctx, b, w)
	<-b.done
	if b.err == nil {
		return false, err
	}
	w.undo()
	if b.size > 1 {
		return true, b.err
	}
	if err == nil {
		err = b.err // else its own error is why the transaction is lost
	}
	return false, err
}

// enter waits for the connection.
func (g *group) enter(ctx context.Context, alone bool) (*batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, contextFault(err)
	}
	g.mu.Lock()
	switch {
	case g.closed:
		g.mu.Unlock()
		return nil, errClosed()
	case !g.held:
		g.held = true
		g.mu.Unlock()
		return newBatch(alone), nil
	case len(g.waiting) >= maxWaiting:
		g.mu.Unlock()
		return nil, fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "%d writes wait for the store already", maxWaiting).WithRetry(retryAfter)
	}
	t := &turn{alone: alone, ready: make(chan *batch, 1)}
	g.waiting = append(g.waiting, t)
	g.mu.Unlock()
	select {
	case b := <-t.ready:
		return b, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	if i := slices.Index(g.waiting, t); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
		g.mu.Unlock()
		return nil, contextFault(ctx.Err())
	}
	g.mu.Unlock()
	g.leave(<-t.ready) // the turn had come already: pass it on
	return nil, contextFault(ctx.Err())
}

// member runs w with the connection in hand, and passes it on, whatever happens.
func (g *group) member(ctx context.Context, b *batch, w *work) (err error) {
	run := false
	defer func() {
		if !run {
			g.rollbackTo(b) // w panicked or ended its goroutine
		}
		g.leave(b)
	}()
	if !b.begun {
		if b.err = g.exec("BEGIN IMMEDIATE"); b.err != nil {
			run = true
			return b.err
		}
		b.begun = true
	}
	if b.err = g.exec("SAVEPOINT member"); b.err == nil {
		err = w.run(ctx, g.session)
	}
	run = true
	switch {
	case b.err != nil:
	case err != nil:
		g.rollbackTo(b)
	default:
		if b.err = g.exec("RELEASE member"); b.err == nil {
			b.kept++
			b.changed = b.changed || w.changed()
		}
	}
	return err
}

// rollbackTo takes back what one update wrote. Where that fails, SQLite has rolled back the transaction.
func (g *group) rollbackTo(b *batch) {
	if !b.begun || b.err != nil {
		return
	}
	if b.err = g.exec("ROLLBACK TO member"); b.err == nil {
		b.err = g.exec("RELEASE member")
	}
}

// leave passes the connection to the next update of the same transaction, or ends it and begins the next.
func (g *group) leave(b *batch) {
	g.mu.Lock()
	if b.err == nil && !b.alone && b.size < maxBatch && len(g.waiting) > 0 && !g.waiting[0].alone {
		b.size++
		t := g.shift()
		g.mu.Unlock()
		t.ready <- b
		return
	}
	g.mu.Unlock()

	g.finish(b)

	g.mu.Lock()
	defer g.mu.Unlock()
	if b.kept > 0 || b.err != nil {
		g.lastFailed = b.err != nil
	}
	if len(g.waiting) > 0 {
		t := g.shift()
		t.ready <- newBatch(t.alone)
		return
	}
	g.held = false
	if g.closed {
		close(g.idle)
	}
}

func (g *group) shift() *turn {
	t := g.waiting[0]
	g.waiting[0] = nil
	g.waiting = g.waiting[1:]
	return t
}

// finish commits, or rolls back what is lost anyway, and tells the members.
func (g *group) finish(b *batch) {
	defer close(b.done)
	if b.begun && b.err == nil && b.kept > 0 {
		failpoint.Hit(fpBeforeCommit)
		if b.err = g.exec("COMMIT"); b.err == nil {
			failpoint.Hit(fpAfterCommit)
			g.committed(b.kept, b.changed)
			return
		}
	}
	if b.begun {
		// After some errors there is no transaction any more, and this fails: nothing is left either way.
		_ = g.exec("ROLLBACK")
	}
}

// exec runs a statement of the group itself. No caller's context reaches it: a commit that has begun is ended.
func (g *group) exec(query string) error {
	if _, err := g.session.exec(context.Background(), query); err != nil {
		return driverFault(err)
	}
	return nil
}

// failing reports whether the last commit failed.
func (g *group) failing() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lastFailed
}

// close waits for the updates that have come and refuses others.
func (g *group) close() {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	if first && !g.held {
		close(g.idle)
	}
	g.mu.Unlock()
	<-g.idle
}
