package control_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// fourLayers sets resource_defaults.cpu_limit in all four layers and others in some.
func fourLayers(w *world) *specpb.Launch {
	w.Helper()
	_, _, err := w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{
		Defaults: w.layer(`{"resource_defaults":{"cpu_limit":"8"},"tags":["zone"],"instance_types":["a"]}`), Reason: "base",
	})
	w.must(err)
	agent := w.newProfile("agent", `{"container_image":"host","resource_defaults":{"cpu_limit":"4","memory_limit":"1Gi"},"instance_types":null}`)
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true},
		core.Binding{ProfileID: agent.ID, Overrides: w.layer(`{"resource_defaults":{"cpu_limit":"2"}}`)}))
	return &specpb.Launch{ProfileNames: []string{"agent"}, ResourceLimits: &specpb.ResourceAmounts{Cpu: "1"}}
}

func TestExplain(t *testing.T) {
	w := newWorld(t, "r1=us")
	sb := w.running(fourLayers(w))
	e, err := w.svc.Explain(w.ctx(), w.user, sb.ID, "")
	w.must(err)
	field := func(path string) control.ExplainedField {
		i := slices.IndexFunc(e.Fields, func(f control.ExplainedField) bool { return f.Path == path })
		if i < 0 {
			t.Fatalf("no field %s among %d", path, len(e.Fields))
		}
		return e.Fields[i]
	}
	cpu := field("resource_defaults.cpu_limit")
	if string(cpu.Value) != `"1"` || cpu.Layer != "request" || cpu.Object != "request" || cpu.By != w.user.Actor || cpu.At.IsZero() || cpu.Enforcement != "recorded" {
		t.Errorf("%+v", cpu)
	}
	var shadows []string
	for _, s := range cpu.Shadowed {
		shadows = append(shadows, s.Layer+"|"+s.Object+"|"+string(s.Value))
	}
	if want := []string{`override|binding r1/agent|"2"`, `profile|profile agent|"4"`, `zone|zone us|"8"`}; !slices.Equal(shadows, want) {
		t.Errorf("shadowed %v, want %v", shadows, want)
	}
	if f := field("tags"); f.Layer != "zone" || f.Object != "zone us" || f.Revision != 1 || f.Reason != "base" || f.By != w.admin.Actor {
		t.Errorf("%+v", f)
	}
	if f := field("instance_types"); string(f.Value) != "null" || f.Layer != "profile" || len(f.Shadowed) != 1 || string(f.Shadowed[0].Value) != `["a"]` {
		t.Errorf("a cleared field: %+v", f)
	}
	if f := field("resource_defaults.memory_limit"); f.Layer != "profile" || f.Revision != 1 {
		t.Errorf("%+v", f)
	}
	if !slices.IsSortedFunc(e.Fields, func(a, b control.ExplainedField) int { return strings.Compare(a.Path, b.Path) }) {
		t.Error("fields are not ordered by path")
	}
	if e.RunnerID != "r1" || e.ProfileName != "agent" || e.ProfileRevision != 1 || e.Digest != sb.Digest || e.Isolation == "" || len(e.Timeline) == 0 || !json.Valid(e.Spec) {
		t.Errorf("%+v", e)
	}
	if len(e.Candidates) == 0 || !e.Candidates[0].Chosen || e.Candidates[0].RunnerID != "r1" {
		t.Errorf("%+v", e.Candidates)
	}
}

