package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/resolve"
)

func parse(t testing.TB, text string) *Snapshot {
	t.Helper()
	var w world
	strict(t, []byte(text), &w)
	return w.snapshot(t)
}

func TestOrigins(t *testing.T) {
	s := parse(t, `{"zones": {"z": {"tags": ["a"]}}, "profiles": {"p": {"container_image": "host"}},
		"runners": [{"id": "r", "zone": "z", "cpuRuntimeClass": "gvisor", "bindings": [{"profile": "p", "alias": "name", "default": true, "overrides": {}}]}]}`)
	want := []string{"zone built-in defaults 0", "zone zone z 1", "zone runner r 1", "profile profile p 1", "override binding r/name 1"}
	for i, in := range s.Runners[0].Bindings[0].Inputs {
		o := in.Origin
		if got := fmt.Sprintf("%s %s %d", o.Layer, o.Object, o.Revision); got != want[i] {
			t.Errorf("layer %d is %s, want %s", i, got, want[i])
		}
		if i > 0 && (o.By != "token:ops" || !o.At.Equal(day) || o.ID == "") {
			t.Errorf("layer %d does not say who wrote it, and when: %+v", i, o)
		}
	}
}

func TestRefsAreWhatWasUsed(t *testing.T) {
	for zone, want := range map[string]string{"z": uuid("zone z") + " 1", "unknown": "unknown 0", "": ""} {
		s := parse(t, `{"zones": {"z": {}}, "profiles": {"p": {}}, "runners": [{"id": "r", "zone": "`+zone+`", "bindings": [{"profile": "p", "default": true}]}]}`)
		p, err := Make(s, &specpb.Launch{}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, r := range p.Refs {
			got[r.Kind] = fmt.Sprintf("%s %d", r.ID, r.Revision)
		}
		if got["zone"] != want || got["profile"] != uuid("profile p")+" 1" || got["runner"] != uuid("runner r")+" 1" {
			t.Errorf("zone %q: %v", zone, got)
		}
	}
}

func TestNewBindingRefuses(t *testing.T) {
	r := &core.Runner{RunnerID: "r"}
	p := &core.Profile{Meta: core.Meta{ID: "1"}, DisplayName: "p"}
	if _, err := NewBinding(r, nil, p, core.Binding{ProfileID: "2"}, nil); !fault.Is(err, fault.Internal) {
		t.Errorf("another profile: %v", err)
	}
	if _, err := NewBinding(r, nil, nil, core.Binding{ProfileID: "2"}, nil); !fault.Is(err, fault.Internal) {
		t.Errorf("no profile: %v", err)
	}
	r.Managed.CPURuntimeClass = `no "name"`
	if _, err := NewBinding(r, nil, p, core.Binding{ProfileID: "1"}, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a runtime class that is no name: %v", err)
	}
}

func TestProblemsOfBindings(t *testing.T) {
	s := parse(t, `{"profiles": {"p": {"resource_defaults": {"cpu_limit": "2"}, "guardrails": {"resources": {"max_cpu": "4"}}}},
		"runners": [
			{"id": "fine", "bindings": [{"profile": "p", "default": true, "overrides": {"guardrails": {"resources": {"max_cpu": "3"}}}}]},
			{"id": "wide", "bindings": [{"profile": "p", "default": true, "overrides": {"guardrails": {"resources": {"max_cpu": "8"}}}}]},
			{"id": "owner", "guardrails": {"guardrails": {"resources": {"max_cpu": "1"}}}, "bindings": [{"profile": "p", "default": true, "overrides": {"guardrails": {"resources": {"max_cpu": "2"}}}}]},
			{"id": "gpu", "guardrails": {"guardrails": {"runtime_classes": ["gvisor"]}}, "cpuRuntimeClass": "gvisor", "gpuRuntimeClass": "nvidia", "bindings": [{"profile": "p", "default": true}]}
		]}`)
	for id, want := range map[string][2]string{
		"fine":  {"", ""},
		"wide":  {"", "OVERRIDE_WIDENS guardrails.resources.max_cpu 8>4"},
		"owner": {"UNRESOLVABLE resource_defaults.cpu_limit 2>1", "OVERRIDE_WIDENS guardrails.resources.max_cpu 2>1"},
		"gpu":   {"UNRESOLVABLE runtime_class nvidia>gvisor", ""},
	} {
		for _, r := range s.Runners {
			if r.Runner.RunnerID != id {
				continue
			}
			b := r.Bindings[0]
			if got := [2]string{brief(b.Problems()), brief(b.OverrideProblems())}; got != want {
				t.Errorf("%s: got %q, want %q", id, got, want)
			}
		}
	}
}

func brief(list []guard.Violation) string {
	texts := []string{}
	for _, v := range list {
		texts = append(texts, fmt.Sprintf("%s %s %s>%s", v.Reason, v.Path, v.Value, v.Limit))
	}
	return strings.Join(texts, "; ")
}

func TestBindingsThatLostEffect(t *testing.T) {
	text := `{"zones": {"z": {"guardrails": {"resources": {"max_cpu": "%s"}}}}, "profiles": {"p": {}}, "runners": [{"id": "r", "zone": "z", "bindings": [{"profile": "p", "default": true, "overrides": {"guardrails": {"resources": {"max_cpu": "4"}}}}]}]}`
	before, after := parse(t, fmt.Sprintf(text, "8")), parse(t, fmt.Sprintf(text, "2"))
	got := brief(after.Runners[0].Bindings[0].LostEffect(before.Runners[0].Bindings[0]))
	if want := "OVERRIDE_LOST_EFFECT guardrails.resources.max_cpu 4>2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := before.Runners[0].Bindings[0].LostEffect(after.Runners[0].Bindings[0]); len(got) > 0 {
		t.Errorf("loosening took effect away: %s", brief(got))
	}
}

