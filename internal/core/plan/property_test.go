package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
)

// profiles of the generator: some admit much, some little, some nothing.
var profileTexts = []string{
	`{}`,
	`{"resource_defaults": {"cpu_limit": "2", "memory_limit": "2Gi"}}`,
	`{"container_image": "python:3.11", "resource_defaults": {"cpu_request": "1", "cpu_limit": "4"}, "guardrails": {"images": {"allowed": ["python:*"]}, "lifetime": {"max_seconds": 60}}}`,
	`{"resource_defaults": {"cpu_limit": "1"}, "guardrails": {"resources": {"max_cpu": "8", "max_gpu": 1}, "annotations": {"max_count": 1}, "fields": {"locked": ["resource_defaults.cpu_request"]}}}`,
	`{"network": {"egress": {"default": "all", "modes": {"all": {"type": "internet"}, "none": {"type": "none"}}}}, "node_selector": {"disk": "ssd"}}`,
	`{"network": {"egress": {"default": "gone"}}}`,
	`{"runtime_class": "gvisor", "pod": {"metadata": {"labels": {"a": "b"}, "annotations": {"a": "1"}}}}`,
}

var overrideTexts = []string{``, `{}`, `{"node_selector": {"disk": "hdd"}}`, `{"resource_defaults": {"cpu_limit": null}}`, `{"resource_defaults": {"memory_limit": "1Gi"}}`, `{"guardrails": {"ports": {"max_count": 0}}}`, `{"pod": null}`}

func drawWorld(t *rapid.T) *world {
	w := &world{Zones: map[string]json.RawMessage{"z": json.RawMessage(`{"tags": ["z"], "guardrails": {"resources": {"max_memory": "4Gi"}}}`)}, Profiles: map[string]json.RawMessage{}}
	for i, text := range profileTexts {
		w.Profiles[fmt.Sprintf("p%d", i)] = json.RawMessage(text)
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "runners") {
		w.Runners = append(w.Runners, drawRunner(t, fmt.Sprintf("r%d", i)))
	}
	return w
}

func drawRunner(t *rapid.T, id string) runnerText {
	pick := func(name string, values ...string) string { return rapid.SampledFrom(values).Draw(t, id+name) }
	r := runnerText{ID: id, Zone: pick("zone", "", "z", "unknown"), Group: pick("group", "", "g"), State: pick("state", "", "", "", "", "disconnected", "cordoned"), Enforce: rapid.IntRange(0, 9).Draw(t, id+"enforce") == 0}
	r.Capacity = &core.Amounts{CPUMillis: 4000, MemoryBytes: 8 << 30, GPUs: 1, Sandboxes: 3}
	r.Used = core.Amounts{CPUMillis: rapid.Int64Range(0, 4).Draw(t, id+"used") * 1000, Sandboxes: rapid.Int64Range(0, 3).Draw(t, id+"sandboxes")}
	if rapid.Bool().Draw(t, id+"labelled") {
		r.Labels = map[string]string{"disk": pick("disk", "ssd", "hdd")}
	}
	if rapid.IntRange(0, 3).Draw(t, id+"refuses") == 0 {
		r.Refuses = []string{"pod.metadata.labels", "runtime_class"}
	}
	names := rapid.SliceOfNDistinct(rapid.IntRange(0, len(profileTexts)-1), 1, 4, rapid.ID[int]).Draw(t, id+"bindings")
	for i, n := range names {
		b := bindingText{Profile: fmt.Sprintf("p%d", n), Default: i == 0}
		if text := pick(fmt.Sprintf("override%d", i), overrideTexts...); text != "" {
			b.Overrides = json.RawMessage(text)
		}
		r.Bindings = append(r.Bindings, b)
	}
	return r
}