// TestExplainGuardrails: a guardrail is what all layers come to, by the statement that decides it, whatever the highest layer says.
func TestExplainGuardrails(t *testing.T) {
	w := newWorld(t, "r1=us")
	_, _, err := w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{
		Defaults: w.layer(`{"guardrails":{"images":{"allowed":["host","python:*"]},"annotations":{"denied_prefixes":["zone/"]},"ports":{"max_count":4}}}`),
	})
	w.must(err)
	agent := w.newProfile("agent", `{"container_image":"host","resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"},
		"guardrails":{"resources":{"max_cpu":"8"},"images":{"allowed":["host","**:1"]},"ports":{"max_count":2},"lifetime":{"default_seconds":60}}}`)
	w.must(w.bind("r1", core.Binding{
		ProfileID: w.profile.ID, Default: true, Overrides: w.layer(`{"resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"}}`),
	}, core.Binding{
		ProfileID: agent.ID, Overrides: w.layer(`{"guardrails":{"resources":{"max_cpu":"4"},"annotations":{"denied_prefixes":["mine/","ours/"]},"lifetime":{"default_seconds":30}}}`),
	}))
	// An edit below may leave the override wider than what holds: it is accepted, and the override is without effect.
	w.editProfile("agent", `{"container_image":"host","resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"},
		"guardrails":{"resources":{"max_cpu":"2"},"images":{"allowed":["host","**:1"]},"ports":{"max_count":2},"lifetime":{"default_seconds":60}}}`)
	_, _, err = w.svc.UpdateRunner(w.ctx(), w.admin, "r1", control.RunnerPatch{
		Mask: []string{"managed_spec.enforce_resource_limits"}, Runner: control.RunnerInput{Managed: core.ManagedSpec{EnforceResourceLimits: true}},
	})
	w.must(err)

	req := &specpb.Launch{ProfileNames: []string{"agent"}}
	planned, err := w.svc.Plan(w.ctx(), w.user, req)
	w.must(err)
	e, err := w.svc.Explain(w.ctx(), w.user, w.running(req).ID, "guardrails")
	w.must(err)
	var got []string
	for _, f := range e.Fields {
		line := f.Path + "=" + string(f.Value) + " by " + f.Object
		for _, c := range f.Combined {
			line += " with " + string(c.Value) + " of " + c.Object
		}
		for _, sh := range f.Shadowed {
			line += " over " + string(sh.Value) + " of " + sh.Object
		}
		got = append(got, line)
	}
	want := []string{
		`guardrails.annotations.denied_prefixes=["mine/","ours/","zone/"] by binding r1/agent with ["zone/"] of zone us`,
		`guardrails.images.allowed={"allOf":[["host","python:*"],["host","**:1"]]} by zone us with ["host","**:1"] of profile agent`,
		`guardrails.lifetime.default_seconds=30 by binding r1/agent over 60 of profile agent`,
		`guardrails.ports.max_count=2 by profile agent over 4 of zone us`,
		`guardrails.resources.max_cpu="2" by profile agent over "4" of binding r1/agent`,
		`guardrails.resources.require_limits=true by runner r1`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if f := e.Fields[4]; f.Layer != "profile" || f.Revision != 2 || f.By != w.admin.Actor || f.At.IsZero() || f.Enforcement == "" || f.Shadowed[0].Layer != "override" {
		t.Errorf("%+v", f)
	}
	var rails []control.ExplainedField
	for _, f := range planned.Explanation.Fields {
		if strings.HasPrefix(f.Path, "guardrails.") {
			rails = append(rails, f)
		}
	}
	if diff := cmp.Diff(rails, e.Fields); diff != "" {
		t.Errorf("planned and launched differ: %s", diff)
	}
}

// TestSubmitted: what was given to the runtime is kept with the sandbox, also when its start failed, and for its own organization.
func TestSubmitted(t *testing.T) {
	w := newWorld(t, "r1=us")
	sb := w.running(&specpb.Launch{})
	got, err := w.svc.Submitted(w.ctx(), w.user, sb.ID)
	w.must(err)
	var object struct{ SandboxID, Digest string }
	if err := json.Unmarshal(got, &object); err != nil || object.SandboxID != sb.ID || object.Digest != sb.Digest {
		t.Fatalf("%s: %v", got, err)
	}
	w.must(w.svc.Delete(w.ctx(), w.user, sb.ID))
	e, err := w.svc.Explain(w.ctx(), w.user, sb.ID, "")
	w.must(err)
	if string(e.Submitted) != string(got) {
		t.Errorf("explain has %s", e.Submitted)
	}
	if e, err = w.svc.Explain(w.ctx(), w.user, sb.ID, "tags"); err != nil || e.Submitted != nil {
		t.Errorf("with one field: %s, %v", e.Submitted, err)
	}
	_, err = w.svc.Submitted(w.ctx(), w.otherOrg("other"), sb.ID)
	wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)

	w.fakes["r1"].FailNextStart(core.EndStartFailed, "no")
	failed := w.launch(&specpb.Launch{})
	w.ended(failed.ID)
	if got, err = w.svc.Submitted(w.ctx(), w.user, failed.ID); err != nil || len(got) == 0 {
		t.Errorf("of a start that failed: %s, %v", got, err)
	}
}

// TestEnforcementOfThisMachine: what a backend of this kind enforces and this machine cannot is not said to be enforced, also when
// the machine is long gone.
func TestEnforcementOfThisMachine(t *testing.T) {
	const why = "this machine has no such thing"
	unable := backend.Info{Unenforced: map[string]string{"guardrails.runtime_classes": why, "resource_defaults.cpu_request": why}}
	w := newWorldWith(t, control.Config{}, fake.Config{Info: unable}, "r1=us")
	w.editProfile("default", `{"container_image":"host","resource_defaults":{"cpu_request":"1m"},"guardrails":{"runtime_classes":["fake"]}}`)
	sb := w.running(&specpb.Launch{})
	w.must(w.svc.Delete(w.ctx(), w.user, sb.ID))
	w.svc.Detach(w.runners["r1"].ID)
	for path, want := range map[string][2]string{
		"guardrails.runtime_classes": {"recorded", why}, "resource_defaults.cpu_request": {"recorded", ""}, // the fake enforces no requests anyway
	} {
		e, err := w.svc.Explain(w.ctx(), w.user, sb.ID, path)
		w.must(err)
		if f := e.Fields[0]; f.Enforcement != want[0] || f.Note != want[1] {
			t.Errorf("%s is %s: %q", path, f.Enforcement, f.Note)
		}
	}
}

