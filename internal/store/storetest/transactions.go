package storetest

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func transactions(t *testing.T, e *env) {
	t.Run("all or nothing", e.txError)
	t.Run("a panic is the caller's", e.txPanic)
	t.Run("a goroutine that ends", e.txGoexit)
	t.Run("reads its own writes", e.txReads)
	t.Run("a view is one state", e.txView)
	t.Run("a view that fails", e.txViewError)
	t.Run("contexts", e.txContext)
	t.Run("used after its end", e.txLate)
}

func (e *env) wantMissing(t *testing.T, o *store.Object) {
	t.Helper()
	e.view(t, func(ctx context.Context, r store.Reader) {
		_, err := r.Object(ctx, o.Kind, o.OrgID, o.ID)
		wantCode(t, err, fault.NotFound)
		_, err = r.ObjectRevision(ctx, o.Kind, o.OrgID, o.ID, 1)
		wantCode(t, err, fault.NotFound)
	})
}

func (e *env) txError(t *testing.T) {
	org := e.id("org")
	kept := e.inserted(t, e.object(store.KindZone, org))
	fresh, gone := e.object(store.KindZone, org), e.inserted(t, e.object(store.KindZone, org))
	s := e.launched(t, e.sandbox(org))
	boom := errors.New("boom")
	err := e.try(t, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.Insert(ctx, fresh), tx.Update(ctx, kept), tx.Delete(ctx, gone), tx.UpdateSandbox(ctx, s), boom)
	})
	if !errors.Is(err, boom) || fault.Is(err, fault.Conflict) {
		t.Fatalf("got %v, want the function's error", err)
	}
	e.wantMissing(t, fresh)
	// The values have the revisions again that the store has, so that they can be used again.
	if fresh.Revision != 0 || kept.Revision != 1 || gone.Revision != 1 || gone.Deleted || s.Revision != 1 {
		t.Errorf("revisions %d %d %d %d, deleted %v; want 0 1 1 1 false", fresh.Revision, kept.Revision, gone.Revision, s.Revision, gone.Deleted)
	}
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.Insert(ctx, fresh), tx.Update(ctx, kept), tx.Delete(ctx, gone), tx.UpdateSandbox(ctx, s))
	})
}

func (e *env) txPanic(t *testing.T) {
	o := e.object(store.KindZone, e.id("org"))
	type mine struct{ n int }
	func() {
		defer func() {
			if got := recover(); got != (mine{7}) {
				t.Errorf("recovered %v", got)
			}
		}()
		_ = e.try(t, func(ctx context.Context, tx store.Tx) error {
			if err := tx.Insert(ctx, o); err != nil {
				return err
			}
			panic(mine{7})
		})
	}()
	if o.Revision != 0 {
		t.Errorf("revision %d, want 0", o.Revision)
	}
	e.wantMissing(t, o)
	e.inserted(t, o)
}

func (e *env) txGoexit(t *testing.T) {
	o := e.object(store.KindZone, e.id("org"))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = e.try(t, func(ctx context.Context, tx store.Tx) error {
			_ = tx.Insert(ctx, o)
			runtime.Goexit()
			return nil
		})
	}()
	within(t, "the end of the goroutine", ended)
	e.wantMissing(t, o)
	e.inserted(t, o)
}

func (e *env) txReads(t *testing.T) {
	org := e.id("org")
	o, s := e.object(store.KindZone, org), e.sandbox(org)
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		if err := errors.Join(tx.Insert(ctx, o), tx.InsertSandbox(ctx, s)); err != nil {
			return err
		}
		got, err := tx.ObjectByName(ctx, o.Kind, org, o.Name)
		if err != nil {
			return err
		}
		equal(t, "object", got, o)
		all, _, err := tx.Sandboxes(ctx, store.SandboxFilter{OrgID: org, Tags: s.Tags}, store.Page{Size: 2})
		if err != nil || len(all) != 1 {
			t.Errorf("%d sandboxes, %v", len(all), err)
		}
		return nil
	})
}

// txView changes what a view reads while it reads it.
func (e *env) txView(t *testing.T) {
	org := e.id("org")
	o := e.inserted(t, e.object(store.KindZone, org))
	e.view(t, func(ctx context.Context, r store.Reader) {
		before, err := r.Object(ctx, o.Kind, org, o.ID)
		if err != nil {
			t.Fatal(err)
		}
		seq, err := r.LastChange(ctx)
		if err != nil {
			t.Fatal(err)
		}
		other := e.object(store.KindZone, org)
		e.update(t, func(ctx context.Context, tx store.Tx) error {
			return errors.Join(tx.Update(ctx, o), tx.Insert(ctx, other))
		})
		after, err := r.Object(ctx, o.Kind, org, o.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "object read again", after, before)
		all, _, err := r.Objects(ctx, store.KindZone, org, store.Page{Size: 10})
		if err != nil || len(all) != 1 {
			t.Errorf("%d objects, %v; want 1", len(all), err)
		}
		if again, err := r.LastChange(ctx); again != seq || err != nil {
			t.Errorf("last change %d, %v; want %d", again, err, seq)
		}
	})
}

func (e *env) txViewError(t *testing.T) {
	boom := errors.New("boom")
	if err := e.store.View(t.Context(), func(store.Reader) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("got %v, want the function's error", err)
	}
	for range 50 { // more often than there are connections
		func() {
			defer func() { _ = recover() }()
			_ = e.store.View(t.Context(), func(store.Reader) error { panic("boom") })
		}()
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		if _, err := r.LastChange(ctx); err != nil {
			t.Error(err)
		}
	})
}

func (e *env) txContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	run := false
	err := e.store.Update(ctx, func(store.Tx) error { run = true; return nil })
	if wantCode(t, err, fault.Canceled); run || !errors.Is(err, context.Canceled) {
		t.Errorf("run %v, %v", run, err)
	}
	err = e.store.View(ctx, func(store.Reader) error { run = true; return nil })
	if wantCode(t, err, fault.Canceled); run {
		t.Error("a view ran whose context had ended")
	}
	// A context that ends in the middle undoes all; one that ends when all is done undoes nothing.
	o := e.object(store.KindZone, e.id("org"))
	ctx, cancel = context.WithCancel(t.Context())
	err = e.store.Update(ctx, func(tx store.Tx) error {
		if err := tx.Insert(ctx, o); err != nil {
			return err
		}
		cancel()
		return tx.Update(ctx, o)
	})
	wantCode(t, err, fault.Canceled)
	e.wantMissing(t, o)
	ctx, cancel = context.WithCancel(t.Context())
	err = e.store.Update(ctx, func(tx store.Tx) error { defer cancel(); return tx.Insert(ctx, o) })
	if err != nil {
		t.Fatalf("canceled after the last write: %v", err)
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		if _, err := r.Object(ctx, o.Kind, o.OrgID, o.ID); err != nil {
			t.Error(err)
		}
	})
}

func (e *env) txLate(t *testing.T) {
	var (
		late store.Tx
		old  store.Reader
	)
	e.update(t, func(_ context.Context, tx store.Tx) error { late = tx; return nil })
	e.view(t, func(_ context.Context, r store.Reader) { old = r })
	wantCode(t, late.Insert(t.Context(), e.object(store.KindZone, e.id("org"))), fault.Internal)
	_, err := old.LastChange(t.Context())
	wantCode(t, err, fault.Internal)
}
