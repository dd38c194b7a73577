package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func changes(t *testing.T, e *env) {
	t.Run("every write, in order", e.changeLog)
	t.Run("watch", e.changeWatch)
	t.Run("from a state", e.changeSnapshot)
	t.Run("positions", e.changeCursor)
	t.Run("many writers and many readers", e.changeLoad)
	t.Run("ends with the context", e.changeEnd)
}

// what is a change without what the store makes up.
func what(c store.Change) store.Change {
	return store.Change{Kind: c.Kind, OrgID: c.OrgID, ID: c.ID, Revision: c.Revision, Deleted: c.Deleted}
}

// take reads n changes of an organization after a position, and the last position.
func (e *env) take(t *testing.T, after int64, org string, n int) ([]store.Change, int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	var got []store.Change
	for c, err := range e.store.Changes(ctx, after) {
		if err != nil {
			t.Fatalf("changes: %v", err)
		}
		if c.Seq <= after {
			t.Fatalf("change %d after %d", c.Seq, after)
		}
		if c.At.IsZero() {
			t.Fatalf("change %d has no time", c.Seq)
		}
		after = c.Seq
		if c.OrgID == org {
			got = append(got, what(c))
		}
		if len(got) == n {
			return got, after
		}
	}
	t.Fatalf("%d changes within %v, want %d: %v", len(got), waitLimit, n, got)
	return nil, 0
}

func (e *env) changeLog(t *testing.T) {
	org := e.id("org")
	o, s := e.object(store.KindProfile, org), e.sandbox(org)
	k := &core.Token{ID: e.id("token"), OrgID: org, Name: "ci", Role: core.RoleUser, Hash: e.id("hash"), CreatedAt: start}
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.InsertOrg(ctx, &core.Org{ID: org, Name: org, CreatedAt: start}), tx.InsertToken(ctx, k))
	})
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Insert(ctx, o) })
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.Update(ctx, o), tx.InsertSandbox(ctx, s), tx.SetCapacity(ctx, "r", core.Amounts{}))
	})
	_ = e.try(t, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.Update(ctx, o), errors.New("boom"))
	})
	s.Status = core.StatusFailed
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.UpdateSandbox(ctx, s), tx.DeleteSandbox(ctx, org, s.ID), tx.Delete(ctx, o), tx.RevokeToken(ctx, org, k.ID, start))
	})
	got, last := e.take(t, 0, org, 9)
	equal(t, "changes", got, []store.Change{
		{Kind: store.ChangeOrg, OrgID: org, ID: org, Revision: 1},
		{Kind: store.ChangeToken, OrgID: org, ID: k.ID, Revision: 1},
		{Kind: "profile", OrgID: org, ID: o.ID, Revision: 1},
		{Kind: "profile", OrgID: org, ID: o.ID, Revision: 2},
		{Kind: store.ChangeSandbox, OrgID: org, ID: s.ID, Revision: 1},
		{Kind: store.ChangeSandbox, OrgID: org, ID: s.ID, Revision: 2},
		{Kind: store.ChangeSandbox, OrgID: org, ID: s.ID, Revision: 3, Deleted: true},
		{Kind: "profile", OrgID: org, ID: o.ID, Revision: 3, Deleted: true},
		{Kind: store.ChangeToken, OrgID: org, ID: k.ID, Revision: 2},
	})
	e.view(t, func(ctx context.Context, r store.Reader) {
		if seq, err := r.LastChange(ctx); seq != last || err != nil {
			t.Errorf("last change %d, %v; want %d", seq, err, last)
		}
	})
}

// changeWatch waits for changes that do not exist yet.
func (e *env) changeWatch(t *testing.T) {
	org := e.id("org")
	first := e.inserted(t, e.object(store.KindZone, org))
	_, last := e.take(t, 0, org, 1)
	type result struct {
		got []store.Change
	}
	waiting := make(chan result, 2)
	for range cap(waiting) {
		go func() {
			got, _ := e.take(t, last, org, 2)
			waiting <- result{got}
		}()
	}
	second := e.inserted(t, e.object(store.KindZone, org))
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Update(ctx, first) })
	for range cap(waiting) {
		equal(t, "changes", (<-waiting).got, []store.Change{
			{Kind: "zone", OrgID: org, ID: second.ID, Revision: 1}, {Kind: "zone", OrgID: org, ID: first.ID, Revision: 2},
		})
	}
}

