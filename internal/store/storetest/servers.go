package storetest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func servers(t *testing.T, e *env) {
	t.Run("the list", e.serverList)
	t.Run("one process of a runner", e.linesOfOneProcess)
	t.Run("processes that come at once", e.linesAtOnce)
	t.Run("what is pending", e.pendingSandboxes)
}

func (e *env) put(t *testing.T, s store.Server) {
	t.Helper()
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.PutServer(ctx, s) })
}

func (e *env) remove(t *testing.T, s store.Server, want bool) {
	t.Helper()
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		removed, err := tx.RemoveServer(ctx, s)
		equal(t, "removed", removed, want)
		return err
	})
}

func (e *env) wantServers(t *testing.T, want ...store.Server) {
	t.Helper()
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.Servers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "servers", got, want)
	})
}

func (e *env) serverList(t *testing.T) {
	e.wantServers(t)
	b, a := store.Server{ID: "b", HeardAt: start}, store.Server{ID: "a", Address: "10.0.0.1:7070", HeardAt: start}
	e.put(t, b)
	e.put(t, a)
	e.wantServers(t, a, b)
	old := a
	a.Address, a.HeardAt = "10.0.0.2:7070", start.Add(time.Second)
	e.put(t, a)
	e.remove(t, old, false) // it has said something since
	e.wantServers(t, a, b)
	e.remove(t, a, true)
	e.remove(t, a, false)
	e.remove(t, b, true)
	e.wantServers(t)
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.PutServer(ctx, store.Server{}) }), fault.Invalid)
}

// hold is HoldLine with what is expected of it.
func (e *env) hold(t *testing.T, runner, server, instance, wantOther string) {
	t.Helper()
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		other, held, err := tx.HoldLine(ctx, runner, server, instance)
		equal(t, "the other server", other, wantOther)
		equal(t, "held", held, wantOther == "")
		return err
	})
}

func (e *env) linesOfOneProcess(t *testing.T) {
	r, other := e.id("runner"), e.id("runner")
	a := store.Server{ID: e.id("server"), HeardAt: start}
	b := store.Server{ID: e.id("server"), HeardAt: start}
	e.put(t, a)
	e.put(t, b)
	e.hold(t, r, a.ID, "p1", "")
	e.wantHeard(t, r, time.Time{})
	e.heard(t, start, r)
	e.hold(t, r, b.ID, "p1", "") // the same process, to a second server
	e.hold(t, other, b.ID, "p2", "")
	e.hold(t, r, b.ID, "p2", a.ID)
	e.wantHeard(t, r, start)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.DropLine(ctx, r, a.ID) })
	e.hold(t, r, b.ID, "p2", "") // b knows its own line, and has replaced it
	e.hold(t, r, a.ID, "p1", b.ID)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.DropLines(ctx, b.ID) })
	e.hold(t, r, a.ID, "p1", "")
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.DropLines(ctx, a.ID) })
	e.hold(t, r, b.ID, "p2", "")
	e.remove(t, b, true) // with its lines
	e.hold(t, r, a.ID, "p1", "")
	e.remove(t, a, true)
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { _, _, err := tx.HoldLine(ctx, r, a.ID, ""); return err }), fault.Invalid)
}

func (e *env) pendingSandboxes(t *testing.T) {
	org := &core.Org{ID: e.id("org"), Name: e.id("org"), CreatedAt: start}
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertOrg(ctx, org) })
	waits, runs := e.sandbox(org.ID), e.sandbox(org.ID)
	waits.ServerID = "a"
	e.launched(t, waits)
	e.launched(t, runs)
	runs.Status = core.StatusRunning
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, runs) })
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.Pending(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := *waits
		want.Decision, want.Launch = nil, nil
		equal(t, "pending", got, []*core.Sandbox{&want})
	})
}

func (e *env) linesAtOnce(t *testing.T) {
	for range 10 {
		r := e.id("runner")
		var held atomic.Int64
		var group sync.WaitGroup
		for range 8 {
			server, instance := e.id("server"), e.id("instance")
			group.Go(func() {
				ok := false
				err := e.try(t, func(ctx context.Context, tx store.Tx) (err error) {
					_, ok, err = tx.HoldLine(ctx, r, server, instance)
					return err
				})
				if err != nil {
					t.Error(err)
				}
				if ok {
					held.Add(1)
				}
			})
		}
		group.Wait()
		if held.Load() != 1 {
			t.Fatalf("%d processes of one runner were let in", held.Load())
		}
	}
}
