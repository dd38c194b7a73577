package control_test

import (
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

func TestBootstrap(t *testing.T) {
	w := newWorld(t, "local")
	v, err := w.svc.GetRunner(w.ctx(), w.user, "local")
	w.must(err)
	if v.Runner.Zone != "local" || v.Runner.ClusterName != "local-local" || len(v.Runner.Bindings) != 1 || !v.Runner.Bindings[0].Default || v.BindingNames[0] != "default" {
		t.Errorf("%+v", v.Runner)
	}
	if got := w.profile.Spec.String(); got != `{"containerImage":"host","network":{"egress":{"default":"none","modes":{"none":{"type":"none"}}}}}` {
		t.Errorf("the default profile: %s", got)
	}
	if w.operator.Role != core.RoleOperator || w.operator.Actor != "token:admin" {
		t.Errorf("%+v", w.operator)
	}
	w.running(nil)
}

func TestBootstrapAgain(t *testing.T) {
	w := newWorld(t, "a")
	boot := func(secret string, runners ...control.LocalRunner) *control.Bootstrapped {
		out, err := w.svc.Bootstrap(w.ctx(), control.Bootstrap{Runners: runners, AdminSecret: secret})
		w.must(err)
		return out
	}
	first := boot("", control.LocalRunner{Name: "a"})
	if first.AdminSecret == "" || first.Runners[0].ID != w.runners["a"].ID || first.Runners[0].Revision != 1 {
		t.Errorf("%+v", first.Runners[0])
	}
	// A secret that is valid stays; one that was lost is replaced, and the lost one is no longer valid.
	if again := boot(first.AdminSecret); again.AdminSecret != "" {
		t.Error("a valid token was replaced")
	}
	second := boot("berm_garbage")
	if _, err := w.svc.Authenticate(w.ctx(), second.AdminSecret); err != nil {
		t.Error(err)
	}
	if _, err := w.svc.Authenticate(w.ctx(), first.AdminSecret); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("the lost token: %v", err)
	}
	// What people changed stays, except for a zone that the command line names.
	w.editProfile("default", `{"container_image":"host","tags":["mine"]}`)
	moved := boot(second.AdminSecret, control.LocalRunner{Name: "a", Zone: "us"}, control.LocalRunner{Name: "b", Zone: "eu"}, control.LocalRunner{Name: "c"})
	if moved.Runners[0].Zone != "us" || moved.Runners[0].Revision != 2 || moved.Runners[1].Zone != "eu" || moved.Runners[2].Zone != "local" {
		t.Errorf("%+v %+v %+v", moved.Runners[0], moved.Runners[1], moved.Runners[2])
	}
	if kept := boot(second.AdminSecret, control.LocalRunner{Name: "a"}); kept.Runners[0].Zone != "us" {
		t.Errorf("%+v", kept.Runners[0])
	}
	p, err := w.svc.GetProfile(w.ctx(), w.user, "default")
	w.must(err)
	if p.Revision != 2 {
		t.Errorf("the profile was written again: revision %d", p.Revision)
	}
	// Without the profile a new runner gets a new one.
	for _, r := range []string{"a", "b", "c"} {
		w.must(w.svc.DeleteRunner(w.ctx(), w.admin, r, control.DeleteOptions{}))
	}
	w.must(w.svc.DeleteProfile(w.ctx(), w.admin, "default", control.DeleteOptions{}))
	if back := boot(second.AdminSecret, control.LocalRunner{Name: "a"}); back.Runners[0].Bindings[0].ProfileID == p.ID {
		t.Error("a deleted profile is bound")
	}
	_, err = w.svc.Bootstrap(w.ctx(), control.Bootstrap{Runners: []control.LocalRunner{{Name: "not a name"}}, AdminSecret: second.AdminSecret})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}

// TestBootstrapOfPlaces: data directories that share a database leave each other's runners and tokens alone.
func TestBootstrapOfPlaces(t *testing.T) {
	w := newWorld(t, "a")
	boot := func(place, secret, runner string) (*control.Bootstrapped, error) {
		return w.svc.Bootstrap(w.ctx(), control.Bootstrap{Place: place, AdminSecret: secret, Runners: []control.LocalRunner{{Name: runner}}})
	}
	one, err := boot("1111111111111111", "", "one")
	w.must(err)
	two, err := boot("2222222222222222", "", "two")
	w.must(err)
	for _, secret := range []string{one.AdminSecret, two.AdminSecret} {
		if _, err := w.svc.Authenticate(w.ctx(), secret); err != nil {
			t.Errorf("a token of a place that started earlier: %v", err)
		}
	}
	again, err := boot("1111111111111111", one.AdminSecret, "one")
	w.must(err)
	if again.AdminSecret != "" || again.Runners[0].ID != one.Runners[0].ID {
		t.Errorf("a second start of a place: %+v", again)
	}
	// What runs on a runner is at its place: elsewhere it would be missed, and called lost.
	for _, runner := range []string{"one", "a"} {
		if _, err := boot("2222222222222222", two.AdminSecret, runner); !fault.HasReason(err, "RUNNER_ELSEWHERE") {
			t.Errorf("runner %s, of another place: %v", runner, err)
		}
	}
	// A secret that a place lost is replaced, and only that.
	if _, err := boot("1111111111111111", "", "one"); err != nil {
		t.Error(err)
	}
	if _, err := w.svc.Authenticate(w.ctx(), one.AdminSecret); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("the lost token: %v", err)
	}
	if _, err := w.svc.Authenticate(w.ctx(), two.AdminSecret); err != nil {
		t.Errorf("another place's token: %v", err)
	}
}
