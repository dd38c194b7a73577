package fake_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/backendtest"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend {
		return fake.New(fake.Config{
			UnknownImages: []string{"registry.example/none:1"},
			Refuse: func(w *backend.Work) []fault.Field {
				if w.Spec.GetNamespace().GetStrategy() == "static" {
					return []fault.Field{{Path: "namespace.strategy", Description: "not here"}}
				}
				return nil
			},
		})
	}, backendtest.Options{
		MissingImage: "registry.example/none:1",
		Refused: map[string]func(*backend.Work){
			"namespace.strategy": func(w *backend.Work) {
				strategy := "static"
				w.Spec.Namespace = &specpb.Namespace{Strategy: &strategy}
			},
		},
	})
}

func TestInjections(t *testing.T) {
	b := fake.New(fake.Config{})
	work := func(id string) *backend.Work { return &backend.Work{SandboxID: id} }
	boom := errors.New("boom")
	b.FailNextCreate(boom)
	if err := b.Create(t.Context(), work("a")); !errors.Is(err, boom) {
		t.Errorf("create: %v", err)
	}
	b.FailNextStart(core.EndImageFailed, "no such image")
	b.Hold()
	for _, id := range []string{"a", "b", "c", "d"} {
		if err := b.Create(t.Context(), work(id)); err != nil {
			t.Fatal(err)
		}
	}
	if got := phases(t, b); got["a"].Phase != backend.PhaseCreating || got["b"].Phase != backend.PhaseCreating {
		t.Errorf("held sandboxes: %v", got)
	}
	b.Release()
	b.OutOfMemory("c")
	b.Exit("d", 4)
	b.Lose("b")
	got := phases(t, b)
	failed := 0
	for _, o := range got {
		if o.Reason == core.EndImageFailed {
			failed++
		}
	}
	if failed > 1 || got["b"] != nil {
		t.Errorf("one start was told to fail, %d did; lost: %v", failed, got["b"])
	}
	b.Unreachable(true)
	if err := b.Create(t.Context(), work("e")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("create while unreachable: %v", err)
	}
	for range b.Observe(t.Context()) {
		t.Error("an unreachable backend was observed")
	}
}

func phases(t *testing.T, b *fake.Backend) map[string]*backend.Observation {
	t.Helper()
	all := map[string]*backend.Observation{}
	for o := range b.Observe(t.Context()) {
		if o == nil {
			break
		}
		all[o.SandboxID] = o
	}
	return all
}

func BenchmarkCreateStopDelete(b *testing.B) {
	backendUnderTest := fake.New(fake.Config{})
	ctx := b.Context()
	for b.Loop() {
		if err := backendUnderTest.Create(ctx, &backend.Work{SandboxID: "x"}); err != nil {
			b.Fatal(err)
		}
		if err := backendUnderTest.Stop(ctx, "x", 0, core.EndStopped); err != nil {
			b.Fatal(err)
		}
		if err := backendUnderTest.Delete(ctx, "x"); err != nil {
			b.Fatal(err)
		}
	}
}
