package control_test

import (
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

func TestCreateRunner(t *testing.T) {
	w := newWorld(t)
	in := control.RunnerInput{
		RunnerID: "east", DisplayName: "East", Zone: "nowhere-yet", ClusterID: "c-1", GroupID: "g",
		Bindings: []core.Binding{{ProfileID: w.profile.ID, Default: true}, {ProfileID: w.profile.ID, Alias: "again"}},
	}
	v, warnings, err := w.svc.CreateRunner(w.ctx(), w.admin, in)
	w.must(err)
	if v.Runner.Revision != 1 || v.Status.Install != control.InstallPending || v.Status.Connection != control.Disconnected || !v.Status.LastHeartbeat.IsZero() || len(warnings) != 0 {
		t.Errorf("%+v %+v", v.Runner, v.Status)
	}
	if strings.Join(v.BindingNames, ",") != "default,again" {
		t.Errorf("names: %v", v.BindingNames)
	}
	for _, ref := range []string{"east", v.Runner.ID} {
		got, err := w.svc.GetRunner(w.ctx(), w.user, ref)
		w.must(err)
		if got.Runner.ID != v.Runner.ID {
			t.Errorf("by %s: %+v", ref, got.Runner)
		}
	}
	_, _, err = w.svc.CreateRunner(w.ctx(), w.admin, in)
	wantFault(t, err, fault.Exists, fault.ReasonRunnerExists, "east")
	in.RunnerID = "west"
	_, _, err = w.svc.CreateRunner(w.ctx(), w.admin, in)
	wantFault(t, err, fault.Exists, fault.ReasonRunnerExists, "c-1", "at most one")
	in.ClusterID, in.ClusterName = "", "c-1" // an id and a name are different things
	_, _, err = w.svc.CreateRunner(w.ctx(), w.admin, in)
	w.must(err)
	all, _, err := w.svc.ListRunners(w.ctx(), w.user, control.RunnerSelection{}, control.Page{})
	w.must(err)
	if len(all) != 3 || all[0].Runner.RunnerID != "east" || all[1].Status.Connection != control.Connected || all[1].Status.Install != control.InstallReady {
		t.Errorf("list: %d, %+v", len(all), all[1].Status)
	}
}

func TestCreateRunnerRefuses(t *testing.T) {
	w := newWorld(t)
	ok := control.RunnerInput{RunnerID: "r", Zone: "z", ClusterName: "c", Bindings: []core.Binding{{ProfileID: w.profile.ID, Default: true}}}
	for name, tt := range map[string]struct {
		change func(*control.RunnerInput)
		path   string
	}{
		"no id":            {func(in *control.RunnerInput) { in.RunnerID = "" }, "runner_id"},
		"UUID as id":       {func(in *control.RunnerInput) { in.RunnerID = "6f1c1a52-8c1a-4a7e-9d6c-0d8f5a1b2c3d" }, "runner_id"},
		"no zone":          {func(in *control.RunnerInput) { in.Zone = "" }, "identity.zone"},
		"no cluster":       {func(in *control.RunnerInput) { in.ClusterName = "" }, "identity.cluster_id"},
		"two clusters":     {func(in *control.RunnerInput) { in.ClusterID = "x" }, "identity.cluster_id"},
		"odd group":        {func(in *control.RunnerInput) { in.GroupID = "a b" }, "identity.runner_group_id"},
		"unknown channel":  {func(in *control.RunnerInput) { in.Managed.ReleaseChannel = "NIGHTLY" }, "managed_spec.release_channel"},
		"policy no JSON":   {func(in *control.RunnerInput) { in.Managed.MaintenancePolicyJSON = "{" }, "managed_spec.maintenance_policy"},
		"class no name":    {func(in *control.RunnerInput) { in.Managed.CPURuntimeClass = "A B" }, "managed_spec.overrides.cpu_runtime_class"},
		"long name":        {func(in *control.RunnerInput) { in.DisplayName = strings.Repeat("n", 200) }, "display_name"},
		"bindings missing": {func(in *control.RunnerInput) { in.Bindings = nil }, "profile_bindings"},
	} {
		in := ok
		tt.change(&in)
		_, _, err := w.svc.CreateRunner(w.ctx(), w.admin, in)
		if !fault.Is(err, fault.Invalid) || !hasField(err, tt.path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, _, err := w.svc.ListRunners(w.ctx(), w.user, control.RunnerSelection{}, control.Page{}); err != nil || len(all) != 1 {
		t.Errorf("refused runners are there: %d, %v", len(all), err)
	}
}

// TestBindingListIsRefusedAsAWhole: whatever is wrong with a list, nothing of it is written and the message says what.
func TestBindingListIsRefusedAsAWhole(t *testing.T) {
	w := newWorld(t)
	guarded := w.newProfile("guarded", `{"resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"},"guardrails":{"resources":{"max_cpu":"2"}}}`)
	other := w.otherOrg("acme")
	foreign, err := w.svc.CreateProfile(w.ctx(), other, control.ProfileInput{DisplayName: "theirs", Spec: w.layer(`{}`)})
	w.must(err)
	d := core.Binding{ProfileID: w.profile.ID, Default: true}
	g := core.Binding{ProfileID: guarded.ID}
	over := func(b core.Binding, text string) core.Binding {
		b.Overrides = w.layer(text)
		return b
	}
	named := func(b core.Binding, name string) core.Binding {
		b.Alias = name
		return b
	}
	noDefault := d
	noDefault.Default = false
	tests := []struct {
		name     string
		bindings []core.Binding
		reason   string
		parts    []string
	}{
		{"empty", []core.Binding{}, fault.ReasonBindingsInvalid, []string{"profile_bindings: is empty", "at least one"}},
		{"no default", []core.Binding{noDefault, g}, fault.ReasonBindingsInvalid, []string{"none of 2 bindings", "exactly one"}},
		{"two defaults", []core.Binding{d, {ProfileID: guarded.ID, Default: true}}, fault.ReasonBindingsInvalid, []string{"profile_bindings[0].is_default", "profile_bindings[1].is_default", "exactly one"}},
		{"no profile", []core.Binding{d, {}}, fault.ReasonBindingsInvalid, []string{"profile_bindings[1].profile_template_id"}},
		{"a name as profile", []core.Binding{d, {ProfileID: "guarded"}}, fault.ReasonBindingsInvalid, []string{"UUID"}},
		{"a profile of nobody", []core.Binding{d, {ProfileID: "6f1c1a52-8c1a-4a7e-9d6c-0d8f5a1b2c3d"}}, fault.ReasonBindingsInvalid, []string{"6f1c1a52-8c1a-4a7e-9d6c-0d8f5a1b2c3d does not exist"}},
		{"a profile of another organization", []core.Binding{d, {ProfileID: foreign.ID}}, fault.ReasonBindingsInvalid, []string{foreign.ID + " does not exist"}},
		{"one name twice", []core.Binding{d, g, g}, fault.ReasonBindingsInvalid, []string{"profile_bindings[2].profile_name", "profile_bindings[1]"}},
		{"an alias that is a display name", []core.Binding{d, named(g, "default")}, fault.ReasonBindingsInvalid, []string{`"default"`}},
		{"a UUID as alias", []core.Binding{d, named(g, foreign.ID)}, fault.ReasonBindingsInvalid, []string{"profile_bindings[1].profile_name", "UUID"}},
		{"an override that widens", []core.Binding{d, over(g, `{"guardrails":{"resources":{"max_cpu":"4"}}}`)}, fault.ReasonOverrideWidens, []string{"profile_bindings[1].overrides_json", "4", "2"}},
		{"an override that resolves to nothing", []core.Binding{d, over(g, `{"network":{"egress":{"default":"web"}}}`)}, fault.ReasonUnresolvable, []string{"web"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := w.bind("r1", tt.bindings...)
			wantFault(t, err, fault.Invalid, tt.reason, tt.parts...)
			_, _, err = w.svc.CreateRunner(w.ctx(), w.admin, control.RunnerInput{RunnerID: "new", Zone: "z", ClusterName: "new", Bindings: tt.bindings})
			wantFault(t, err, fault.Invalid, tt.reason, tt.parts...)
		})
	}
	v, err := w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	if v.Runner.Revision != 1 || len(v.Runner.Bindings) != 1 {
		t.Errorf("a refused list left something: %+v", v.Runner)
	}
	// All problems of a list come together.
	err = w.bind("r1", noDefault, named(g, "a b"), core.Binding{})
	if n := len(fault.From(err).Fields); n != 3 {
		t.Errorf("%d violations are reported, want 3: %v", n, err)
	}
	many := make([]core.Binding, control.MaxBindings+1)
	many[0].Default = true
	wantFault(t, w.bind("r1", many...), fault.Invalid, fault.ReasonBindingsInvalid, "the limit is 256")
}

func TestUpdateRunner(t *testing.T) {
	w := newWorld(t)
	agent := w.newProfile("agent", `{}`)
	both := []core.Binding{{ProfileID: w.profile.ID}, {ProfileID: agent.ID, Default: true, Overrides: w.layer(`{"tags":null}`)}}
	w.must(w.bind("r1", both...))
	update := func(patch control.RunnerPatch) (*control.RunnerView, error) {
		v, _, err := w.svc.UpdateRunner(w.ctx(), w.admin, "r1", patch)
		return v, err
	}
	v, err := update(control.RunnerPatch{Mask: []string{"display_name", "identity.zone", "identity.runner_group_id"}, Runner: control.RunnerInput{DisplayName: "One", Zone: "us", GroupID: "g", Reason: "move"}})
	w.must(err)
	if v.Runner.DisplayName != "One" || v.Runner.Zone != "us" || v.Runner.GroupID != "g" || len(v.Runner.Bindings) != 2 || v.Runner.Reason != "move" {
		t.Errorf("%+v", v.Runner)
	}
	if v.Runner.Bindings[1].Overrides.String() != `{"tags":null}` {
		t.Errorf("the override's null was lost: %s", v.Runner.Bindings[1].Overrides)
	}
	v, err = update(control.RunnerPatch{Mask: []string{"managed_spec.release_channel", "managed_spec.overrides", "managed_spec.allow_privileged_profile_annotations"}, Runner: control.RunnerInput{
		Managed: core.ManagedSpec{ReleaseChannel: control.ChannelRapid, OverridesJSON: `{"cpuRuntimeClass":"fake"}`, CPURuntimeClass: "fake", AllowPrivilegedProfileAnnotation: true, EnforceResourceLimits: true},
	}})
	w.must(err)
	if m := v.Runner.Managed; m.ReleaseChannel != control.ChannelRapid || m.CPURuntimeClass != "fake" || !m.AllowPrivilegedProfileAnnotation || m.EnforceResourceLimits {
		t.Errorf("only what the mask names changes: %+v", m)
	}
	v, err = update(control.RunnerPatch{Mask: []string{"managed_spec"}})
	w.must(err)
	if v.Runner.Managed != (core.ManagedSpec{}) {
		t.Errorf("the whole managed spec is replaced: %+v", v.Runner.Managed)
	}
	before := v.Runner.Revision
	v, err = update(control.RunnerPatch{Mask: []string{"managed_spec", "display_name"}, Runner: control.RunnerInput{DisplayName: "One"}})
	w.must(err)
	if v.Runner.Revision != before {
		t.Errorf("a patch that changes nothing wrote revision %d", v.Runner.Revision)
	}
	for path, in := range map[string]control.RunnerInput{
		"identity.runner_id": {RunnerID: "other"}, "identity.cluster_id": {ClusterID: "other"}, "identity.cluster_name": {ClusterName: "other"},
	} {
		_, err = update(control.RunnerPatch{Mask: []string{path}, Runner: in})
		wantFault(t, err, fault.Invalid, fault.ReasonFieldImmutable, path)
	}
	_, err = update(control.RunnerPatch{Mask: []string{"install_status"}})
	wantFault(t, err, fault.Invalid, fault.ReasonMaskInvalid, "install_status")
	_, err = update(control.RunnerPatch{Mask: []string{"display_name"}, Runner: control.RunnerInput{DisplayName: "x"}, Etag: "stale"})
	wantFault(t, err, fault.Conflict, fault.ReasonEtagMismatch)
	// A binding that the list omits is gone: the list is replaced as a whole.
	w.must(w.bind("r1", core.Binding{ProfileID: agent.ID, Default: true}))
	v, err = w.svc.GetRunner(w.ctx(), w.user, "r1")
	w.must(err)
	if len(v.Runner.Bindings) != 1 || v.Runner.Bindings[0].Overrides != nil {
		t.Errorf("%+v", v.Runner.Bindings)
	}
	revisions, _, err := w.svc.RunnerRevisions(w.ctx(), w.user, "r1", control.Page{})
	w.must(err)
	if len(revisions) != int(v.Runner.Revision) || len(revisions[len(revisions)-2].Runner.Bindings) != 2 {
		t.Errorf("the binding lists of old revisions must stay: %d revisions", len(revisions))
	}
}

// TestEnforceResourceLimits: a runner that enforces limits takes no binding without them, and no launch.
func TestEnforceResourceLimits(t *testing.T) {
	w := newWorld(t)
	enforce := func(on bool) error {
		_, _, err := w.svc.UpdateRunner(w.ctx(), w.admin, "r1", control.RunnerPatch{
			Mask: []string{"managed_spec.enforce_resource_limits"}, Runner: control.RunnerInput{Managed: core.ManagedSpec{EnforceResourceLimits: on}},
		})
		return err
	}
	if err := enforce(true); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "limit") {
		t.Errorf("enforcing over a profile without limits: %v", err)
	}
	limited := w.newProfile("limited", `{"container_image":"host","resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"}}`)
	w.must(w.bind("r1", core.Binding{ProfileID: limited.ID, Default: true}))
	w.must(enforce(true))
	if err := w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a binding without limits: %v", err)
	}
	w.running(nil)
}

func TestApplyRunnerUpdate(t *testing.T) {
	w := newWorld(t)
	_, err := w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "r1")
	wantFault(t, err, fault.Precondition, "UPDATE_NOT_AVAILABLE")
	_, err = w.svc.ApplyRunnerUpdate(w.ctx(), w.admin, "nobody")
	wantFault(t, err, fault.NotFound, fault.ReasonRunnerNotFound)
}