func TestUsage(t *testing.T) {
	s := parse(t, `{"profiles": {"p": {"guardrails": {"usage": {"per_profile": {"max_concurrent": 2}, "per_user": {"max_starts_per_minute": 0}, "per_org": {"max_vcpu_hours_per_day": 3, "max_concurrent": 5}}}}}, "runners": [{"id": "r", "bindings": [{"profile": "p", "default": true}]}]}`)
	p, err := Make(s, &specpb.Launch{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.UsageChecks) != 4 {
		t.Fatalf("checks: %+v", p.UsageChecks)
	}
	tests := []struct {
		name   string
		counts map[Subject]Counters
		want   string
	}{
		{"idle", nil, "USAGE_EXCEEDED guardrails.usage.per_user.max_starts_per_minute 0>0"},
		{"one below", map[Subject]Counters{SubjectProfile: {Concurrent: 1}, SubjectOrg: {Concurrent: 4, VCPUMilliHours: 2999}}, "USAGE_EXCEEDED guardrails.usage.per_user.max_starts_per_minute 0>0"},
		{"full", map[Subject]Counters{SubjectProfile: {Concurrent: 2}, SubjectUser: {StartsLastMinute: 7}, SubjectOrg: {Concurrent: 5, VCPUMilliHours: 3000}},
			"USAGE_EXCEEDED guardrails.usage.per_profile.max_concurrent 2>2; USAGE_EXCEEDED guardrails.usage.per_user.max_starts_per_minute 7>0; USAGE_EXCEEDED guardrails.usage.per_org.max_concurrent 5>5; USAGE_EXCEEDED guardrails.usage.per_org.max_vcpu_hours_per_day 3>3"},
	}
	for _, tt := range tests {
		asked := map[Subject]int{}
		got := CheckUsage(p.UsageChecks, func(s Subject) Counters { asked[s]++; return tt.counts[s] })
		if brief(got) != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, brief(got), tt.want)
		}
		if asked[SubjectOrg] != 1 {
			t.Errorf("the org was counted %d times", asked[SubjectOrg])
		}
		for _, v := range got {
			if v.Message == "" || v.LimitOrigin == nil {
				t.Errorf("incomplete: %+v", v)
			}
		}
	}
}

