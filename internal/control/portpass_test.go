package control_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestPortLinkTime: a link is good for a minute, what a browser got for it for twelve hours, and neither for longer than the token.
func TestPortLinkTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, control.Config{PortLink: func(_ string, _ int32, pass string) (string, error) { return "link " + pass, nil }}, fake.Config{})
		id := w.running(&specpb.Launch{Command: "sleep", Args: []string{"infinity"}}).ID
		link := func(p core.Principal) string {
			t.Helper()
			text, until, err := w.svc.PortLink(w.ctx(), p, id, 80)
			w.must(err)
			if left := time.Until(until); left != control.PortLinkTTL {
				t.Errorf("the link is said to be good for %s", left)
			}
			return strings.TrimPrefix(text, "link ")
		}
		token := func(name string, ttl time.Duration) core.Principal {
			t.Helper()
			_, secret, err := w.svc.CreateToken(w.ctx(), w.admin, control.TokenInput{Name: name, Role: core.RoleUser, TTL: ttl})
			w.must(err)
			p, err := w.svc.Authenticate(w.ctx(), secret)
			w.must(err)
			return p
		}
		long, short := token("long", 0), token("short", time.Hour)
		late := link(long)
		time.Sleep(control.PortLinkTTL)
		_, _, err := w.svc.EnterPort(w.ctx(), late, id, 80)
		wantFault(t, err, fault.Unauthenticated, fault.ReasonTokenInvalid)

		first := link(long)
		time.Sleep(control.PortLinkTTL - 2*time.Second)
		p, browser, err := w.svc.EnterPort(w.ctx(), first, id, 80)
		w.must(err)
		if p != long {
			t.Errorf("whoever follows is %+v", p)
		}
		_, _, err = w.svc.EnterPort(w.ctx(), first, id, 80)
		wantFault(t, err, fault.Unauthenticated, fault.ReasonTokenInvalid)
		_, brief, err := w.svc.EnterPort(w.ctx(), link(short), id, 80)
		w.must(err)

		time.Sleep(time.Hour)
		_, err = w.svc.PortPass(w.ctx(), brief, id, 80)
		wantFault(t, err, fault.Unauthenticated, fault.ReasonTokenInvalid)
		time.Sleep(control.PortPassTTL - time.Hour - time.Second)
		if p, err := w.svc.PortPass(w.ctx(), browser, id, 80); err != nil || p != long {
			t.Errorf("%+v, %v", p, err)
		}
		time.Sleep(2 * time.Second)
		_, err = w.svc.PortPass(w.ctx(), browser, id, 80)
		wantFault(t, err, fault.Unauthenticated, fault.ReasonTokenInvalid)
	})
}
