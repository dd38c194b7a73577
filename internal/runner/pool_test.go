package runner_test

import (
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/runner"
)

// poolOf is what an honest gateway asks to be prepared for the launches of an assignment.
func poolOf(t *testing.T, as *runner.Assignment) runner.Pool {
	t.Helper()
	layers := as.Layers[:len(as.Layers)-1]
	resolved, err := runner.Unasked(resolve.Fold(layers))
	if err != nil {
		t.Fatal(err)
	}
	return runner.Pool{Pool: backend.Pool{RunnerID: "r1", ProfileName: "agent", Spec: &specpb.ProfileSpec{}, Digest: resolved.Digest(), Size: 1}, Layers: layers}
}

// TestSetPools: what is prepared is what the layers say here, and a launch that asks for nothing gets it.
func TestSetPools(t *testing.T) {
	b := fake.New(fake.Config{})
	a := runner.NewAgent(b, nil)
	as := assignment(t, "s1", &specpb.Launch{})
	as.Work.ProfileName = "agent"
	if err := a.SetPools(t.Context(), []runner.Pool{poolOf(t, as)}); err != nil {
		t.Fatal(err)
	}
	if p := a.Pools(); len(p) != 1 || p[0].Ready != 1 || p[0].Digest != as.Work.Digest {
		t.Fatalf("%+v, want digest %s", p, as.Work.Digest)
	}
	if err := a.Apply(t.Context(), as); err != nil {
		t.Fatal(err)
	}
	if p := a.Pools(); p[0].Hits != 1 {
		t.Errorf("%+v", p)
	}
	// The spec that came along did not count.
	other := assignment(t, "s2", &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "1"}})
	other.Work.ProfileName = "agent"
	if err := a.Apply(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	for o := range b.Observe(t.Context()) {
		if o == nil {
			break
		}
		if o.SandboxID == "s2" {
			for _, e := range o.Events {
				if e.Name == core.EventWarm && e.Message != "miss: prepared sandboxes differ in resource_defaults.cpu_limit" {
					t.Errorf("%+v", e)
				}
			}
		}
	}
}

// TestSetPoolsRefuses: a gateway alone cannot make a runner prepare anything else than what the layers say.
func TestSetPoolsRefuses(t *testing.T) {
	for name, change := range map[string]func(*runner.Pool){
		"another digest":      func(p *runner.Pool) { p.Digest = "sha256:0" },
		"a layer left out":    func(p *runner.Pool) { p.Layers = p.Layers[:2] },
		"layers out of order": func(p *runner.Pool) { p.Layers[1], p.Layers[2] = p.Layers[2], p.Layers[1] },
		"a request":           func(p *runner.Pool) { p.Layers[2].Origin.Layer = resolve.LayerRequest },
	} {
		b := fake.New(fake.Config{})
		p := poolOf(t, assignment(t, "s1", nil))
		change(&p)
		if err := runner.NewAgent(b, nil).SetPools(t.Context(), []runner.Pool{p}); !fault.HasReason(err, fault.ReasonDigestMismatch) {
			t.Errorf("%s: %v", name, err)
		}
		if len(b.Pools()) > 0 {
			t.Errorf("%s: %+v", name, b.Pools())
		}
	}
}
