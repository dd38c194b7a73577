package plan

import (
	"encoding/json"
	"fmt"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// fleet is 100 runners with 5 bindings each, folds cached, with zone defaults, overrides and guardrails as people write them.
func fleet(b testing.TB) *Snapshot {
	w := &world{
		Zones:    map[string]json.RawMessage{"z": json.RawMessage(`{"tags": ["shared"], "resource_defaults": {"cpu_request": "100m"}, "guardrails": {"resources": {"max_cpu": "16"}}}`)},
		Profiles: map[string]json.RawMessage{},
	}
	for p := range 5 {
		w.Profiles[fmt.Sprintf("p%d", p)] = json.RawMessage(`{"container_image": "registry.example/agents/base:1", "runtime_class": "gvisor",
			"resource_defaults": {"cpu_limit": "2", "memory_request": "512Mi", "memory_limit": "4Gi"}, "node_selector": {"pool": "general"}, "instance_types": ["cpu.small"],
			"namespace": {"strategy": "per-user", "namespacePrefix": "agents-"},
			"network": {"egress": {"default": "none", "modes": {"none": {"type": "none"}, "index": {"type": "allowlist", "cidrs": ["198.51.100.0/24"]}}}},
			"pod": {"metadata": {"labels": {"team": "ml"}, "annotations": {"team": "ml"}}, "spec": {"terminationGracePeriodSeconds": 5}},
			"guardrails": {"resources": {"max_cpu": "8", "max_memory": "32Gi"}, "images": {"allowed": ["registry.example/**", "python:3.*"]}, "lifetime": {"max_seconds": 86400}, "annotations": {"max_count": 8}}}`)
	}
	for r := range 100 {
		text := runnerText{ID: fmt.Sprintf("runner-%03d", r), Zone: "z", Group: fmt.Sprintf("g%d", r%4), Classes: []string{"gvisor", "runc"}, Arch: "amd64"}
		text.Used.CPUMillis, text.Used.Sandboxes = int64(r)*600, int64(r)
		for p := range 5 {
			b := bindingText{Profile: fmt.Sprintf("p%d", p), Default: p == 0}
			if p%2 == 0 {
				b.Overrides = json.RawMessage(`{"node_selector": {"pool": "here"}, "resource_defaults": {"memory_limit": "8Gi"}}`)
			}
			text.Bindings = append(text.Bindings, b)
		}
		w.Runners = append(w.Runners, text)
	}
	return w.snapshot(b)
}

func request() *specpb.Launch {
	return &specpb.Launch{
		Command: "python", Args: []string{"-c", "print(1)"}, ContainerImage: "python:3.11", Tags: []string{"job-1"},
		ResourceRequests: &specpb.ResourceAmounts{Cpu: "500m", Memory: "1Gi"}, ResourceLimits: &specpb.ResourceAmounts{Cpu: "2", Memory: "2Gi"},
		EgressMode: "index", PodAnnotations: map[string]string{"run": "42"},
	}
}

func benchmarkMake(b *testing.B, edit func(*specpb.Launch), wantErr bool) {
	s, l := fleet(b), request()
	edit(l)
	b.ReportAllocs()
	seed := uint64(0)
	for b.Loop() {
		seed++
		if _, err := Make(s, l, Options{Seed: seed, Actor: "token:dev"}); (err != nil) != wantErr {
			b.Fatal(err)
		}
	}
}

// The target of the design: 100 runners, 5 bindings each.
func BenchmarkPlan100x5(b *testing.B) { benchmarkMake(b, func(*specpb.Launch) {}, false) }

// All five bindings of every runner are named, and only the last admits.
func BenchmarkPlan100x5Named(b *testing.B) {
	s, l := fleet(b), request()
	for _, r := range s.Runners {
		for _, bound := range r.Bindings[:4] {
			bound.cpu, bound.gpu = tight(b), tight(b)
		}
	}
	l.ProfileNames = []string{"p0", "p1", "p2", "p3", "p4"}
	b.ReportAllocs()
	for b.Loop() {
		p, err := Make(s, l, Options{Seed: 1})
		if err != nil || p.Binding.Name != "p4" {
			b.Fatal(p, err)
		}
	}
}

func tight(b *testing.B) *stack {
	w := &world{Profiles: map[string]json.RawMessage{"t": json.RawMessage(`{"resource_defaults": {"cpu_limit": "1"}}`)}}
	r := w.runner(b, &runnerText{ID: "t", Bindings: []bindingText{{Profile: "t", Default: true}}})
	return r.Bindings[0].cpu
}

// A refusal with the nearest request, over the same fleet.
func BenchmarkRefuse100x5(b *testing.B) {
	benchmarkMake(b, func(l *specpb.Launch) { l.ResourceLimits.Cpu, l.EgressMode = "64", "wide" }, true)
}

// One runner: what a laptop pays.
func BenchmarkPlan1(b *testing.B) {
	s, l := fleet(b), request()
	s.Runners = s.Runners[:1]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Make(s, l, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	p, err := Make(fleet(b), request(), Options{Actor: "token:dev"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(p.Record())))
	for b.Loop() {
		p.Record()
	}
}

func BenchmarkParseRecord(b *testing.B) {
	p, err := Make(fleet(b), request(), Options{Actor: "token:dev"})
	if err != nil {
		b.Fatal(err)
	}
	text := p.Record()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRecord(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewBinding(b *testing.B) {
	s := fleet(b)
	r := s.Runners[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewBinding(r.Runner, r.Zone, r.Bindings[0].Profile, r.Bindings[0].Spec, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// The dearest refusal that a caller can make: a large fleet on which every binding differs, and a request with as many
// wrong annotations as a request may have. The search for the nearest request is bounded, so that this stays bearable.
func BenchmarkRefuseWorst500x5(b *testing.B) {
	w := &world{Profiles: map[string]json.RawMessage{}}
	for r := range 500 {
		text := runnerText{ID: fmt.Sprintf("runner-%03d", r)}
		for p := range 5 {
			name := fmt.Sprintf("profile-%d-%d", r, p)
			w.Profiles[name] = json.RawMessage(fmt.Sprintf(`{"resource_defaults": {"cpu_limit": "%dm", "memory_limit": "%dMi"}}`, r+1, r+1))
			text.Bindings = append(text.Bindings, bindingText{Profile: name, Default: p == 0})
		}
		w.Runners = append(w.Runners, text)
	}
	l := &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "64", Memory: "64Gi"}, PodAnnotations: map[string]string{}}
	for i := range 100 {
		l.PodAnnotations[fmt.Sprintf("k%d.kubernetes.io/x", i)] = "v"
	}
	s := w.snapshot(b)
	for b.Loop() {
		if _, err := Make(s, l, Options{}); err == nil {
			b.Fatal("admitted")
		}
	}
}
