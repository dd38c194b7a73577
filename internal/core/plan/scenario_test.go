package plan

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

var update = flag.Bool("update", false, "write the golden files of testdata")

// world is what a scenario describes, as JSON.
type world struct {
	Zones    map[string]json.RawMessage `json:"zones"`
	Profiles map[string]json.RawMessage `json:"profiles"`
	Runners  []runnerText               `json:"runners"`
}

type runnerText struct {
	ID         string            `json:"id"`
	Zone       string            `json:"zone"`
	Org        string            `json:"org"`
	Group      string            `json:"group"`
	State      string            `json:"state"` // "", "disconnected", "cordoned", "unable"
	Arch       string            `json:"arch"`
	Classes    []string          `json:"classes"`
	Labels     map[string]string `json:"labels"`
	Features   []string          `json:"features"`
	Capacity   *core.Amounts     `json:"capacity"`
	Used       core.Amounts      `json:"used"`
	Enforce    bool              `json:"enforceResourceLimits"`
	CPUClass   string            `json:"cpuRuntimeClass"`
	GPUClass   string            `json:"gpuRuntimeClass"`
	Guardrails json.RawMessage   `json:"guardrails"`
	Refuses    []string          `json:"refuses"` // paths that the backend refuses when they are set
	Bindings   []bindingText     `json:"bindings"`
}

type bindingText struct {
	Profile   string          `json:"profile"`
	Alias     string          `json:"alias"`
	Default   bool            `json:"default"`
	Overrides json.RawMessage `json:"overrides"`
}

var day = time.Date(2026, 5, 14, 9, 0, 0, 0, time.UTC)

func layer(t testing.TB, text []byte) *spec.Layer {
	t.Helper()
	if text == nil {
		return nil
	}
	l, err := spec.ParseLayer(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return l
}

func meta(kind, name string) core.Meta {
	return core.Meta{ID: uuid(kind + name), OrgID: "org", Revision: 1, UpdatedAt: day, UpdatedBy: "token:ops"}
}

// uuid makes a stable UUID of a name.
func uuid(name string) string {
	sum := strings.TrimPrefix(spec.Digest([]byte(name)), "sha256:")
	return fmt.Sprintf("%s-%s-%s-%s-%s", sum[:8], sum[8:12], sum[12:16], sum[16:20], sum[20:32])
}

func (w *world) snapshot(t testing.TB) *Snapshot {
	t.Helper()
	s := &Snapshot{OrgID: "org", Now: day}
	for _, text := range w.Runners {
		s.Runners = append(s.Runners, w.runner(t, &text))
	}
	return s
}

func (w *world) runner(t testing.TB, text *runnerText) *Runner {
	t.Helper()
	r := &core.Runner{Meta: meta("runner ", text.ID), RunnerID: text.ID, Zone: text.Zone, GroupID: text.Group}
	if text.Org != "" {
		r.OrgID = text.Org
	}
	r.Managed = core.ManagedSpec{EnforceResourceLimits: text.Enforce, CPURuntimeClass: text.CPUClass, GPURuntimeClass: text.GPUClass}
	out := &Runner{
		Runner: r, Connected: text.State != "disconnected", Cordoned: text.State == "cordoned", Unable: unable[text.State], Kind: "fake", Architecture: text.Arch,
		RuntimeClasses: text.Classes, NodeLabels: text.Labels, Features: text.Features, Used: text.Used,
		Capacity: core.Amounts{CPUMillis: 64_000, MemoryBytes: 256 << 30, GPUs: 8, Sandboxes: 100}, DefaultRuntimeClass: "crun",
	}
	if text.Capacity != nil {
		out.Capacity = *text.Capacity
	}
	if d, ok := w.Zones[text.Zone]; ok {
		out.Zone = &core.Zone{Meta: meta("zone ", text.Zone), Name: text.Zone, Defaults: layer(t, d)}
	}
	if text.Guardrails != nil {
		out.Guardrails = &resolve.Input{
			Origin: resolve.Origin{Layer: resolve.LayerZone, Object: "guardrails of runner " + text.ID}, Layer: layer(t, text.Guardrails),
		}
	}
	if len(text.Refuses) > 0 {
		out.Refuses = refuser(text.Refuses)
	}
	for _, b := range text.Bindings {
		p := &core.Profile{Meta: meta("profile ", b.Profile), DisplayName: b.Profile, Spec: layer(t, w.Profiles[b.Profile])}
		bound := core.Binding{ProfileID: p.ID, Alias: b.Alias, Default: b.Default, Overrides: layer(t, b.Overrides)}
		made, err := NewBinding(r, out.Zone, p, bound, out.Guardrails)
		if err != nil {
			t.Fatal(err)
		}
		out.Bindings = append(out.Bindings, made)
	}
	return out
}

// refuser is a backend that refuses fields when they are set.
func refuser(paths []string) func(*specpb.ProfileSpec, *specpb.Launch) []guard.Violation {
	return func(s *specpb.ProfileSpec, _ *specpb.Launch) []guard.Violation {
		l, err := spec.FromMessage(s)
		if err != nil {
			return []guard.Violation{{Message: err.Error()}}
		}
		var out []guard.Violation
		for _, path := range paths {
			if leaf, ok := l.Get(path); ok {
				out = append(out, guard.Violation{Path: path, Message: fmt.Sprintf("this backend cannot honour %s: %s", path, leaf)})
			}
		}
		return out
	}
}

// TestScenarios runs testdata/*.txtar: a file "world", then pairs of "request NAME" and "want NAME".
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			scenario(t, archive)
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func scenario(t *testing.T, archive *txtar.Archive) {
	var w world
	var out []txtar.File
	for _, f := range archive.Files {
		kind, name, _ := strings.Cut(f.Name, " ")
		switch kind {
		case "world":
			w = world{}
			strict(t, f.Data, &w)
			out = append(out, f)
		case "want":
		case "request":
			want := ""
			if i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want "+name }); i >= 0 {
				want = string(archive.Files[i].Data)
			}
			got := decide(t, &w, f.Data)
			if !*update && got != want {
				t.Errorf("request %q:\n--- got\n%s--- want\n%s", name, got, want)
			}
			out = append(out, f, txtar.File{Name: "want " + name, Data: []byte(got)})
		default:
			t.Fatalf("unknown part %q", f.Name)
		}
	}
	archive.Files = out
}

