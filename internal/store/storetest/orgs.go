package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func orgs(t *testing.T, e *env) {
	b := &core.Org{ID: e.id("org"), Name: "b", CreatedAt: start}
	a := &core.Org{ID: e.id("org"), Name: "a", CreatedAt: start.Add(time.Hour)}
	insert := func(o *core.Org) error {
		return e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertOrg(ctx, o) })
	}
	for _, o := range []*core.Org{b, a} {
		if err := insert(o); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, insert(&core.Org{ID: e.id("org"), Name: "a", CreatedAt: start}), fault.Exists)
	wantCode(t, insert(&core.Org{ID: a.ID, Name: "c", CreatedAt: start}), fault.Exists)
	wantCode(t, insert(&core.Org{ID: e.id("org")}), fault.Invalid)
	e.view(t, func(ctx context.Context, r store.Reader) {
		all, err := r.Orgs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "organizations", all, []*core.Org{a, b})
		got, err := r.Org(ctx, a.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "by id", got, a)
		if got, err = r.OrgByName(ctx, "b"); err != nil {
			t.Fatal(err)
		}
		equal(t, "by name", got, b)
		_, err = r.Org(ctx, "nothing")
		wantCode(t, err, fault.NotFound)
		_, err = r.OrgByName(ctx, "B")
		wantCode(t, err, fault.NotFound)
	})
	t.Run("tokens", func(t *testing.T) { e.tokens(t, a.ID, b.ID) })
}

func (e *env) tokens(t *testing.T, org, other string) {
	token := func(name, hash string) *core.Token {
		return &core.Token{ID: e.id("token"), OrgID: org, Name: name, Role: core.RoleAdmin, Hash: hash, CreatedAt: start, CreatedBy: "token:root", RunnerUUID: "runner of " + name, Identity: "machine of " + name}
	}
	insert := func(k *core.Token) error {
		return e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.InsertToken(ctx, k) })
	}
	revoke := func(org, id string, at time.Time) error {
		return e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.RevokeToken(ctx, org, id, at) })
	}
	ci, dev, foreign := token("ci", "h1"), token("dev", "h2"), token("ci", "h3")
	ci.ExpiresAt = start.Add(time.Hour)
	foreign.OrgID = other
	for _, k := range []*core.Token{dev, ci, foreign} {
		if err := insert(k); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, insert(token("x", "h1")), fault.Exists)
	again := token("x", "h9")
	again.ID = ci.ID
	wantCode(t, insert(again), fault.Exists)
	nowhere := token("x", "h8")
	nowhere.OrgID = "nothing"
	wantCode(t, insert(nowhere), fault.NotFound)

	wantCode(t, revoke(other, ci.ID, start), fault.NotFound)
	wantCode(t, revoke(org, "nothing", start), fault.NotFound)
	wantCode(t, revoke(org, ci.ID, time.Time{}), fault.Invalid)
	for _, at := range []time.Time{start.Add(time.Minute), start.Add(time.Hour)} {
		if err := revoke(org, ci.ID, at); err != nil {
			t.Fatal(err)
		}
	}
	ci.RevokedAt = start.Add(time.Minute)
	e.view(t, func(ctx context.Context, r store.Reader) {
		all, err := r.Tokens(ctx, org)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "tokens", all, []*core.Token{ci, dev})
		for _, k := range []*core.Token{ci, dev, foreign} {
			got, err := r.TokenByHash(ctx, k.Hash)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "by hash", got, k)
			got, err = r.TokenByID(ctx, k.ID)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "by id", got, k)
		}
		_, err = r.TokenByHash(ctx, "H1")
		wantCode(t, err, fault.NotFound)
		_, err = r.TokenByID(ctx, "none")
		wantCode(t, err, fault.NotFound)
	})
}
