package control_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestProfileOfEnforcedTestsStays: whatever would end tests that are enforced without saying so is refused: the deletion of their profile, a
// prune, a consolidation, whether or not that deletes the profile. Tests that warn end with it.
func TestProfileOfEnforcedTestsStays(t *testing.T) {
	const file = "tests:\n- {name: max, request: {resources: {cpu: \"1\", memory: 8Gi}}, expect: {verdict: refused}}\n"
	consolidate := func(w *world, remove bool) error {
		_, err := w.svc.ConsolidateProfiles(w.ctx(), w.admin, control.Consolidation{Keep: "agent2", Others: []string{"agent"}, Delete: remove}, control.EditState{})
		return err
	}
	for name, edit := range map[string]func(w *world) error{
		"a consolidation":              func(w *world) error { return consolidate(w, false) },
		"a consolidation that deletes": func(w *world) error { return consolidate(w, true) },
		"a deletion": func(w *world) error {
			w.must(w.bind("east", core.Binding{ProfileID: w.profile.ID, Default: true}))
			return w.svc.DeleteProfile(w.ctx(), w.admin, "agent", control.DeleteOptions{})
		},
		"a prune": func(w *world) error {
			w.must(w.bind("east", core.Binding{ProfileID: w.profile.ID, Default: true}))
			_, err := w.applied(control.Application{Owner: "fleet", Objects: []control.ApplyObject{w.profileObject("agent", agentSpec)}})
			w.must(err)
			_, err = w.applied(control.Application{Owner: "fleet", Prune: true})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "east=eu")
			agent := w.newProfile("agent", agentSpec)
			w.newProfile("agent2", agentSpec)
			w.must(w.bind("east", core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: agent.ID}))
			w.put(file, control.EnforceTests)
			wantFault(t, edit(w), fault.Precondition, fault.ReasonTestsAttached, "profile agent has 1 enforced policy test", "policy_tests[max]", "berm profile tests delete agent")
			if _, err := w.svc.GetPolicyTests(w.ctx(), w.user, "agent", 0); err != nil {
				t.Error(err)
			}
			w.put(file, control.WarnTests)
			w.must(edit(w))
		})
	}
}

// TestUnnamedTestsAndTheDefaultProfile: which profile a launch gets that names none is up to the default binding: the tests of such
// launches are run by edits of that profile, too.
func TestUnnamedTestsAndTheDefaultProfile(t *testing.T) {
	w := newWorld(t, "east=eu", "west=eu")
	agent := w.newProfile("agent", agentSpec)
	base := w.newProfile("base", `{"guardrails":{"resources":{"max_memory":"1Gi"}}}`)
	w.must(w.bind("east", core.Binding{ProfileID: base.ID, Default: true}, core.Binding{ProfileID: agent.ID}))
	w.must(w.bind("west", core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: agent.ID}))
	failing := w.put(`tests:
- name: nobody gets 2Gi on east by saying nothing
  runner: east
  unnamed: true
  request: {resources: {cpu: "1", memory: 2Gi}}
  expect: {verdict: refused}
`, control.EnforceTests)
	if len(failing) > 0 {
		t.Fatal(failing)
	}
	_, _, err := w.svc.UpdateProfile(w.ctx(), w.admin, "base", control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: w.layer(`{}`)}})
	wantFault(t, err, fault.Precondition, fault.ReasonTestsFail, "profile agent, at east: verdict: expected refused")
	if p, err := w.svc.Preview(w.ctx(), w.admin, 0, w.edited("default", `{"tags":["x"]}`)); err != nil || p.TestsSeen != 0 {
		t.Errorf("the default of another runner: %+v, %v", p, err)
	}
}

// TestStartThatBreaksTests: a zone of the command line is no edit that can be refused; the log says what it breaks.
func TestStartThatBreaksTests(t *testing.T) {
	var log bytes.Buffer
	w, _ := testedWorld(t, control.EnforceTests)
	w.close()
	w.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	w.open()
	_, _, err := w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{Defaults: w.layer(`{"guardrails":{"resources":{"max_memory":"2Gi"}}}`)})
	w.must(err)
	_, err = w.svc.Bootstrap(w.ctx(), control.Bootstrap{Runners: []control.LocalRunner{{Name: "west", Zone: "us"}}})
	w.must(err)
	w.close() // nobody writes to the log any more
	if text := log.String(); !strings.Contains(text, "breaks a policy test") || !strings.Contains(text, "of profile agent at west/agent") {
		t.Errorf("%s", text)
	}
}