func strict(t testing.TB, text []byte, to any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
}

// decide makes a plan and renders all of it. Every plan is also recorded and read back.
func decide(t *testing.T, w *world, request []byte) string {
	l, err := UnmarshalLaunch(request)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	s := w.snapshot(t)
	p, err := Make(s, l, Options{Actor: "token:dev", Seed: 1})
	if err != nil {
		return renderRefusal(t, s, l, err)
	}
	rec, err := ParseRecord(p.Record())
	if err != nil {
		t.Fatal(err)
	}
	sameValues(t, p.Resolved.Fields(), rec.Resolved())
	sameBounds(t, p.Bounds(), rec.Bounds)
	var b strings.Builder
	fmt.Fprintf(&b, "admitted: %s/%s\n", p.Runner.Runner.RunnerID, p.Binding.Name)
	fmt.Fprintf(&b, "reserve: cpu %s, memory %s, gpus %d\n", spec.FormatCPU(p.Reserve.CPUMillis), spec.FormatMemory(p.Reserve.MemoryBytes), p.Reserve.GPUs)
	fmt.Fprintf(&b, "egress: %s, ingress: %q, lifetime: %d\n", p.EgressMode, p.IngressMode, p.LifetimeSeconds)
	for _, v := range p.Resolved.Fields() {
		if v.Field.Guardrail {
			continue // told as bounds
		}
		fmt.Fprintf(&b, "  %s = %s  [%s: %s]", v.Path(), v.JSON(), v.Origin.Layer, v.Origin.Object)
		for _, sh := range v.Shadowed {
			fmt.Fprintf(&b, " over %s [%s]", sh.JSON(), sh.Origin.Object)
		}
		b.WriteByte('\n')
	}
	for _, c := range p.UsageChecks {
		fmt.Fprintf(&b, "usage: %s of the %s at most %d [%s]\n", c.Metric, c.Subject, c.Limit, c.Origin.Object)
	}
	for _, bound := range rec.Bounds {
		fmt.Fprintf(&b, "bound: %s = %s [%s]", bound.Path, bound.Value, bound.Owner.Origin.Object)
		for _, st := range bound.Combined {
			fmt.Fprintf(&b, " with %s [%s]", st.Value, st.Origin.Object)
		}
		for _, st := range bound.Shadowed {
			fmt.Fprintf(&b, " over %s [%s]", st.Value, st.Origin.Object)
		}
		b.WriteByte('\n')
	}
	renderCandidates(&b, p.Candidates)
	if diff := cmp.Diff(p.Steps, rec.Steps); diff != "" {
		t.Errorf("the steps as they were recorded: %s", diff)
	}
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "group %q %s %s\n", s.Group, s.Outcome, s.Message)
	}
	if p.Hold != nil {
		fmt.Fprintf(&b, "hold: %s for %s, %d runners\n", p.Hold.Group, p.Hold.For, len(p.Hold.Runners))
	}
	return b.String()
}

