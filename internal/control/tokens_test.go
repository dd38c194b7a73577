package control_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func TestTokens(t *testing.T) {
	w := newWorld(t)
	token, secret, err := w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: "ci", Role: core.RoleUser})
	w.must(err)
	if !strings.HasPrefix(secret, "berm_") || len(secret) != len("berm_")+48 || strings.Contains(secret, token.Hash) {
		t.Errorf("secret %q", secret)
	}
	p, err := w.svc.Authenticate(w.ctx(), secret)
	w.must(err)
	if p != (core.Principal{OrgID: w.admin.OrgID, TokenID: token.ID, Actor: "token:ci", Role: core.RoleUser}) {
		t.Errorf("%+v", p)
	}
	me, err := w.svc.WhoAmI(w.ctx(), p)
	w.must(err)
	if me.Org.Name != control.DefaultOrg || me.Principal != p {
		t.Errorf("%+v", me)
	}
	// The secret is nowhere in the store.
	w.must(w.store.View(w.ctx(), func(r store.Reader) error {
		all, err := r.Tokens(w.ctx(), p.OrgID)
		for _, stored := range all {
			if strings.Contains(secret, stored.Hash) || stored.Hash == secret {
				t.Error("the store has the secret")
			}
		}
		return err
	}))
	all, _, err := w.svc.ListTokens(w.ctx(), w.admin, "", control.Page{})
	w.must(err)
	if len(all) != 2 || all[0].Name != "admin" || all[1].Name != "ci" {
		t.Errorf("%+v", all)
	}
	// Revocation is seen at once, although the token is cached.
	w.must(w.svc.RevokeToken(w.ctx(), w.admin, "", token.ID))
	_, err = w.svc.Authenticate(w.ctx(), secret)
	wantFault(t, err, fault.Unauthenticated, fault.ReasonTokenInvalid)
	w.must(w.svc.RevokeToken(w.ctx(), w.admin, "", token.ID)) // again
	if all, _, _ = w.svc.ListTokens(w.ctx(), w.admin, "", control.Page{}); len(all) != 1 {
		t.Errorf("a revoked token is listed: %+v", all)
	}
	wantFault(t, w.svc.RevokeToken(w.ctx(), w.admin, "", "nobody"), fault.NotFound, "TOKEN_NOT_FOUND")
}

func TestAuthenticateRefuses(t *testing.T) {
	w := newWorld(t)
	_, secret, err := w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: "ci", Role: core.RoleUser})
	w.must(err)
	flipped := []byte(secret)
	flipped[10] ^= 1
	for name, bad := range map[string]string{
		"nothing": "", "prefix alone": "berm_", "another prefix": "bern_" + secret[5:], "changed": string(flipped), "cut": secret[:20],
		"longer": secret + "A", "huge": "berm_" + strings.Repeat("A", 1<<20), "no base64": "berm_" + strings.Repeat("%", 48),
		// Well formed, but of nobody: the checksum of 32 zero bytes is right.
		"of nobody": "berm_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAZCqZW",
	} {
		if _, err := w.svc.Authenticate(w.ctx(), bad); !fault.Is(err, fault.Unauthenticated) || !fault.HasReason(err, fault.ReasonTokenInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.must(w.store.Close())
	if _, err := w.svc.Authenticate(w.ctx(), secret); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a good token while the store is away must not look bad: %v", err)
	}
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, secret, err := w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: "short", Role: core.RoleUser, TTL: time.Hour})
		w.must(err)
		if _, err := w.svc.Authenticate(w.ctx(), secret); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour - time.Second)
		if _, err := w.svc.Authenticate(w.ctx(), secret); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second) // cached, and expired all the same
		if _, err := w.svc.Authenticate(w.ctx(), secret); !fault.HasReason(err, fault.ReasonTokenInvalid) {
			t.Errorf("after its time: %v", err)
		}
	})
}

func TestTokenRolesAndOrganizations(t *testing.T) {
	w := newWorld(t)
	acme := w.otherOrg("acme")
	_, _, err := w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: "up", Role: core.RoleOperator})
	wantFault(t, err, fault.Denied, fault.ReasonRoleMissing)
	_, _, err = w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: "x", Role: "root"})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid)
	_, _, err = w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: "x", Role: core.RoleUser, TTL: -time.Second})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid)
	// To an admin, another organization is a missing one; to the operator it is not.
	_, _, err = w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Org: "acme", Name: "x", Role: core.RoleUser})
	wantFault(t, err, fault.NotFound, "ORG_NOT_FOUND")
	theirs, _, err := w.svc.CreateToken(w.ctx(), w.operator, control.TokenInput{Org: "acme", Name: "x", Role: core.RoleUser})
	w.must(err)
	wantFault(t, w.svc.RevokeToken(w.ctx(), w.admin, "", theirs.ID), fault.NotFound, "TOKEN_NOT_FOUND")
	w.must(w.svc.RevokeToken(w.ctx(), acme, "", theirs.ID))

	orgs, _, err := w.svc.ListOrgs(w.ctx(), w.operator, control.Page{})
	w.must(err)
	mine, _, err := w.svc.ListOrgs(w.ctx(), acme, control.Page{})
	w.must(err)
	if len(orgs) != 2 || len(mine) != 1 || mine[0].Name != "acme" {
		t.Errorf("operator sees %d, acme sees %v", len(orgs), mine)
	}
	_, err = w.svc.CreateOrg(w.ctx(), w.operator, "acme")
	wantFault(t, err, fault.Exists, "ORG_EXISTS")
	_, err = w.svc.CreateOrg(w.ctx(), w.operator, "not a name")
	wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid)
}

func TestNoTokenWithoutRandomness(t *testing.T) {
	w := newWorldWith(t, control.Config{}, fake.Config{})
	cfg := w.cfg
	cfg.Store, cfg.Random = w.store, brokenRandom{}
	svc := control.New(w.ctx(), cfg)
	defer svc.Close()
	if _, _, err := svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: "x", Role: core.RoleUser}); !fault.Is(err, fault.Internal) {
		t.Errorf("%v", err)
	}
}

type brokenRandom struct{}

func (brokenRandom) Read([]byte) (int, error) { return 0, errors.New("no entropy") }
