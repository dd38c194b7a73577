package storetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func leases(t *testing.T, e *env) {
	t.Run("from the beginning to the end", e.leaseLife)
	t.Run("what ended is removed", e.leasesForgotten)
	t.Run("refused", e.leasesRefused)
}

func (e *env) lease(t *testing.T, org string) *core.Lease {
	t.Helper()
	l := &core.Lease{
		ID: e.id("lease"), OrgID: org, Purpose: "training", CreatedBy: "token:ci", UserID: "t1",
		TTL: time.Minute, Grace: 90 * time.Second, CreatedAt: start,
	}
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertLease(ctx, l) })
	return l
}

func (e *env) endLease(t *testing.T, l *core.Lease, state core.LeaseState, at time.Time, want bool) {
	t.Helper()
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		ended, err := tx.EndLease(ctx, l, state, at)
		equal(t, "ended", ended, want)
		return err
	})
}

func (e *env) renew(t *testing.T, org, id string, want bool) {
	t.Helper()
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		renewed, err := tx.RenewLease(ctx, org, id)
		equal(t, "renewed", renewed, want)
		return err
	})
}

// wantLease checks what the store has of a lease, and whether it is among those that have not ended.
func (e *env) wantLease(t *testing.T, want *core.Lease) {
	t.Helper()
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.Lease(ctx, want.OrgID, want.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "lease", got, want)
		for _, org := range []string{want.OrgID, ""} {
			all, err := r.Leases(ctx, org)
			if err != nil {
				t.Fatal(err)
			}
			listed := 0
			for _, l := range all {
				if l.ID == want.ID {
					listed++
					equal(t, "lease in the list", l, want)
				}
			}
			equal(t, "listed", listed == 1, !want.State.Ended())
		}
	})
}

func (e *env) leaseLife(t *testing.T) {
	org := e.id("org")
	l := e.lease(t, org)
	e.wantLease(t, l)
	seen := *l
	e.renew(t, org, l.ID, true)
	l.Renewals++
	e.wantLease(t, l)
	e.endLease(t, &seen, core.LeaseExpired, start.Add(time.Hour), false) // it was renewed since that was read
	e.renew(t, e.id("org"), l.ID, false)
	e.wantLease(t, l)
	e.endLease(t, l, core.LeaseExpired, start.Add(time.Hour), true)
	l.State, l.EndedAt = core.LeaseExpired, start.Add(time.Hour)
	e.wantLease(t, l)
	e.renew(t, org, l.ID, false)
	e.endLease(t, l, core.LeaseReleased, start.Add(2*time.Hour), false) // the first end stays
	e.wantLease(t, l)

	other := e.lease(t, org)
	stale := *other
	e.renew(t, org, other.ID, true)
	e.endLease(t, &stale, core.LeaseReleased, start, true) // who releases need not have seen the last renewal
	other.Renewals, other.State, other.EndedAt = 1, core.LeaseReleased, start
	e.wantLease(t, other)
}

func (e *env) leasesForgotten(t *testing.T) {
	org := e.id("org")
	old, late, live := e.lease(t, org), e.lease(t, org), e.lease(t, org)
	e.endLease(t, old, core.LeaseDropped, start, true)
	e.endLease(t, late, core.LeaseDropped, start.Add(time.Hour), true)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.ForgetLeases(ctx, start.Add(time.Minute)) })
	late.State, late.EndedAt = core.LeaseDropped, start.Add(time.Hour)
	e.wantLease(t, late)
	e.wantLease(t, live)
	e.view(t, func(ctx context.Context, r store.Reader) {
		_, err := r.Lease(ctx, org, old.ID)
		wantCode(t, err, fault.NotFound)
		_, err = r.Lease(ctx, e.id("org"), live.ID)
		wantCode(t, err, fault.NotFound)
	})
}

func (e *env) leasesRefused(t *testing.T) {
	org := e.id("org")
	for name, l := range map[string]*core.Lease{
		"no id":                   {OrgID: org, CreatedAt: start},
		"no organization":         {ID: e.id("lease"), CreatedAt: start},
		"a purpose that is large": {ID: e.id("lease"), OrgID: org, CreatedAt: start, Purpose: strings.Repeat("x", store.MaxNote+1)},
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertLease(ctx, l) }), fault.Invalid)
		})
	}
	l := e.lease(t, org)
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error {
		_, err := tx.EndLease(ctx, l, core.LeaseActive, start)
		return err
	}), fault.Invalid)
	e.wantLease(t, l)
}
