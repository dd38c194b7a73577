package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func contact(t *testing.T, e *env) {
	t.Run("the latest counts", e.contactLatest)
	t.Run("of runners that are no more", e.contactForgotten)
	t.Run("traffic of a sandbox", e.traffic)
}

func (e *env) heard(t *testing.T, at time.Time, runners ...string) {
	t.Helper()
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Heard(ctx, runners, at) })
}

func (e *env) wantHeard(t *testing.T, runner string, want time.Time) {
	t.Helper()
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.HeardAt(ctx, runner)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "heard", got, want)
	})
}

func (e *env) contactLatest(t *testing.T) {
	one, two := e.id("runner"), e.id("runner")
	e.wantHeard(t, one, time.Time{})
	e.heard(t, start, one)
	e.wantHeard(t, one, start)
	e.wantHeard(t, two, time.Time{})
	later := start.Add(time.Nanosecond)
	e.heard(t, later, two, one)
	e.heard(t, start, one, two)
	e.wantHeard(t, one, later.Add(time.Nanosecond)) // news, by a clock that is behind
	e.wantHeard(t, two, later.Add(time.Nanosecond))
	e.heard(t, later)
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Heard(ctx, []string{""}, start) }), fault.Invalid)
}

func (e *env) contactForgotten(t *testing.T) {
	r := e.inserted(t, e.object(store.KindRunner, e.id("org")))
	stays := e.inserted(t, e.object(store.KindRunner, e.id("org")))
	forget := func() {
		t.Helper()
		e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.ForgetContacts(ctx) })
	}
	for _, id := range []string{r.ID, stays.ID} {
		e.heard(t, start, id)
		e.hold(t, id, "a server", "one process", "")
	}
	forget()
	e.wantHeard(t, r.ID, start)
	e.hold(t, r.ID, "another server", "another process", "a server")
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Delete(ctx, r) })
	e.wantHeard(t, r.ID, start)
	forget()
	e.wantHeard(t, r.ID, time.Time{})
	e.hold(t, r.ID, "another server", "another process", "")
	e.wantHeard(t, stays.ID, start)
	e.hold(t, stays.ID, "another server", "another process", "a server")
	forget()
}

func (e *env) traffic(t *testing.T) {
	s := e.launched(t, e.sandbox(e.id("org")))
	want := func(at time.Time) {
		t.Helper()
		e.view(t, func(ctx context.Context, r store.Reader) {
			ids := make([]string, 2500) // more than there is room for in one query
			for i := range ids {
				ids[i] = fmt.Sprint("nothing ", i)
			}
			ids[2100] = s.ID
			got, err := r.BusyAt(ctx, ids...)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "busy", got[s.ID], at)
			if _, told := got[s.ID]; len(got) > 1 || told == at.IsZero() {
				t.Errorf("%v, want what %s has alone", got, s.ID)
			}
			if got, err := r.BusyAt(ctx); err != nil || len(got) != 0 {
				t.Errorf("of none: %v %v", got, err)
			}
		})
	}
	busy := func(at time.Time) {
		t.Helper()
		e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Busy(ctx, s.ID, at) })
	}
	want(time.Time{})
	later := start.Add(time.Second)
	busy(later)
	busy(start)
	want(later)
	s.Status, s.EndedAt = core.StatusFailed, later
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.UpdateSandbox(ctx, s) })
	busy(later.Add(time.Second)) // it has ended
	want(later)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.DeleteSandbox(ctx, s.OrgID, s.ID) })
	want(time.Time{})
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Busy(ctx, "", start) }), fault.Invalid)
}
