package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func contact(t *testing.T, e *env) {
	t.Run("the latest counts", e.contactLatest)
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
	e.wantHeard(t, one, later)
	e.wantHeard(t, two, later)
	e.heard(t, later)
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Heard(ctx, []string{""}, start) }), fault.Invalid)
}
