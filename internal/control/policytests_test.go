package control_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/policyfile"
	"github.com/bermhq/berm/internal/store"
)

// agentTests hold for the profile that testedWorld makes.
const agentTests = `tests:
- name: defaults
  expect: {verdict: admitted, values: {resource_defaults.memory_limit: 1Gi}, origins: {resource_defaults.memory_limit: profile}}
- name: no more than the maximum
  request: {resources: {cpu: "1", memory: 8Gi}}
  expect: {verdict: refused, reason: GUARDRAIL_VIOLATED, path: resource_limits.memory, layer: profile}
- name: default of west
  runner: west
  unnamed: true
  expect: {verdict: admitted}
`

const agentSpec = `{"resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"},"guardrails":{"resources":{"max_memory":"4Gi"}}}`

// put attaches tests to the profile agent.
func (w *world) put(file string, mode control.TestMode) []string {
	w.Helper()
	tests, err := policyfile.Parse([]byte(file))
	w.must(err)
	_, warnings, err := w.svc.PutPolicyTests(w.ctx(), w.admin, "agent", control.PolicyTestsInput{File: file, Tests: tests, Mode: mode})
	w.must(err)
	return warnings
}

// testedWorld has a profile agent that east and west bind, the latter as its default, with tests.
func testedWorld(t *testing.T, mode control.TestMode) (*world, *core.Profile) {
	w := newWorld(t, "east=eu", "west=eu")
	agent := w.newProfile("agent", agentSpec)
	w.must(w.bind("east", core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: agent.ID}))
	w.must(w.bind("west", core.Binding{ProfileID: w.profile.ID}, core.Binding{ProfileID: agent.ID, Default: true}))
	if failing := w.put(agentTests, mode); len(failing) > 0 {
		t.Fatal(failing)
	}
	return w, agent
}

