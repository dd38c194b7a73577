package control_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// lines writes a diff as PATH: OLD -> NEW (MEANING).
func lines(d *control.Diff) string {
	var b strings.Builder
	for _, c := range d.Changes {
		fmt.Fprintf(&b, "%s: %s -> %s (%s)\n", c.Path, c.Old, c.New, c.Meaning())
	}
	return b.String()
}

func TestDiff(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", `{"tags":["a"],"resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"},"guardrails":{"lifetime":{"max_seconds":60}}}`)
	w.editProfile("agent", `{"tags":null,"resource_defaults":{"cpu_limit":"1000m","memory_limit":"512Mi","cpu_request":"1"},"guardrails":{"lifetime":{"max_seconds":90}}}`)
	diff := func(q control.DiffQuery, want string) {
		t.Helper()
		d, err := w.svc.DiffProfiles(w.ctx(), w.user, q)
		w.must(err)
		if got := lines(d); got != want {
			t.Errorf("%+v:\n%swant\n%s", q, got, want)
		}
	}
	last := `spec.guardrails.lifetime.max_seconds: 60 -> 90 (raised)
spec.resource_defaults.cpu_limit: "1" -> "1000m" (the same amount in other words)
spec.resource_defaults.cpu_request:  -> "1" (stated: hides what lies beneath)
spec.resource_defaults.memory_limit: "1Gi" -> "512Mi" (lowered)
spec.tags: ["a"] -> null (cleared: nothing from beneath shows through)
`
	diff(control.DiffQuery{ID: "agent"}, last)
	diff(control.DiffQuery{ID: agent.ID, From: 1, To: 2}, last)
	diff(control.DiffQuery{ID: "agent", From: 2, To: 2}, "")
	diff(control.DiffQuery{ID: "agent", To: 1}, strings.Join([]string{
		"spec.guardrails.lifetime.max_seconds:  -> 60 (stated: hides what lies beneath)", `spec.resource_defaults.cpu_limit:  -> "1" (stated: hides what lies beneath)`,
		`spec.resource_defaults.memory_limit:  -> "1Gi" (stated: hides what lies beneath)`, `spec.tags:  -> ["a"] (stated: hides what lies beneath)`, "",
	}, "\n"))
	w.newProfile("other", `{"tags":["a"],"resource_defaults":{"cpu_limit":"1","memory_limit":"2Gi"},"guardrails":{"lifetime":{"max_seconds":60}}}`)
	diff(control.DiffQuery{ID: "agent", OtherID: "other", From: 1}, "spec.resource_defaults.memory_limit: \"1Gi\" -> \"2Gi\" (raised)\n")

	_, err := w.svc.DiffProfiles(w.ctx(), w.user, control.DiffQuery{ID: "agent", From: 7})
	wantFault(t, err, fault.NotFound, fault.ReasonRevisionNotFound, "no revision 7", "1 to 2")
	_, err = w.svc.DiffProfiles(w.ctx(), w.user, control.DiffQuery{ID: "nobody"})
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound)
	_, err = w.svc.DiffProfiles(w.ctx(), w.otherOrg("other"), control.DiffQuery{ID: agent.ID})
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound)
}

func TestDiffOfRunnerAndZone(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", `{}`)
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID}, core.Binding{ProfileID: agent.ID, Default: true, Warm: 2, Overrides: w.layer(`{"tags":["x"]}`)}))
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true, Alias: "plain"}))
	w.must(w.svc.DeleteProfile(w.ctx(), w.admin, "agent", control.DeleteOptions{}))
	d, err := w.svc.DiffRunners(w.ctx(), w.user, control.DiffQuery{ID: "r1"})
	w.must(err)
	want := `profile_bindings[agent].is_default: true ->  (removed)
profile_bindings[agent].overrides.tags: ["x"] ->  (not stated any more: what lies beneath shows through)
profile_bindings[agent].profile: "agent" ->  (removed)
profile_bindings[agent].warm.size: 2 ->  (removed)
profile_bindings[default].profile: "default" ->  (removed)
profile_bindings[plain].is_default:  -> true (added)
profile_bindings[plain].profile:  -> "default" (added)
`
	if got := lines(d); got != want {
		t.Errorf("%swant\n%s", got, want)
	}
	for _, text := range []string{`{"tags":["a"]}`, `{"tags":["b"]}`} {
		_, _, err := w.svc.PutZone(w.ctx(), w.admin, "z", control.ZoneInput{Defaults: w.layer(text), Reason: text})
		w.must(err)
	}
	d, err = w.svc.DiffZones(w.ctx(), w.user, control.DiffQuery{ID: "z"})
	w.must(err)
	if got := lines(d); got != "defaults.tags: [\"a\"] -> [\"b\"] (replaced)\n" {
		t.Error(got)
	}
	revisions, _, err := w.svc.ZoneRevisions(w.ctx(), w.user, "z", control.Page{})
	w.must(err)
	if len(revisions) != 2 || revisions[0].Zone.Reason != `{"tags":["b"]}` {
		t.Errorf("%+v", revisions)
	}
}