// TestExplainIsOfTheLaunch: it says for ever what was decided, whatever becomes of the objects.
func TestExplainIsOfTheLaunch(t *testing.T) {
	w := newWorld(t, "r1=us")
	sb := w.running(fourLayers(w))
	before, err := w.svc.Explain(w.ctx(), w.user, sb.ID, "")
	w.must(err)
	w.editProfile("agent", `{"container_image":"host"}`)
	_, _, err = w.svc.PutZone(w.ctx(), w.admin, "us", control.ZoneInput{})
	w.must(err)
	w.must(w.svc.Delete(w.ctx(), w.user, sb.ID))
	w.must(w.svc.DeleteRunner(w.ctx(), w.admin, "r1", control.DeleteOptions{}))
	w.must(w.svc.DeleteProfile(w.ctx(), w.admin, "agent", control.DeleteOptions{}))
	after, err := w.svc.Explain(w.ctx(), w.user, sb.ID, "")
	w.must(err)
	if diff := cmp.Diff(before.Fields, after.Fields); diff != "" {
		t.Error(diff)
	}
	if len(after.Candidates) != len(before.Candidates) || after.Digest != before.Digest {
		t.Errorf("%+v", after)
	}
}

func TestExplainOneField(t *testing.T) {
	w := newWorld(t, "r1=us")
	sb := w.running(fourLayers(w))
	for path, want := range map[string][]string{
		"resource_defaults.cpu_limit": {"resource_defaults.cpu_limit"},
		"resourceDefaults.cpuLimit":   {"resource_defaults.cpu_limit"},
		"resourceDefaults":            {"resource_defaults.cpu_limit", "resource_defaults.memory_limit"},
		"network.egress.modes[none]":  {"network.egress.modes"}, // an entry has no row of its own
		"resource_defaults":           {"resource_defaults.cpu_limit", "resource_defaults.memory_limit"},
		"node_selector":               nil, // a field, but no layer sets it
	} {
		e, err := w.svc.Explain(w.ctx(), w.user, sb.ID, path)
		w.must(err)
		var got []string
		for _, f := range e.Fields {
			got = append(got, f.Path)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	for path, near := range map[string]string{
		"resource_default": "resource_defaults", "resource_defaults.cpu_limt": "resource_defaults.cpu_limit", "cpu_limit": "resource_defaults.cpu_limit",
		"network.egress.modes.none": "network.egress.modes", "nodeSelectr": "node_selector", "guardrails.resources.maxcpu": "guardrails.resources.max_cpu",
	} {
		_, err := w.svc.Explain(w.ctx(), w.user, sb.ID, path)
		wantFault(t, err, fault.Invalid, fault.ReasonFieldUnknown)
		if hint := fault.From(err).Hint; hint != "did you mean "+near+"?" {
			t.Errorf("%s: %q, want a hint at %s", path, hint, near)
		}
	}
	_, err := w.svc.Explain(w.ctx(), w.user, "nobody", "")
	wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
}

// TestPlanIsTheLaunchWithoutTheCommit: the same decision with the same explanation, and nothing is left behind.
func TestPlanIsTheLaunchWithoutTheCommit(t *testing.T) {
	w := newWorld(t, "r1=us")
	req := fourLayers(w)
	planned, err := w.svc.Plan(w.ctx(), w.user, req)
	w.must(err)
	if planned.Plan == nil || planned.Refusal != nil || w.count() != 0 || w.reserved("r1") != (core.Amounts{}) || w.fakes["r1"].Creates() != 0 {
		t.Fatalf("%+v", planned)
	}
	sb := w.running(req)
	e, err := w.svc.Explain(w.ctx(), w.user, sb.ID, "")
	w.must(err)
	got := planned.Explanation
	if got.Digest != e.Digest || string(got.Spec) != string(e.Spec) || got.RunnerID != e.RunnerID || got.Isolation != e.Isolation {
		t.Errorf("planned %s %s, launched %s %s", got.Digest, got.Spec, e.Digest, e.Spec)
	}
	for i := range got.Fields {
		got.Fields[i].At = e.Fields[i].At // when the request was made differs
	}
	if diff := cmp.Diff(got.Fields, e.Fields); diff != "" {
		t.Error(diff)
	}
	refused, err := w.svc.Plan(w.ctx(), w.user, &specpb.Launch{ProfileNames: []string{"agent"}, ResourceLimits: &specpb.ResourceAmounts{Cpu: "16"}})
	w.must(err)
	if refused.Plan != nil || refused.Refusal == nil || !fault.HasReason(refused.Fault, fault.ReasonProfileMismatch) || refused.Refusal.Nearest == nil {
		t.Errorf("%+v", refused)
	}
	_, err = w.svc.Plan(w.ctx(), w.user, &specpb.Launch{ProfileNames: []string{"nobody"}})
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound)
	_, err = w.svc.Plan(w.ctx(), w.user, &specpb.Launch{MaxLifetimeSeconds: -1})
	wantFault(t, err, fault.Invalid, fault.ReasonInvalidRequest)
}