// breakers are edits that break agentTests, with what is said of each. before, when not nil, prepares.
func breakers() map[string]struct {
	before func(w *world, agent *core.Profile)
	edit   func(ctx context.Context, w *world, agent *core.Profile) ([]string, error)
	says   string
} {
	binding := func(w *world, text string) control.BindingPatch {
		return control.BindingPatch{Mask: []string{"overrides_json"}, Binding: core.Binding{Overrides: w.layer(text)}}
	}
	none := control.EditState{}
	const bigger = `{"resource_defaults":{"memory_limit":"2Gi"}}`
	type breaker = struct {
		before func(w *world, agent *core.Profile)
		edit   func(ctx context.Context, w *world, agent *core.Profile) ([]string, error)
		says   string
	}
	return map[string]breaker{
		"a profile": {nil, func(ctx context.Context, w *world, _ *core.Profile) ([]string, error) {
			_, warnings, err := w.svc.UpdateProfile(ctx, w.admin, "agent", control.ProfilePatch{Mask: []string{"spec.resource_defaults.memory_limit"}, Profile: control.ProfileInput{Spec: w.layer(bigger)}})
			return warnings, err
		}, `value of resource_defaults.memory_limit: expected 1Gi, is 2Gi (profile agent revision 2)`},
		"an override": {nil, func(ctx context.Context, w *world, _ *core.Profile) ([]string, error) {
			_, warnings, err := w.svc.UpdateBinding(ctx, w.admin, "east", "agent", binding(w, bigger), none)
			return warnings, err
		}, `is 2Gi (binding east/agent revision 3, over 1Gi of profile agent revision 1)`},
		"a binding more": {nil, func(ctx context.Context, w *world, agent *core.Profile) ([]string, error) {
			_, warnings, err := w.svc.AddBinding(ctx, w.admin, "east", core.Binding{ProfileID: agent.ID, Alias: "big", Overrides: w.layer(bigger)}, none)
			return warnings, err
		}, `east/big`},
		"the defaults of a zone": {nil, func(ctx context.Context, w *world, _ *core.Profile) ([]string, error) {
			_, warnings, err := w.svc.PutZone(ctx, w.admin, "eu", control.ZoneInput{Defaults: w.layer(`{"guardrails":{"resources":{"max_memory":"2Gi"}}}`)})
			return warnings, err
		}, `by layer zone`},
		"another zone": {func(w *world, _ *core.Profile) {
			_, _, err := w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{Defaults: w.layer(`{"guardrails":{"resources":{"max_memory":"2Gi"}}}`)})
			w.must(err)
		}, func(ctx context.Context, w *world, _ *core.Profile) ([]string, error) {
			_, warnings, err := w.svc.UpdateRunner(ctx, w.admin, "west", control.RunnerPatch{Mask: []string{"identity.zone"}, Runner: control.RunnerInput{Zone: "us"}})
			return warnings, err
		}, `by layer zone`},
		"another default": {nil, func(ctx context.Context, w *world, _ *core.Profile) ([]string, error) {
			_, warnings, err := w.svc.SetDefaultBinding(ctx, w.admin, "west", "default", none)
			return warnings, err
		}, `the default binding is default of profile default`},
		"a binding less": {nil, func(ctx context.Context, w *world, _ *core.Profile) ([]string, error) {
			_, warnings, err := w.svc.RemoveBinding(ctx, w.admin, "west", "agent", "default", none)
			return warnings, err
		}, `no runner of that id binds the profile`},
		"a new runner": {nil, func(ctx context.Context, w *world, agent *core.Profile) ([]string, error) {
			_, warnings, err := w.svc.CreateRunner(ctx, w.admin, control.RunnerInput{
				RunnerID: "north", Zone: "eu", ClusterName: "n", Bindings: []core.Binding{{ProfileID: agent.ID, Default: true, Overrides: w.layer(bigger)}},
			})
			return warnings, err
		}, `north/agent`},
		"the rollback of a profile": {func(w *world, _ *core.Profile) {
			w.editProfile("agent", strings.ReplaceAll(agentSpec, "1Gi", "3Gi"))
			w.editProfile("agent", agentSpec)
		}, func(ctx context.Context, w *world, _ *core.Profile) ([]string, error) {
			_, warnings, err := w.svc.RollbackProfile(ctx, w.admin, "agent", 2, none)
			return warnings, err
		}, `expected 1Gi, is 3Gi (profile agent revision 4)`},
		"the rollback of a runner": {nil, func(ctx context.Context, w *world, _ *core.Profile) ([]string, error) {
			_, warnings, err := w.svc.RollbackRunner(ctx, w.admin, "west", 1, none)
			return warnings, err
		}, `no runner of that id binds the profile`},
		"the rollback of a zone": {func(w *world, _ *core.Profile) {
			for _, text := range []string{`{"guardrails":{"resources":{"max_memory":"2Gi"}}}`, `{}`} {
				_, _, err := w.svc.PutZone(w.ctx(), w.admin, "eu", control.ZoneInput{Defaults: w.layer(text)})
				w.must(err)
			}
		}, func(ctx context.Context, w *world, _ *core.Profile) ([]string, error) {
			_, warnings, err := w.svc.RollbackZone(ctx, w.admin, "eu", 1, none)
			return warnings, err
		}, `by layer zone`},
	}
}

