package runner_test

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/runner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func layer(t *testing.T, text string) *spec.Layer {
	t.Helper()
	l, err := spec.ParseLayer([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// assignment is what an honest gateway sends.
func assignment(t *testing.T, id string, l *specpb.Launch) *runner.Assignment {
	t.Helper()
	request, err := launch.Layer(l)
	if err != nil {
		t.Fatal(err)
	}
	layers := []resolve.Input{
		resolve.BuiltIn(),
		{Origin: resolve.Origin{Layer: resolve.LayerProfile, Object: "profile agent", ID: "p", Revision: 3}, Layer: layer(t, `{"container_image":"host","resource_defaults":{"cpu_limit":"2","memory_limit":"1Gi"}}`)},
		{Origin: resolve.Origin{Layer: resolve.LayerOverride, Object: "binding r1/agent"}, Layer: layer(t, `{"tags":null,"node_selector":{"a":"b"}}`)},
		{Origin: resolve.Origin{Layer: resolve.LayerRequest, Object: "request"}, Layer: request},
	}
	resolved := resolve.Fold(layers[:3]).Overlay(layers[3])
	return &runner.Assignment{
		Work: backend.Work{SandboxID: id, RunnerID: "r1", Spec: resolved.Message(), Digest: resolved.Digest(), Launch: l}, Layers: layers,
	}
}

func TestApply(t *testing.T) {
	b := fake.New(fake.Config{})
	a := runner.NewAgent(b, nil)
	as := assignment(t, "s1", &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "1"}})
	for range 2 {
		if err := a.Apply(t.Context(), as); err != nil {
			t.Fatal(err)
		}
	}
	if b.Creates() != 1 {
		t.Errorf("made %d times", b.Creates())
	}
	if got := b.Work("s1").Spec; got.GetResourceDefaults().GetCpuLimit() != "1" || got.GetNodeSelector()["a"] != "b" {
		t.Errorf("%v", got)
	}
}

// TestLifetime: how long a sandbox may live is what the layers and the owner of the cluster say together, whatever the gateway sends.
func TestLifetime(t *testing.T) {
	owner := &resolve.Input{Origin: resolve.Origin{Layer: resolve.LayerZone, Object: "owner"}, Layer: layer(t, `{"guardrails":{"lifetime":{"max_seconds":600}}}`)}
	for asked, want := range map[int32]int32{0: 600, 60: 60} {
		b := fake.New(fake.Config{})
		as := assignment(t, "s1", &specpb.Launch{MaxLifetimeSeconds: asked})
		as.Work.LifetimeSeconds = 86400
		if err := runner.NewAgent(b, owner).Apply(t.Context(), as); err != nil {
			t.Fatal(err)
		}
		if got := b.Work("s1").LifetimeSeconds; got != want {
			t.Errorf("asked for %d, runs for %d, want %d", asked, got, want)
		}
	}
}

// TestApplyRefuses: a gateway alone cannot make a runner run anything else than what the layers say.
func TestApplyRefuses(t *testing.T) {
	l := &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "1"}}
	tests := []struct {
		name   string
		change func(*runner.Assignment)
		reason string
	}{
		{"another digest", func(a *runner.Assignment) { a.Work.Digest = "sha256:0" }, fault.ReasonDigestMismatch},
		{"no digest", func(a *runner.Assignment) { a.Work.Digest = "" }, fault.ReasonDigestMismatch},
		{"a layer changed", func(a *runner.Assignment) { a.Layers[1].Layer = layer(t, `{"container_image":"evil"}`) }, fault.ReasonDigestMismatch},
		{"a layer left out", func(a *runner.Assignment) { a.Layers = append(a.Layers[:1], a.Layers[2:]...) }, fault.ReasonDigestMismatch},
		{"no layers", func(a *runner.Assignment) { a.Layers = nil }, fault.ReasonDigestMismatch},
		{"no request", func(a *runner.Assignment) { a.Layers = a.Layers[:3] }, fault.ReasonDigestMismatch},
		{"another request", func(a *runner.Assignment) {
			a.Work.Launch = &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "2"}}
		}, fault.ReasonDigestMismatch},
		{"a request that does more", func(a *runner.Assignment) {
			a.Work.Launch = proto.CloneOf(a.Work.Launch)
			a.Work.Launch.ContainerImage = "other"
		}, fault.ReasonDigestMismatch},
		{"layers out of order", func(a *runner.Assignment) { a.Layers[1], a.Layers[2] = a.Layers[2], a.Layers[1] }, fault.ReasonDigestMismatch},
		{"two requests", func(a *runner.Assignment) { a.Layers[2].Origin.Layer = resolve.LayerRequest }, fault.ReasonDigestMismatch},
		{"a malformed request", func(a *runner.Assignment) { a.Work.Launch = &specpb.Launch{MaxLifetimeSeconds: -1} }, fault.ReasonInvalidRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := fake.New(fake.Config{})
			as := assignment(t, "s1", l)
			tt.change(as)
			if err := runner.NewAgent(b, nil).Apply(t.Context(), as); !fault.HasReason(err, tt.reason) {
				t.Errorf("%v", err)
			}
			if b.Creates() != 0 {
				t.Error("a sandbox was made")
			}
		})
	}
}