// TestRollback: an earlier state comes back as a new revision, or is refused as if somebody had written it now.
func TestRollback(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", `{"resource_defaults":{"memory_limit":"1Gi"}}`)
	w.editProfile("agent", `{"resource_defaults":{"memory_limit":"2Gi"}}`)
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID}, core.Binding{ProfileID: agent.ID, Default: true}))
	p, _, err := w.svc.RollbackProfile(w.ctx(), w.admin, "agent", 1, control.EditState{})
	w.must(err)
	if p.Revision != 3 || p.Spec.String() != agent.Spec.String() || p.Reason != "rollback to revision 1" {
		t.Errorf("%+v %s", p.Meta, p.Spec)
	}
	if sb := w.launch(nil); sb.ProfileRevision != 3 {
		t.Errorf("the next launch used revision %d", sb.ProfileRevision)
	}
	again, _, err := w.svc.RollbackProfile(w.ctx(), w.admin, "agent", 1, control.EditState{Etag: control.Etag(p.Meta)})
	w.must(err)
	if again.Revision != 3 {
		t.Errorf("going back to what is there made revision %d", again.Revision)
	}
	for revision, reason := range map[int32]string{0: fault.ReasonFieldInvalid, -1: fault.ReasonFieldInvalid, 9: fault.ReasonRevisionNotFound} {
		if _, _, err := w.svc.RollbackProfile(w.ctx(), w.admin, "agent", revision, control.EditState{}); !fault.HasReason(err, reason) {
			t.Errorf("revision %d: %v", revision, err)
		}
	}
	_, _, err = w.svc.RollbackProfile(w.ctx(), w.admin, "agent", 2, control.EditState{Etag: "stale"})
	wantFault(t, err, fault.Conflict, fault.ReasonEtagMismatch)
	_, _, err = w.svc.RollbackProfile(w.ctx(), w.user, "agent", 2, control.EditState{})
	wantFault(t, err, fault.Denied, fault.ReasonRoleMissing)

	v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	bound := v.Runner.Revision
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true}))
	w.must(w.svc.DeleteProfile(w.ctx(), w.admin, "agent", control.DeleteOptions{}))
	_, _, err = w.svc.RollbackRunner(w.ctx(), w.admin, "r1", bound, control.EditState{})
	wantFault(t, err, fault.Invalid, fault.ReasonBindingsInvalid, agent.ID+" does not exist")
	v, _, err = w.svc.RollbackRunner(w.ctx(), w.admin, "r1", 1, control.EditState{Reason: "as it was"})
	w.must(err)
	if v.Runner.Reason == "as it was" { // the list was the same already: nothing is written
		t.Errorf("%+v", v.Runner.Meta)
	}
	_, _, err = w.svc.RollbackProfile(w.ctx(), w.admin, "agent", 1, control.EditState{})
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound)

	for _, text := range []string{`{"tags":["a"]}`, `{"tags":["b"]}`} {
		_, _, err := w.svc.PutZone(w.ctx(), w.admin, "z", control.ZoneInput{Defaults: w.layer(text)})
		w.must(err)
	}
	z, _, err := w.svc.RollbackZone(w.ctx(), w.admin, "z", 1, control.EditState{})
	w.must(err)
	if z.Revision != 3 || z.Defaults.String() != `{"tags":["a"]}` {
		t.Errorf("%+v %s", z.Meta, z.Defaults)
	}
}