// TestEditsThatBreakTests: whatever the edit, one that breaks a test is refused as a whole, with the test, what is and who states it.
func TestEditsThatBreakTests(t *testing.T) {
	for name, b := range breakers() {
		t.Run(name, func(t *testing.T) {
			w, agent := testedWorld(t, control.WarnTests)
			if b.before != nil {
				b.before(w, agent)
			}
			w.put(agentTests, control.EnforceTests)
			before := w.configuration()
			_, err := b.edit(w.ctx(), w, agent)
			wantFault(t, err, fault.Precondition, fault.ReasonTestsFail, b.says, "of profile agent", "berm profile tests put")
			if f := fault.From(err); err != nil && (len(f.Fields) == 0 || !strings.HasPrefix(f.Fields[0].Path, "policy_tests[")) {
				t.Errorf("%+v", f.Fields)
			}
			if after := w.configuration(); after != before {
				t.Errorf("a refused edit wrote\n%s\nbefore\n%s", after, before)
			}
			w.put(agentTests, control.WarnTests)
			warnings, err := b.edit(w.ctx(), w, agent)
			w.must(err)
			if text := strings.Join(warnings, "\n"); !strings.Contains(text, b.says) || !strings.Contains(text, "fails with the edit") {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

// configuration lists the objects of the organization with their revisions.
func (w *world) configuration() string {
	w.Helper()
	var b strings.Builder
	w.must(w.store.View(w.ctx(), func(r store.Reader) error {
		for _, kind := range []store.Kind{store.KindZone, store.KindProfile, store.KindRunner} {
			list, _, err := r.Objects(w.ctx(), kind, w.admin.OrgID, store.Page{Size: 100})
			if err != nil {
				return err
			}
			for _, o := range list {
				fmt.Fprintf(&b, "%s %s %d\n", o.Kind, o.Name, o.Revision)
			}
		}
		return nil
	}))
	return b.String()
}

// TestDeleteRunnerOfTest: a runner that a test names cannot be deleted, one that it does not can.
func TestDeleteRunnerOfTest(t *testing.T) {
	w, _ := testedWorld(t, control.EnforceTests)
	w.must(w.svc.DeleteRunner(w.ctx(), w.admin, "east", control.DeleteOptions{}))
	err := w.svc.DeleteRunner(w.ctx(), w.admin, "west", control.DeleteOptions{})
	wantFault(t, err, fault.Precondition, fault.ReasonTestsFail, "default of west")
	if _, err := w.svc.GetRunner(w.ctx(), w.admin, "west"); err != nil {
		t.Error(err)
	}
}

// TestEditsBesideTests: edits that break nothing pass, and what machines do is no edit.
func TestEditsBesideTests(t *testing.T) {
	w, agent := testedWorld(t, control.EnforceTests)
	if warnings := w.editProfile("agent", strings.Replace(agentSpec, `"cpu_limit":"1"`, `"cpu_limit":"2"`, 1)); len(warnings) > 0 {
		t.Error(warnings)
	}
	_, err := w.svc.CordonRunner(w.ctx(), w.admin, "west", control.EditState{})
	w.must(err)
	_, _, err = w.svc.UpdateBinding(w.ctx(), w.admin, "west", "agent", control.BindingPatch{Mask: []string{"warm"}, Binding: core.Binding{Warm: 1}}, control.EditState{})
	w.must(err)
	w.editProfile("default", `{"resource_defaults":{"memory_limit":"7Gi"}}`)
	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "elsewhere", control.ZoneInput{Defaults: w.layer(`{"guardrails":{"resources":{"max_memory":"1Mi"}}}`)})
	w.must(err)
	results, err := w.svc.RunPolicyTests(w.ctx(), w.admin, agent.ID, control.TestRun{})
	w.must(err)
	if text := outcomes(results); text != "passed east/agent, passed west/agent, passed east/agent, passed west/agent, passed west" {
		t.Error(text)
	}
}

func outcomes(results []policy.Result) string {
	var parts []string
	for i := range results {
		parts = append(parts, string(results[i].Outcome)+" "+results[i].Where())
	}
	return strings.Join(parts, ", ")
}

// TestTestBeforeEdit: a test may be attached before the edit that it asks for. Until then edits are told, from then on refused.
func TestTestBeforeEdit(t *testing.T) {
	w, _ := testedWorld(t, control.EnforceTests)
	wanted := strings.Replace(agentTests, "memory_limit: 1Gi", "memory_limit: 2Gi", 1)
	failing := w.put(wanted, "")
	if len(failing) != 2 || !strings.Contains(failing[0], `test "defaults" of profile agent at east/agent fails as things are: value of resource_defaults.memory_limit: expected 2Gi, is 1Gi`) {
		t.Errorf("%q", failing)
	}
	warnings := w.editProfile("agent", strings.Replace(agentSpec, `"cpu_limit":"1"`, `"cpu_limit":"2"`, 1))
	if len(warnings) != 2 || !strings.Contains(warnings[0], "fails, as before the edit") {
		t.Errorf("%q", warnings)
	}
	if warnings := w.editProfile("agent", strings.Replace(agentSpec, "1Gi", "2Gi", 1)); len(warnings) != 0 {
		t.Errorf("%q", warnings)
	}
	_, _, err := w.svc.UpdateProfile(w.ctx(), w.admin, "agent", control.ProfilePatch{Mask: []string{"spec"}, Profile: control.ProfileInput{Spec: w.layer(agentSpec)}})
	wantFault(t, err, fault.Precondition, fault.ReasonTestsFail, "expected 2Gi, is 1Gi")
}

// TestHistoryOfTests: tests have revisions of their own, which outlive their removal; the profile knows nothing of them.
func TestHistoryOfTests(t *testing.T) {
	w, agent := testedWorld(t, control.EnforceTests)
	one, err := w.svc.GetPolicyTests(w.ctx(), w.user, "agent", 0)
	w.must(err)
	if one.Revision != 1 || one.Mode != control.EnforceTests || one.File != agentTests || one.ProfileID != agent.ID {
		t.Errorf("%+v", one)
	}
	w.put(agentTests, "")
	if same, err := w.svc.GetPolicyTests(w.ctx(), w.user, "agent", 0); err != nil || same.Revision != 1 {
		t.Errorf("the same tests again: %+v, %v", same, err)
	}
	in := control.PolicyTestsInput{Mode: control.WarnTests, EditState: control.EditState{Etag: control.Etag(one.Meta), Reason: "the zone moves"}}
	two, _, err := w.svc.PutPolicyTests(w.ctx(), w.admin, agent.ID, in)
	w.must(err)
	if two.Revision != 2 || two.Mode != control.WarnTests || two.File != agentTests {
		t.Errorf("%+v", two)
	}
	_, _, err = w.svc.PutPolicyTests(w.ctx(), w.admin, "agent", in)
	wantFault(t, err, fault.Conflict, fault.ReasonEtagMismatch, "the tests of profile agent")
	wantFault(t, w.svc.DeletePolicyTests(w.ctx(), w.admin, "agent", in.EditState), fault.Conflict, fault.ReasonEtagMismatch)
	w.must(w.svc.DeletePolicyTests(w.ctx(), w.admin, "agent", control.EditState{Reason: "no more"}))
	_, err = w.svc.GetPolicyTests(w.ctx(), w.user, "agent", 0)
	wantFault(t, err, fault.NotFound, fault.ReasonTestsNotFound, "berm profile tests put agent")
	wantFault(t, w.svc.DeletePolicyTests(w.ctx(), w.admin, "agent", control.EditState{}), fault.NotFound, fault.ReasonTestsNotFound)
	w.editProfile("agent", `{}`) // nothing is tested any more
	_, _, err = w.svc.PutPolicyTests(w.ctx(), w.admin, "agent", control.PolicyTestsInput{Mode: control.WarnTests})
	wantFault(t, err, fault.Invalid, fault.ReasonFieldInvalid, "file: must be given")
	if failing := w.put(agentTests, ""); len(failing) == 0 {
		t.Error("nothing fails")
	}
	list, _, err := w.svc.PolicyTestRevisions(w.ctx(), w.user, "agent", control.Page{})
	w.must(err)
	var text []string
	for _, r := range list {
		text = append(text, fmt.Sprintf("%d %s %v %s", r.Revision, r.Mode, r.Removed, r.Reason))
	}
	if got, want := strings.Join(text, "; "), "4 enforce false ; 3 warn true no more; 2 warn false the zone moves; 1 enforce false "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if old, err := w.svc.GetPolicyTests(w.ctx(), w.user, "agent", 2); err != nil || old.File != agentTests || old.Mode != control.WarnTests {
		t.Errorf("%+v, %v", old, err)
	}
	_, err = w.svc.GetPolicyTests(w.ctx(), w.user, "agent", 9)
	wantFault(t, err, fault.NotFound, fault.ReasonRevisionNotFound)
	revisions, _, err := w.svc.ProfileRevisions(w.ctx(), w.user, "agent", control.Page{})
	w.must(err)
	if len(revisions) != 2 {
		t.Errorf("%d revisions of the profile", len(revisions))
	}
}

// TestTestsGoWithTheirProfile: a profile of the same name begins without tests.
func TestTestsGoWithTheirProfile(t *testing.T) {
	w := newWorld(t)
	w.newProfile("agent", agentSpec)
	w.put(agentTests, control.WarnTests)
	seen, err := w.svc.Preview(w.ctx(), w.admin, 0, func(ctx context.Context) error {
		return w.svc.DeleteProfile(ctx, w.admin, "agent", control.DeleteOptions{})
	})
	w.must(err)
	if !slices.ContainsFunc(changePaths(seen), func(p string) bool { return p == "tests agent: mode" }) {
		t.Errorf("%q", changePaths(seen))
	}
	w.must(w.svc.DeleteProfile(w.ctx(), w.admin, "agent", control.DeleteOptions{}))
	w.newProfile("agent", agentSpec)
	_, err = w.svc.GetPolicyTests(w.ctx(), w.user, "agent", 0)
	wantFault(t, err, fault.NotFound, fault.ReasonTestsNotFound)
	w.put(agentTests, "")
}

func changePaths(p *control.Preview) []string {
	var out []string
	for _, c := range p.Changes {
		out = append(out, c.Path)
	}
	return out
}

func TestRunPolicyTests(t *testing.T) {
	w, agent := testedWorld(t, control.EnforceTests)
	tests, err := policyfile.Parse([]byte("tests:\n- {name: a, expect: {verdict: admitted, values: {resource_defaults.memory_limit: 2Gi}}}\n"))
	w.must(err)
	for name, c := range map[string]struct {
		run  control.TestRun
		want string
	}{
		"other tests":         {control.TestRun{Tests: tests}, "failed east/agent, failed west/agent"},
		"at one runner":       {control.TestRun{Tests: tests, RunnerID: "west"}, "failed west/agent"},
		"with another spec":   {control.TestRun{Tests: tests, Spec: w.layer(strings.Replace(agentSpec, "1Gi", "2Gi", 1))}, "passed east/agent, passed west/agent"},
		"with the same spec":  {control.TestRun{Tests: tests, Spec: w.layer(agentSpec)}, "failed east/agent, failed west/agent"},
		"attached, at runner": {control.TestRun{RunnerID: "west"}, "passed west/agent, passed west/agent, passed west"},
	} {
		results, err := w.svc.RunPolicyTests(w.ctx(), w.admin, "agent", c.run)
		if w.must(err); outcomes(results) != c.want {
			t.Errorf("%s: %s, want %s", name, outcomes(results), c.want)
		}
	}
	if p, err := w.svc.GetProfile(w.ctx(), w.user, "agent"); err != nil || p.Revision != agent.Revision {
		t.Errorf("a run wrote: %+v, %v", p, err)
	}
	_, err = w.svc.RunPolicyTests(w.ctx(), w.admin, "agent", control.TestRun{RunnerID: "north"})
	wantFault(t, err, fault.NotFound, fault.ReasonRunnerNotFound)
	_, err = w.svc.RunPolicyTests(w.ctx(), w.admin, "default", control.TestRun{})
	wantFault(t, err, fault.NotFound, fault.ReasonTestsNotFound)
	_, err = w.svc.RunPolicyTests(w.ctx(), w.user, "agent", control.TestRun{})
	wantFault(t, err, fault.Denied, fault.ReasonRoleMissing)
	other := w.otherOrg("other")
	_, err = w.svc.RunPolicyTests(w.ctx(), other, agent.ID, control.TestRun{Tests: tests})
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound)
	_, err = w.svc.GetPolicyTests(w.ctx(), other, agent.ID, 0)
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound)
	// A spec that no edit could write is refused as the edit is.
	_, err = w.svc.RunPolicyTests(w.ctx(), w.admin, "agent", control.TestRun{Spec: w.layer(`{"network":{"egress":{"default":"gone"}}}`)})
	wantFault(t, err, fault.Precondition, fault.ReasonUnresolvable)
}

// TestEditsThatBreakTogether: each of two edits leaves the other runner, both leave none. One of them is refused, always.
func TestEditsThatBreakTogether(t *testing.T) {
	for _, database := range []string{"sqlite", "postgres"} {
		t.Run(database, func(t *testing.T) {
			dsn := ""
			if database == "postgres" {
				dsn = postgres.Database(t)
			}
			w := newWorldOn(t, dsn, control.Config{}, fake.Config{}, "east", "west")
			agent := w.newProfile("agent", agentSpec)
			add := func(runner string) error {
				_, _, err := w.svc.AddBinding(w.ctx(), w.admin, runner, core.Binding{ProfileID: agent.ID}, control.EditState{})
				return err
			}
			w.must(add("east"))
			w.must(add("west"))
			w.put("tests:\n- {name: somewhere, runner: any, expect: {verdict: admitted}}\n", control.EnforceTests)
			for range 20 {
				errs := make([]error, 2)
				var group sync.WaitGroup
				for i, runner := range []string{"east", "west"} {
					group.Go(func() {
						_, _, errs[i] = w.svc.RemoveBinding(w.ctx(), w.admin, runner, "agent", "", control.EditState{})
					})
				}
				group.Wait()
				refused := 0
				for i, err := range errs {
					if err != nil {
						wantFault(t, err, fault.Precondition, fault.ReasonTestsFail, "somewhere")
						refused++
						continue
					}
					w.must(add([]string{"east", "west"}[i]))
				}
				if refused != 1 {
					t.Fatalf("%d of 2 were refused: %v", refused, errs)
				}
			}
		})
	}
}

// TestPreviewOfTests: a preview shows the tests that fail with the edit or come to something else, and is no error for them.
func TestPreviewOfTests(t *testing.T) {
	w, agent := testedWorld(t, control.EnforceTests)
	seen := func(edit func(context.Context) error) (string, *control.Preview) {
		p, err := w.svc.Preview(w.ctx(), w.admin, 0, edit)
		w.must(err)
		var lines []string
		for _, e := range p.Tests {
			before := "new"
			if e.Before != nil {
				before = string(e.Before.Outcome)
			}
			lines = append(lines, fmt.Sprintf("%s at %s: %s, %s, refuses %v", e.After.Test, e.After.Where(), before, e.After.Outcome, e.Refuses()))
		}
		return strings.Join(lines, "\n"), p
	}
	bigger := strings.Replace(agentSpec, "1Gi", "2Gi", 1)
	text, p := seen(w.edited("agent", bigger))
	if want := "defaults at east/agent: passed, failed, refuses true\ndefaults at west/agent: passed, failed, refuses true"; text != want || p.TestsSeen != 5 {
		t.Errorf("%d seen\n%s", p.TestsSeen, text)
	}
	wantFault(t, p.Refusal(), fault.Precondition, fault.ReasonTestsFail, "expected 1Gi, is 2Gi")
	text, p = seen(func(ctx context.Context) error {
		_, _, err := w.svc.AddBinding(ctx, w.admin, "east", core.Binding{ProfileID: agent.ID, Alias: "big", Overrides: w.layer(`{"resource_defaults":{"memory_limit":"2Gi"}}`)}, control.EditState{})
		return err
	})
	if text != "defaults at east/big: new, failed, refuses true" || p.TestsSeen != 4 { // those of east alone
		t.Errorf("%d seen\n%s", p.TestsSeen, text)
	}
	if text, p = seen(w.edited("agent", strings.Replace(agentSpec, `"cpu_limit":"1"`, `"cpu_limit":"2"`, 1))); text != "" || p.Refusal() != nil || p.TestsSeen != 5 {
		t.Errorf("%d seen\n%s", p.TestsSeen, text)
	}
	w.put(strings.Replace(agentTests, "memory_limit: 1Gi", "memory_limit: 2Gi", 1), control.WarnTests)
	if text, p = seen(w.edited("agent", bigger)); p.Refusal() != nil || text != "defaults at east/agent: failed, passed, refuses false\ndefaults at west/agent: failed, passed, refuses false" {
		t.Errorf("%s", text)
	}
	if text, p = seen(w.edited("default", `{"tags":["x"]}`)); text != "" || p.TestsSeen != 0 {
		t.Errorf("%d seen\n%s", p.TestsSeen, text)
	}
}