func drawRequest(t *rapid.T) *specpb.Launch {
	pick := func(name string, values ...string) string {
		return rapid.SampledFrom(append([]string{"", "", ""}, values...)).Draw(t, name)
	}
	l := &specpb.Launch{ContainerImage: pick("image", "python:3.11", "evil:1"), EgressMode: pick("egress", "none", "all"), MaxLifetimeSeconds: rapid.SampledFrom([]int32{0, 0, 30, 90}).Draw(t, "lifetime")}
	cpu, memory := pick("cpu", "1", "3", "16"), pick("memory", "1Gi", "3Gi")
	if cpu+memory != "" {
		l.ResourceLimits = &specpb.ResourceAmounts{Cpu: cpu, Memory: memory}
		if rapid.Bool().Draw(t, "guaranteed") {
			l.ResourceRequests = &specpb.ResourceAmounts{Cpu: cpu, Memory: memory}
		}
	}
	if rapid.IntRange(0, 5).Draw(t, "gpu") == 0 {
		l.ResourceLimits = &specpb.ResourceAmounts{Cpu: cpu, Memory: memory, Gpu: &specpb.Gpu{Count: rapid.Int64Range(1, 2).Draw(t, "gpus")}}
	}
	for _, key := range []string{"a", "b", "kubernetes.io/c"} {
		if rapid.IntRange(0, 4).Draw(t, key) == 0 {
			if l.PodAnnotations == nil {
				l.PodAnnotations = map[string]string{}
			}
			l.PodAnnotations[key] = "v"
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "port") == 0 {
		l.Ports = []*specpb.Port{{ContainerPort: 80}}
	}
	l.ProfileNames = rapid.SliceOfN(rapid.SampledFrom([]string{"p0", "p1", "p2", "p3", "p4", "p5", "p6", "nobody"}), 0, 3).Draw(t, "profiles")
	if rapid.IntRange(0, 5).Draw(t, "narrow") == 0 {
		l.RunnerIds = []string{rapid.SampledFrom([]string{"r0", "r1", "r9"}).Draw(t, "runner")}
	}
	return l
}

// decision is what two plans must agree on to be the same.
func decision(p *Plan, err error) string {
	if err != nil {
		e := fault.From(err)
		out := fmt.Sprintf("%s %s %s", e.Code, e.Reason, e.Message)
		if r, ok := e.Detail.(*Refusal); ok {
			out += fmt.Sprintf(" %v %v", r.Changes, r.Admitting)
		}
		return out
	}
	return p.Runner.Runner.RunnerID + "/" + p.Binding.Name + " " + p.Digest
}

func TestOrderOfRunnersDoesNotMatter(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		s, l, opts := drawWorld(t).snapshot(outer), drawRequest(t), Options{Seed: rapid.Uint64().Draw(t, "seed")}
		before, errBefore := Make(s, l, opts)
		s.Runners = rapid.Permutation(s.Runners).Draw(t, "order")
		after, errAfter := Make(s, l, opts)
		if a, b := decision(before, errBefore), decision(after, errAfter); a != b {
			t.Fatalf("%s\nin another order\n%s", a, b)
		}
		if before != nil && !reflect.DeepEqual(names(before.Candidates), names(after.Candidates)) {
			t.Fatalf("%v\n%v", names(before.Candidates), names(after.Candidates))
		}
	})
}

func names(list []Candidate) (out []string) {
	for _, c := range list {
		out = append(out, c.text())
	}
	return out
}

func TestExplainDecidesTheSame(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		s, l, seed := drawWorld(t).snapshot(outer), drawRequest(t), rapid.Uint64().Draw(t, "seed")
		a, errA := Make(s, l, Options{Seed: seed})
		b, errB := Make(s, l, Options{Seed: seed, Explain: true})
		if decision(a, errA) != decision(b, errB) {
			t.Fatalf("%s\nexplained\n%s", decision(a, errA), decision(b, errB))
		}
	})
}

func TestAddingCapacityNeverRemovesFeasibility(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		s, l := drawWorld(t).snapshot(outer), drawRequest(t)
		_, err := Make(s, l, Options{})
		for _, r := range s.Runners {
			r.Capacity.CPUMillis += rapid.Int64Range(0, 3).Draw(t, "cpu") * 1000
			r.Capacity.Sandboxes += rapid.Int64Range(0, 3).Draw(t, "sandboxes")
			r.Capacity.GPUs += rapid.Int64Range(0, 1).Draw(t, "gpus")
		}
		_, after := Make(s, l, Options{})
		if err == nil && after != nil {
			t.Fatalf("admitted, and with more capacity: %v", after)
		}
		if err == nil || after == nil {
			return
		}
		// What no runner could ever hold may now be what one has no room for at present; nothing else changes.
		was, is := fault.CodeOf(err), fault.CodeOf(after)
		if was != is && was != fault.Exhausted && is != fault.Exhausted {
			t.Fatalf("capacity turned %v into %v", err, after)
		}
	})
}

