package control_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/policyfile"
)

// fullFile has as many tests as a file may.
func fullFile() string {
	var b strings.Builder
	b.WriteString("tests:\n")
	for i := range policy.MaxTests {
		fmt.Fprintf(&b, "- {name: t%d, expect: {verdict: admitted}}\n", i)
	}
	return b.String()
}

// bindTimes gives a runner n bindings of each profile beside that of the default one.
func (w *world) bindTimes(runner string, n int, profiles ...*core.Profile) ([]string, error) {
	list := []core.Binding{{ProfileID: w.profile.ID, Default: true}}
	for _, p := range profiles {
		for i := range n {
			list = append(list, core.Binding{ProfileID: p.ID, Alias: fmt.Sprintf("%s-%d", p.DisplayName, i)})
		}
	}
	_, warnings, err := w.svc.UpdateRunner(w.ctx(), w.admin, runner, control.RunnerPatch{Mask: []string{"profile_bindings"}, Runner: control.RunnerInput{Bindings: list}})
	return warnings, err
}

// TestTooManyPlacesOfTestsThatWarn: tests that warn refuse nothing, also where there are too many places to run them, and say so; the edit
// of the profile, its zone, its bindings and its tests stay possible.
func TestTooManyPlacesOfTestsThatWarn(t *testing.T) {
	w := newWorld(t, "east=eu", "west=eu")
	agent := w.newProfile("agent", `{}`)
	_, err := w.bindTimes("east", 101, agent)
	w.must(err)
	w.put(fullFile(), control.WarnTests)
	const says = "the tests of profile agent, which only warn, were not run: the tests of profile agent are to be tried at 20200 places, the limit is 20000"
	told := func(what string, warnings []string, err error) {
		t.Helper()
		if err != nil || len(warnings) != 1 || warnings[0] != says {
			t.Errorf("%s: %q, %v", what, warnings, err)
		}
	}
	warnings, err := w.bindTimes("west", 101, agent)
	told("the bindings", warnings, err)
	patch := control.ProfilePatch{Mask: []string{"description"}, Profile: control.ProfileInput{Description: "x"}}
	_, warnings, err = w.svc.UpdateProfile(w.ctx(), w.admin, "agent", patch)
	told("the profile", warnings, err)
	_, warnings, err = w.svc.PutZone(w.ctx(), w.admin, "eu", control.ZoneInput{Defaults: w.layer(`{"tags":["x"]}`)})
	told("the zone", warnings, err)
	told("other tests", w.put(fullFile()+"\n", control.WarnTests), nil)
	_, err = w.svc.Preview(w.ctx(), w.admin, 0, func(ctx context.Context) error {
		patch.Profile.Description = "y"
		_, warnings, err = w.svc.UpdateProfile(ctx, w.admin, "agent", patch)
		return err
	})
	told("a preview", warnings, err)
	_, _, err = w.svc.PutPolicyTests(w.ctx(), w.admin, "agent", control.PolicyTestsInput{Mode: control.EnforceTests})
	wantFault(t, err, fault.Precondition, fault.ReasonLimitExceeded, "20200 places", "berm profile tests put PROFILE --mode warn")
}

// TestTooManyPlacesOfEnforcedTests: the edit that would make too many places is refused, so that no later one is; to warn is the way out.
func TestTooManyPlacesOfEnforcedTests(t *testing.T) {
	w := newWorld(t, "east=eu", "west=eu")
	agent := w.newProfile("agent", `{}`)
	_, err := w.bindTimes("east", 101, agent)
	w.must(err)
	w.put(fullFile(), control.EnforceTests)
	_, err = w.bindTimes("west", 101, agent)
	wantFault(t, err, fault.Precondition, fault.ReasonLimitExceeded, "tests of profile agent are to be tried at 20200 places")
	if warnings := w.editProfile("agent", `{"tags":["x"]}`); len(warnings) > 0 {
		t.Errorf("%q", warnings)
	}
	_, _, err = w.svc.PutPolicyTests(w.ctx(), w.admin, "agent", control.PolicyTestsInput{Mode: control.WarnTests})
	w.must(err)
	_, err = w.bindTimes("west", 101, agent)
	w.must(err)
}

// TestPlacesOfAnEdit: the limit is that of an edit, over all profiles that it touches. Tests that warn give way.
func TestPlacesOfAnEdit(t *testing.T) {
	w := newWorld(t, "east=eu")
	tests, err := policyfile.Parse([]byte(fullFile()))
	w.must(err)
	mode := func(profile string, m control.TestMode) {
		_, _, err := w.svc.PutPolicyTests(w.ctx(), w.admin, profile, control.PolicyTestsInput{File: fullFile(), Tests: tests, Mode: m})
		w.must(err)
	}
	var profiles []*core.Profile
	for _, name := range []string{"a", "b", "c"} {
		profiles = append(profiles, w.newProfile(name, `{}`))
		mode(name, control.WarnTests)
	}
	_, err = w.bindTimes("east", 80, profiles...)
	w.must(err)
	for _, name := range []string{"b", "c"} {
		mode(name, control.EnforceTests)
	}
	zone := func(tag string) ([]string, error) {
		_, warnings, err := w.svc.PutZone(w.ctx(), w.admin, "eu", control.ZoneInput{Defaults: w.layer(`{"tags":["` + tag + `"]}`)})
		return warnings, err
	}
	warnings, err := zone("x")
	if w.must(err); len(warnings) != 1 || warnings[0] != "the tests of profile a, which only warn, were not run: the tests of profile b, c, a are to be tried at 24000 places, the limit is 20000" {
		t.Errorf("%q", warnings)
	}
	mode("a", control.EnforceTests)
	_, err = zone("y")
	wantFault(t, err, fault.Precondition, fault.ReasonLimitExceeded, "the tests of profile a, b, c are to be tried at 24000 places")
}

// TestAnyRunnerOfMany: a launch that leaves the runner to the server is looked at wherever it may come to be, and counts at each of them.
func TestAnyRunnerOfMany(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", agentSpec)
	const runners = 260 // more than a plan lists
	for i := range runners {
		b := core.Binding{ProfileID: agent.ID, Default: true}
		if i >= runners-2 {
			b.Overrides = w.layer(`{"resource_defaults":{"memory_limit":"2Gi"}}`)
		}
		_, _, err := w.svc.CreateRunner(w.ctx(), w.admin, control.RunnerInput{RunnerID: fmt.Sprintf("r%03d", i), Zone: "eu", ClusterName: fmt.Sprint(i), Bindings: []core.Binding{b}})
		w.must(err)
	}
	failing := w.put("tests:\n- {name: one, runner: any, expect: {verdict: admitted, values: {resource_defaults.memory_limit: 1Gi}}}\n", control.EnforceTests)
	if len(failing) != 1 || !strings.Contains(failing[0], "expected 1Gi, is 2Gi (binding r258/agent revision 1") {
		t.Errorf("%q", failing)
	}
	many := strings.ReplaceAll(fullFile(), "expect:", "runner: any, expect:")
	tests, err := policyfile.Parse([]byte(many))
	w.must(err)
	_, _, err = w.svc.PutPolicyTests(w.ctx(), w.admin, "agent", control.PolicyTestsInput{File: many, Tests: tests})
	wantFault(t, err, fault.Precondition, fault.ReasonLimitExceeded, "26000 places")
}
