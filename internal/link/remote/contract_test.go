package remote_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/backendtest"
	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link/linktest"
	"github.com/bermhq/berm/internal/runner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bare is a runner that hands everything to its backend, so that the contract of backends can be tried over a line.
type bare struct{ *runner.Agent }

func newBare(b backend.Backend) bare { return bare{runner.NewAgent(b, nil)} }

// far is a backend at the other end of a line.
type far struct {
	*linktest.Line
	behind backend.Backend
}

func (f *far) Create(ctx context.Context, w *backend.Work) error {
	return f.Apply(ctx, &runner.Assignment{Work: *w})
}

func (f *far) SetPools(ctx context.Context, pools []backend.Pool) error {
	in := make([]runner.Pool, len(pools))
	for i, p := range pools {
		in[i].Pool = p
	}
	return f.Line.SetPools(ctx, in)
}

// Pools asks the backend itself: a line knows what was last said.
func (f *far) Pools() []backend.PoolStatus { return f.behind.Pools() }

func (f *far) Close() error {
	f.Line.Close()
	return f.behind.Close()
}

// unverified applies what comes, without layers.
type unverified struct {
	bare
	b backend.Backend
}

func (u unverified) Apply(ctx context.Context, a *runner.Assignment) error {
	return u.b.Create(ctx, &a.Work)
}

func (u unverified) SetPools(ctx context.Context, pools []runner.Pool) error {
	out := make([]backend.Pool, len(pools))
	for i, p := range pools {
		out[i] = p.Pool
	}
	return u.b.SetPools(ctx, out)
}

// TestContract: a backend at the other end of a line keeps every promise of one in the same process.
func TestContract(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		b := fake.New(fake.Config{
			UnknownImages: []string{"registry.example/none:1"},
			Refuse: func(w *backend.Work) []fault.Field {
				if w.Spec.GetNamespace().GetStrategy() == "static" {
					return []fault.Field{{Path: "namespace.strategy", Description: "not here"}}
				}
				return nil
			},
		})
		return &far{linktest.Over(t, unverified{newBare(b), b}, linktest.Config{}), b}
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