// TestTheSpecThatCameAlongDoesNotCount: what runs is what the layers say here.
func TestTheSpecThatCameAlongDoesNotCount(t *testing.T) {
	b := fake.New(fake.Config{})
	as := assignment(t, "s1", nil)
	as.Work.Spec = &specpb.ProfileSpec{ContainerImage: proto.String("evil")}
	if err := runner.NewAgent(b, nil).Apply(t.Context(), as); err != nil {
		t.Fatal(err)
	}
	if got := b.Work("s1").Spec.GetContainerImage(); got != "host" {
		t.Errorf("image %s", got)
	}
}

func TestOwnersGuardrails(t *testing.T) {
	owner := &resolve.Input{
		Origin: resolve.Origin{Layer: resolve.LayerZone, Object: "owner of the cluster"},
		Layer:  layer(t, `{"guardrails":{"resources":{"max_cpu":"1"},"images":{"allowed":["host"]}}}`),
	}
	b := fake.New(fake.Config{})
	a := runner.NewAgent(b, owner)
	if a.Guardrails() != owner {
		t.Error("the guardrails are not told")
	}
	err := a.Apply(t.Context(), assignment(t, "s1", nil)) // 2 CPUs by default
	if !fault.Is(err, fault.Precondition) || !fault.HasReason(err, fault.ReasonGuardrailViolated) || !strings.Contains(err.Error(), "cpu_limit") {
		t.Errorf("%v", err)
	}
	err = a.Apply(t.Context(), assignment(t, "s1", &specpb.Launch{ContainerImage: "other", ResourceLimits: &specpb.ResourceAmounts{Cpu: "1"}}))
	if !fault.HasReason(err, fault.ReasonGuardrailViolated) || !strings.Contains(err.Error(), "container_image") {
		t.Errorf("%v", err)
	}
	if err := a.Apply(t.Context(), assignment(t, "s1", &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "1"}})); err != nil {
		t.Error(err)
	}
	if b.Creates() != 1 {
		t.Errorf("%d were made", b.Creates())
	}
}

func TestBackendRefusalComesBeforeCreate(t *testing.T) {
	b := fake.New(fake.Config{Refuse: func(*backend.Work) []fault.Field { return []fault.Field{{Path: "tags", Description: "no"}} }})
	err := runner.NewAgent(b, nil).Apply(t.Context(), assignment(t, "s1", nil))
	if !fault.HasReason(err, fault.ReasonBackendUnsupported) || b.Creates() != 0 {
		t.Errorf("%v, %d made", err, b.Creates())
	}
}
