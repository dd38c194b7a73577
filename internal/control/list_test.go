package control_test

import (
	"slices"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

func TestList(t *testing.T) {
	w := newWorld(t, "r1", "r2")
	agent := w.newProfile("agent", limited)
	for _, r := range []string{"r1", "r2"} {
		w.must(w.bind(r, core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: agent.ID}, core.Binding{ProfileID: agent.ID, Alias: "alias"}))
	}
	start := func(runnerID, profile string, tags ...string) string {
		return w.running(&specpb.Launch{RunnerIds: []string{runnerID}, ProfileNames: []string{profile}, Tags: tags}).ID
	}
	a := start("r1", "default", "x", "y")
	b := start("r2", "agent", "x")
	c := start("r1", "alias", "y")
	d := start("r2", "default")
	w.fakes["r2"].Exit(d, 0)
	w.ended(d)
	f := start("r1", "agent", "x")
	w.fakes["r1"].OutOfMemory(f)
	w.ended(f)
	tests := []struct {
		name string
		q    control.SandboxQuery
		want []string
	}{
		{"live ones", control.SandboxQuery{}, []string{c, b, a}},
		{"all", control.SandboxQuery{IncludeEnded: true}, []string{f, d, c, b, a}},
		{"a tag", control.SandboxQuery{Tags: []string{"x"}}, []string{b, a}},
		{"both tags", control.SandboxQuery{Tags: []string{"x", "y"}}, []string{a}},
		{"a runner", control.SandboxQuery{RunnerIDs: []string{"r2"}, IncludeEnded: true}, []string{d, b}},
		{"a name", control.SandboxQuery{Profiles: []string{"agent"}, IncludeEnded: true}, []string{f, b}},
		{"a UUID: all its bindings", control.SandboxQuery{Profiles: []string{agent.ID}, IncludeEnded: true}, []string{f, c, b}},
		{"a UUID and a name", control.SandboxQuery{Profiles: []string{agent.ID, "default"}}, []string{c, b, a}},
		{"a final status finds what has ended", control.SandboxQuery{Statuses: []core.Status{core.StatusCompleted}}, []string{d}},
		{"two", control.SandboxQuery{Statuses: []core.Status{core.StatusFailed, core.StatusRunning}, RunnerIDs: []string{"r1"}}, []string{f, c, a}},
		{"none", control.SandboxQuery{Statuses: []core.Status{core.StatusPaused}}, nil},
		{"of nobody", control.SandboxQuery{Profiles: []string{"nobody"}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{0, 1, 2} {
				q := tt.q
				q.Page.Size = size
				var got []string
				for range 20 {
					page, next, err := w.svc.List(w.ctx(), w.user, q)
					w.must(err)
					for _, sb := range page {
						got = append(got, sb.ID)
					}
					if size > 0 && len(page) > size {
						t.Errorf("a page of %d has %d", size, len(page))
					}
					if q.Page.Token = next; next == "" {
						break
					}
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("pages of %d: %v, want %v", size, got, tt.want)
				}
			}
		})
	}
	_, next, err := w.svc.List(w.ctx(), w.user, control.SandboxQuery{Page: control.Page{Size: 1}})
	w.must(err)
	_, _, err = w.svc.List(w.ctx(), w.user, control.SandboxQuery{IncludeEnded: true, Page: control.Page{Size: 1, Token: next}})
	wantFault(t, err, fault.Invalid, fault.ReasonPageTokenInvalid)
	_, _, err = w.svc.List(w.ctx(), w.user, control.SandboxQuery{Tags: make([]string, control.MaxFilterValues+1)})
	wantFault(t, err, fault.Invalid, fault.ReasonInvalidRequest)
}

