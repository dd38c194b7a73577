package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// objectOwners: the last set counts; an owner goes with its object, and is one organization's.
func (e *env) objectOwners(t *testing.T) {
	org := e.id("org")
	one, two := e.inserted(t, e.object(store.KindProfile, org)), e.inserted(t, e.object(store.KindZone, org))
	own := func(o *store.Object, owner string, at time.Time) store.Owner {
		t.Helper()
		set := store.Owner{Kind: o.Kind, ID: o.ID, Owner: owner, By: "token:a", At: at}
		e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.SetOwner(ctx, org, set) })
		return set
	}
	want := func(org string, want ...store.Owner) {
		t.Helper()
		e.view(t, func(ctx context.Context, r store.Reader) {
			got, err := r.Owners(ctx, org)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "owners", got, want)
		})
	}
	want(org)
	first := own(one, "a", start)
	second := own(two, "a", start)
	want(org, first, second)
	first = own(one, "b", start.Add(time.Hour))
	want(org, first, second)
	want(e.id("org"))
	for _, missing := range []store.Owner{{Kind: store.KindZone, ID: one.ID}, {Kind: store.KindZone, ID: "nothing"}} {
		missing.Owner, missing.At = "a", start
		wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.SetOwner(ctx, org, missing) }), fault.NotFound)
	}
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error {
		return tx.SetOwner(ctx, e.id("org"), store.Owner{Kind: one.Kind, ID: one.ID, Owner: "a", At: start})
	}), fault.NotFound)
	wantCode(t, e.try(t, func(ctx context.Context, tx store.Tx) error {
		return tx.SetOwner(ctx, org, store.Owner{Kind: one.Kind, ID: one.ID, At: start})
	}), fault.Invalid)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Delete(ctx, one) })
	want(org, second)
}
