package control

import (
	"context"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// RunnerView is a runner with what is known of its process.
type RunnerView struct {
	Runner *core.Runner
	Status RunnerStatus
	// Deployment is what is wanted of the process, and how far that is.
	Deployment Deployment
	// BindingNames has the name of each of Runner.Bindings, in the same order.
	BindingNames []string
}

// viewOf returns a runner with its status and the names of its bindings.
func (s *Service) viewOf(ctx context.Context, r store.Reader, o *store.Object) (*RunnerView, error) {
	runner, err := runnerFrom(o)
	if err != nil {
		return nil, err
	}
	return s.view(ctx, r, runner)
}

func (s *Service) view(ctx context.Context, r store.Reader, runner *core.Runner) (view *RunnerView, err error) {
	view = &RunnerView{Runner: runner, Status: s.statusOf(runner)}
	if view.Deployment, err = s.deploymentOf(runner); err != nil {
		return nil, err
	}
	if view.Status.Live, err = r.CountLive(ctx, runner.ID); err != nil {
		return nil, err
	}
	view.BindingNames, err = s.bindingNames(ctx, r, runner)
	return view, err
}