func TestDiscovery(t *testing.T) {
	w := newWorldWith(t, control.Config{}, fakeWith(core.Amounts{CPUMillis: 4000, MemoryBytes: 8 << 30, Sandboxes: 10}), "r1", "r2")
	agent := w.newProfile("agent", `{"container_image":"host","resource_defaults":{"cpu_limit":"1"},"network":{"egress":{"default":"b","modes":{"b":{"type":"none"},"a":{"type":"none"}}},"ingress":{"modes":{"web":{"scope":"any"}}}}}`)
	w.must(w.bind("r1", core.Binding{ProfileID: w.profile.ID, Default: true}, core.Binding{ProfileID: agent.ID}))
	_, _, err := w.svc.UpdateRunner(w.ctx(), w.admin, "r2", control.RunnerPatch{Mask: []string{"identity.runner_group_id"}, Runner: control.RunnerInput{GroupID: "g"}})
	w.must(err)
	_, _, err = w.svc.CreateRunner(w.ctx(), w.admin, control.RunnerInput{RunnerID: "pending", Zone: "z", ClusterName: "c", Bindings: []core.Binding{{ProfileID: agent.ID, Default: true}}})
	w.must(err)
	w.running(&specpb.Launch{ProfileNames: []string{"agent"}})
	names := func(f control.RunnerFilter) []string {
		all, _, err := w.svc.AvailableRunners(w.ctx(), w.user, f, control.Page{})
		w.must(err)
		var out []string
		for _, r := range all {
			out = append(out, r.RunnerID)
		}
		return out
	}
	for _, tt := range []struct {
		f    control.RunnerFilter
		want []string
	}{
		{control.RunnerFilter{}, []string{"r1", "r2"}}, {control.RunnerFilter{GroupID: "g"}, []string{"r2"}}, {control.RunnerFilter{ProfileName: "agent"}, []string{"r1"}},
		{control.RunnerFilter{GPUType: "A100"}, nil}, {control.RunnerFilter{Architecture: "vax"}, nil}, {control.RunnerFilter{ExcludeShared: true, HealthyOnly: true}, []string{"r1", "r2"}},
	} {
		if got := names(tt.f); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.f, got, tt.want)
		}
	}
	r, err := w.svc.AvailableRunner(w.ctx(), w.user, "r1")
	w.must(err)
	if !r.Healthy || r.Free.CPUMillis != 3000 || r.Capacity.CPUMillis != 4000 || r.Sandboxes != 1 || !slices.Equal(r.ProfileNames, []string{"agent", "default"}) || r.ConnectedAt.IsZero() {
		t.Errorf("%+v", r)
	}
	rows, _, err := w.svc.AvailableProfiles(w.ctx(), w.user, control.ProfileFilter{}, control.Page{})
	w.must(err)
	var got []string
	for _, p := range rows {
		got = append(got, p.RunnerID+"/"+p.ProfileName)
	}
	if want := []string{"r1/agent", "r1/default", "r2/default"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if p := rows[0]; !slices.Equal(p.EgressModes, []string{"a", "b"}) || !slices.Equal(p.IngressModes, []string{"web"}) {
		t.Errorf("%+v", p)
	}
	first, next, err := w.svc.AvailableProfiles(w.ctx(), w.user, control.ProfileFilter{}, control.Page{Size: 2})
	w.must(err)
	rest, last, err := w.svc.AvailableProfiles(w.ctx(), w.user, control.ProfileFilter{}, control.Page{Size: 2, Token: next})
	w.must(err)
	if len(first) != 2 || len(rest) != 1 || last != "" {
		t.Errorf("pages of %d and %d", len(first), len(rest))
	}
	p, err := w.svc.AvailableProfile(w.ctx(), w.user, "default", "r2")
	w.must(err)
	if p.RunnerID != "r2" {
		t.Errorf("%+v", p)
	}
	_, err = w.svc.AvailableProfile(w.ctx(), w.user, "agent", "r2")
	wantFault(t, err, fault.NotFound, fault.ReasonProfileNotFound)
	_, err = w.svc.AvailableRunner(w.ctx(), w.user, "pending")
	wantFault(t, err, fault.NotFound, fault.ReasonRunnerNotFound)
	w.svc.Detach(w.runners["r2"].ID)
	if got := names(control.RunnerFilter{HealthyOnly: true}); !slices.Equal(got, []string{"r1"}) {
		t.Errorf("healthy: %v", got)
	}
}