func TestUsageRefusal(t *testing.T) {
	if err := UsageRefusal(nil); err != nil {
		t.Error(err)
	}
	check := func(m Metric, limit int64, used Counters) error {
		c := UsageCheck{Subject: SubjectUser, Metric: m, Limit: limit, Path: usageRoot + "user." + string(m), Origin: &resolve.Origin{Object: "profile p"}}
		return UsageRefusal(CheckUsage([]UsageCheck{c}, func(Subject) Counters { return used }))
	}
	err := check(MetricConcurrent, 1, Counters{Concurrent: 1})
	if !fault.Is(err, fault.Exhausted) || fault.From(err).RetryAfter == 0 || !strings.Contains(err.Error(), "1 sandboxes of this user have not ended, the limit is 1 (profile p)") {
		t.Error(err)
	}
	if err := check(MetricVCPUHoursPerDay, 1, Counters{VCPUMilliHours: 1500}); fault.From(err).RetryAfter != 10*time.Minute || !strings.Contains(err.Error(), "1.5 vCPU hours") {
		t.Error(err)
	}
	if err := check(MetricStartsPerMinute, 0, Counters{}); !fault.Is(err, fault.Precondition) || fault.From(err).RetryAfter != 0 {
		t.Errorf("a limit of 0 forbids for good, retrying cannot help: %v", err)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	// A header of a response holds all of it, in base64.
	w := &world{Profiles: map[string]json.RawMessage{}}
	for r := range 520 {
		text := runnerText{ID: fmt.Sprintf("runner-%03d-%s", r, strings.Repeat("x", 40))}
		for p := range 2 {
			name := fmt.Sprintf("profile-%d-%d", r, p)
			w.Profiles[name] = json.RawMessage(fmt.Sprintf(`{"resource_defaults": {"cpu_limit": "%dm", "memory_limit": "%dMi"}, "guardrails": {"images": {"allowed": [%q]}}}`, r+1, r+1, "registry.example/"+strings.Repeat("long/", 40)+name))
			text.Bindings = append(text.Bindings, bindingText{Profile: name, Default: p == 0})
		}
		w.Runners = append(w.Runners, text)
	}
	l := &specpb.Launch{ContainerImage: "evil.example/" + strings.Repeat("x", 200), ResourceLimits: &specpb.ResourceAmounts{Cpu: "64", Memory: "64Gi"}}
	for i := range 99 {
		l.ProfileNames = append(l.ProfileNames, fmt.Sprintf("profile-%d-0", i))
	}
	for _, named := range []bool{true, false} {
		if !named {
			l.ProfileNames = nil
		}
		_, err := Make(w.snapshot(t), l, Options{})
		e := fault.From(err)
		size := len(e.Message) + len(e.Reason)
		for _, f := range e.Fields {
			size += len(f.Path) + len(f.Description)
		}
		for k, v := range e.Meta {
			size += len(k) + len(v)
		}
		if size > 6<<10 {
			t.Errorf("named %v: message, violations and metadata have %d bytes", named, size)
		}
		if r := e.Detail.(*Refusal); len(r.Candidates) > MaxCandidates || len(r.Candidates)+r.Omitted < 520 {
			t.Errorf("%d candidates and %d omitted", len(r.Candidates), r.Omitted)
		}
	}
}

func TestRecordIsBounded(t *testing.T) {
	p, err := Make(fleet(t), request(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := ParseRecord(p.Record())
	if err != nil {
		t.Fatal(err)
	}
	if len(rec.Candidates) != MaxRecorded || rec.Omitted != 100-MaxRecorded || !rec.Candidates[0].Chosen {
		t.Errorf("%d candidates and %d omitted", len(rec.Candidates), rec.Omitted)
	}
	if !json.Valid(p.Record()) {
		t.Error("not JSON")
	}
}

func TestParseRecordRefuses(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `[]`, `{"version": 1}`, `{"version": 3}`, `{"version": 2, "layers": [{"layer": "zone", "spec": {"unknown": 1}}]}`, `{"version": 2, "fields": [["container_image", 0]]}`,
		`{"version": 2, "layers": [{"layer": "zone", "spec": {}}], "fields": [["container_image", 0]]}`, `{"version": 2, "layers": [{"spec": {}}], "fields": [["container_image", -1]]}`,
		`{"version": 2, "layers": [{"spec": {}}], "fields": [[1, 0]]}`, `{"version": 2, "layers": [{"spec": {}}], "fields": [["nothing", 0]]}`,
		`{"version": 2, "layers": [{"spec": {}}], "bounds": [{"path": "guardrails.ports.max_count", "value": 1, "owner": 0}]}`,
		`{"version": 2, "layers": [{"spec": {}}], "bounds": [{"path": "guardrails.ports.max_count", "value": 1, "owner": 1}]}`,
		`{"version": 2, "layers": [{"spec": {"guardrails": {"ports": {"max_count": 1}}}}], "bounds": [{"path": "guardrails.ports.max_count", "owner": 0}]}`,
		`{"version": 2, "layers": [{"spec": {"guardrails": {"ports": {"max_count": 1}}}}], "bounds": [{"path": "guardrails.ports.max_count", "value": 1, "shadowed": [-1]}]}`,
	} {
		if r, err := ParseRecord([]byte(text)); err == nil {
			t.Errorf("%s was read as %+v", text, r)
		} else if !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	p, err := Make(fleet(f), request(), Options{Actor: "token:dev"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(p.Record()))
	f.Add([]byte(`{"version":2,"layers":[{"layer":"request","object":"request","spec":{"pod":{"spec":null}}}],"fields":[["pod.spec.x",0]]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRecord(text)
		if err != nil {
			return
		}
		for _, v := range r.Resolved() {
			if v.Origin == nil || v.Path() == "" || len(v.JSON()) == 0 {
				t.Fatalf("%s has an incomplete field %+v", text, v)
			}
		}
	})
}

func TestACandidateOfAnotherOrgIsNotThere(t *testing.T) {
	s := parse(t, `{"profiles": {"p": {}}, "runners": [{"id": "theirs", "org": "another", "bindings": [{"profile": "p", "default": true}]}]}`)
	_, err := Make(s, &specpb.Launch{}, Options{})
	if !fault.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "theirs") || len(fault.From(err).Detail.(*Refusal).Candidates) != 0 {
		t.Error(err)
	}
	if _, err := Make(s, &specpb.Launch{ProfileNames: []string{"p"}}, Options{}); !fault.HasReason(err, fault.ReasonProfileNotFound) || strings.Contains(fault.From(err).Hint, "p,") {
		t.Error(err)
	}
}

func TestARunnerBeingDeletedTakesNothing(t *testing.T) {
	s := parse(t, `{"profiles": {"p": {}}, "runners": [{"id": "r", "bindings": [{"profile": "p", "default": true}]}]}`)
	s.Runners[0].Runner.DeletingSince = &day
	if _, err := Make(s, &specpb.Launch{}, Options{}); !fault.Is(err, fault.Precondition) || fault.From(err).RetryAfter != 0 || fault.From(err).Hint != "" || !strings.Contains(err.Error(), "being deleted") {
		t.Error(err)
	}
}