func sameValues(t testing.TB, want, got []resolve.Value) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("the record has %d fields, the plan %d", len(got), len(want))
	}
	for i := range want {
		a, b := want[i], got[i]
		if !a.Leaf.Equal(*b.Leaf) || !sameOrigin(a.Origin, b.Origin) || len(a.Shadowed) != len(b.Shadowed) {
			t.Fatalf("recorded %s %s %v, planned %s %s %v", b.Path(), b.JSON(), b.Origin, a.Path(), a.JSON(), a.Origin)
		}
		for j := range a.Shadowed {
			if !a.Shadowed[j].Leaf.Equal(*b.Shadowed[j].Leaf) || !sameOrigin(a.Shadowed[j].Origin, b.Shadowed[j].Origin) {
				t.Fatalf("%s: shadow %d differs: %v and %v", a.Path(), j, a.Shadowed[j], b.Shadowed[j])
			}
		}
	}
}

func sameBounds(t testing.TB, want, got []Bound) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b *resolve.Origin) bool { return sameOrigin(a, b) })); diff != "" {
		t.Fatalf("recorded guardrails: %s", diff)
	}
}

func sameOrigin(a, b *resolve.Origin) bool {
	return a.Layer == b.Layer && a.Object == b.Object && a.ID == b.ID && a.Revision == b.Revision && a.By == b.By && a.Reason == b.Reason && a.At.Equal(b.At)
}

func renderCandidates(b *strings.Builder, list []Candidate) {
	for _, c := range list {
		fmt.Fprintf(b, "candidate %s", c.RunnerID)
		if c.ProfileName != "" {
			fmt.Fprintf(b, "/%s", c.ProfileName)
		}
		if c.Chosen {
			b.WriteString(" chosen")
		}
		if c.Score != 0 {
			fmt.Fprintf(b, " score %.3f", c.Score)
		}
		b.WriteByte('\n')
		for _, r := range c.Reasons {
			fmt.Fprintf(b, "  %s %s\n", r.Code, r.Message)
		}
	}
}

func renderRefusal(t *testing.T, s *Snapshot, l *specpb.Launch, err error) string {
	var e *fault.Error
	if !errors.As(err, &e) {
		t.Fatalf("not a fault: %v", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "refused: %s %s\n%s\n", e.Code, e.Reason, e.Message)
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, "retry: %s\n", e.RetryAfter)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "hint: %s\n", e.Hint)
	}
	for _, f := range e.Fields {
		fmt.Fprintf(&b, "field %s: %s\n", f.Path, f.Description)
	}
	for _, key := range slices.Sorted(maps.Keys(e.Meta)) {
		if !strings.HasPrefix(key, "candidate") {
			fmt.Fprintf(&b, "meta %s: %s\n", key, e.Meta[key])
		}
	}
	r, ok := e.Detail.(*Refusal)
	if !ok {
		return b.String()
	}
	renderCandidates(&b, r.Candidates)
	if r.Nearest != nil {
		text, err := MarshalLaunch(r.Nearest)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "nearest: %s\n", text)
		isNearest(t, s, l, r)
	}
	return b.String()
}

// isNearest checks what is promised of a nearest request.
func isNearest(t testing.TB, s *Snapshot, l *specpb.Launch, r *Refusal) {
	t.Helper()
	opts := Options{Actor: "token:dev", Seed: 1}
	if _, err := Make(s, r.Nearest, opts); err != nil {
		t.Errorf("the nearest request is refused: %v", err)
	}
	for _, c := range r.Changes {
		if _, err := Make(s, launch.Undo(r.Nearest, l, c.Path), opts); err == nil {
			t.Errorf("without the change of %s the nearest request is admitted too", c.Path)
		}
	}
}

// unable is why a runner in a state can run nothing.
var unable = map[string]string{"unable": "needs root"}