func TestEveryRunnerHasItsReason(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		s, l := drawWorld(t).snapshot(outer), drawRequest(t)
		p, err := Make(s, l, Options{Seed: rapid.Uint64().Draw(t, "seed")})
		var list []Candidate
		var refusal *Refusal
		switch {
		case err == nil:
			list = p.Candidates
		case fault.Is(err, fault.NotFound), fault.Is(err, fault.Invalid):
			return
		default:
			var ok bool
			if refusal, ok = fault.From(err).Detail.(*Refusal); !ok {
				t.Fatalf("no refusal in %v", err)
			}
			list = refusal.Candidates
		}
		chosen := 0
		for _, c := range list {
			if c.Chosen {
				chosen++
			}
			if c.Chosen == (len(c.Reasons) > 0) {
				t.Fatalf("%s chosen %v has the reasons %v", c.RunnerID, c.Chosen, c.Reasons)
			}
			for _, r := range c.Reasons {
				if r.Code == "" || r.Message == "" {
					t.Fatalf("%s has an empty reason: %+v", c.RunnerID, r)
				}
			}
		}
		if want := map[bool]int{true: 1}[err == nil]; chosen != want {
			t.Fatalf("%d chosen, error %v", chosen, err)
		}
		for _, r := range s.Runners {
			if !slices.ContainsFunc(list, func(c Candidate) bool { return c.RunnerID == r.Runner.RunnerID }) {
				t.Fatalf("%s is not spoken of", r.Runner.RunnerID)
			}
		}
	})
}

func TestNearestIsAdmitted(t *testing.T) {
	outer := t
	helped := 0
	rapid.Check(t, func(t *rapid.T) {
		s, l := drawWorld(t).snapshot(outer), drawRequest(t)
		_, err := Make(s, l, Options{})
		var e *fault.Error
		if !errors.As(err, &e) {
			return
		}
		r, ok := e.Detail.(*Refusal)
		if !ok || r.Nearest == nil {
			return
		}
		helped++
		if _, err := Make(s, r.Nearest, Options{}); err != nil {
			t.Fatalf("the nearest request is refused: %v", err)
		}
		for _, c := range r.Changes {
			if _, err := Make(s, launch.Undo(r.Nearest, l, c.Path), Options{}); err == nil {
				t.Fatalf("the change of %s was not needed", c.Path)
			}
		}
	})
	if helped == 0 {
		t.Error("no refusal came with a nearest request")
	}
}

func TestThePlanIsWhatTheRunnerFolds(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		s, l := drawWorld(t).snapshot(outer), drawRequest(t)
		p, err := Make(s, l, Options{Actor: "token:dev"})
		if err != nil {
			return
		}
		if got := resolve.Fold(p.Layers()).Digest(); got != p.Digest {
			t.Fatalf("the runner folds %s, the plan says %s", got, p.Digest)
		}
		rec, err := ParseRecord(p.Record())
		if err != nil {
			t.Fatal(err)
		}
		sameValues(outer, p.Resolved.Fields(), rec.Resolved())
		if resolve.Fold(rec.Layers).Digest() != p.Digest || rec.Digest != p.Digest || string(rec.Spec) != string(p.Resolved.JSON()) {
			t.Fatal("the stored layers do not fold to the stored digest")
		}
		if rec.Reserve != p.Reserve || rec.LifetimeSeconds != p.LifetimeSeconds || rec.EgressMode != p.EgressMode || rec.RunnerID != p.Runner.Runner.RunnerID ||
			rec.ProfileName != p.Binding.Name || !slices.Equal(rec.Refs, p.Refs) || !reflect.DeepEqual(names(rec.Candidates), names(p.Candidates)) {
			t.Fatalf("recorded %+v of %+v", rec, p)
		}
	})
}

func TestAdmittedPassesGuardAgain(t *testing.T) {
	// The owner of a cluster can check what a gateway decided, with the same function.
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		s, l := drawWorld(t).snapshot(outer), drawRequest(t)
		p, err := Make(s, l, Options{})
		if err != nil {
			return
		}
		r, err := launch.New(l)
		if err != nil {
			t.Fatal(err)
		}
		limits := guard.Effective(p.stack.inputs, p.Binding.Extra...)
		if v := guard.Check(limits, guard.NewSubject(r, &p.RequestLayer.Origin, p.Runner.DefaultRuntimeClass)); len(v) > 0 {
			t.Fatalf("admitted in spite of %s", guard.Explain(v))
		}
	})
}