// changeSnapshot lists and then watches, as clients do: together they know everything.
func (e *env) changeSnapshot(t *testing.T) {
	org := e.id("org")
	const writers, each = 4, 10
	written := make(chan struct{})
	go func() {
		defer close(written)
		many(writers, func(int) {
			for range each {
				o := e.object(store.KindZone, org)
				if err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Insert(ctx, o) }); err != nil {
					t.Errorf("insert: %v", err)
				}
			}
		})
	}()
	defer func() { <-written }()
	known := map[string]bool{}
	var seq int64
	e.view(t, func(ctx context.Context, r store.Reader) {
		all, _, err := r.Objects(ctx, store.KindZone, org, store.Page{Size: store.MaxPage})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			known[o.ID] = true
		}
		if seq, err = r.LastChange(ctx); err != nil {
			t.Fatal(err)
		}
	})
	if len(known) == writers*each {
		return // they were quicker than the view
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	for c, err := range e.store.Changes(ctx, seq) {
		if err != nil {
			t.Fatal(err)
		}
		if known[c.ID] = true; c.OrgID != org {
			delete(known, c.ID)
		}
		if len(known) == writers*each {
			return
		}
	}
	t.Fatalf("%d objects known, want %d", len(known), writers*each)
}

func (e *env) changeCursor(t *testing.T) {
	e.inserted(t, e.object(store.KindZone, e.id("org")))
	var last int64
	e.view(t, func(ctx context.Context, r store.Reader) { last, _ = r.LastChange(ctx) })
	// Behind the last that is final there may be others that are not yet, on a database that somebody else uses, too.
	for after, code := range map[int64]fault.Code{-1: fault.Invalid, last + 1<<20: fault.OutOfRange, 1 << 62: fault.OutOfRange} {
		n := 0
		for _, err := range e.store.Changes(t.Context(), after) {
			n++
			wantCode(t, err, code)
		}
		if n != 1 {
			t.Errorf("after %d: %d results, want one error", after, n)
		}
	}
}

func (e *env) changeLoad(t *testing.T) {
	org := e.id("org")
	const writers, each, readers = 8, 15, 3
	var seq int64
	e.view(t, func(ctx context.Context, r store.Reader) { seq, _ = r.LastChange(ctx) })
	logs := make(chan []store.Change, readers)
	for range readers {
		go func() {
			got, _ := e.take(t, seq, org, writers*each)
			logs <- got
		}()
	}
	many(writers, func(int) {
		o := e.object(store.KindZone, org)
		for i := range each {
			err := e.try(t, func(ctx context.Context, tx store.Tx) error {
				if i == 0 {
					return tx.Insert(ctx, o)
				}
				return tx.Update(ctx, o)
			})
			if err != nil {
				t.Errorf("write: %v", err)
			}
		}
	})
	first := <-logs
	for range readers - 1 {
		equal(t, "what another reader sees", <-logs, first)
	}
	revisions := map[string]int64{}
	for _, c := range first {
		if c.Revision != revisions[c.ID]+1 {
			t.Errorf("revision %d of %s follows %d", c.Revision, c.ID, revisions[c.ID])
		}
		revisions[c.ID] = c.Revision
	}
	if len(revisions) != writers {
		t.Errorf("%d objects, want %d", len(revisions), writers)
	}
}

func (e *env) changeEnd(t *testing.T) {
	e.inserted(t, e.object(store.KindZone, e.id("org")))
	ctx, cancel := context.WithCancel(t.Context())
	var errs []error
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, err := range e.store.Changes(ctx, 0) {
			errs = append(errs, err)
			cancel()
		}
	}()
	within(t, "the end of the watch", done)
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		t.Errorf("a watch that is canceled ends with %v", errs)
	}
}
