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
	// BindingNames has the name of each of Runner.Bindings, in the same order.
	BindingNames []string
}

// viewOf returns a runner with its status and the names of its bindings.
func (s *Service) viewOf(ctx context.Context, r store.Reader, o *store.Object) (*RunnerView, error) {
	return s.viewWith(ctx, r, o, map[string]string{})
}

// viewWith is viewOf with the names of profiles that were looked up already.
func (s *Service) viewWith(ctx context.Context, r store.Reader, o *store.Object, names map[string]string) (*RunnerView, error) {
	runner, err := runnerFrom(o)
	if err != nil {
		return nil, err
	}
	view := &RunnerView{Runner: runner, Status: s.statusOf(runner)}
	if view.Status.Live, err = r.CountLive(ctx, runner.ID); err != nil {
		return nil, err
	}
	view.BindingNames, err = bindingNames(ctx, r, runner, names)
	return view, err
}

// bindingNames returns what launches select the bindings of a runner by. known are the names of profiles that were looked up already.
func bindingNames(ctx context.Context, r store.Reader, runner *core.Runner, known map[string]string) ([]string, error) {
	names := make([]string, len(runner.Bindings))
	for i, b := range runner.Bindings {
		if names[i] = b.Alias; b.Alias != "" {
			continue
		}
		name, ok := known[b.ProfileID]
		if !ok {
			profile, err := readProfile(ctx, r, runner.OrgID, b.ProfileID)
			if err != nil {
				return nil, err
			}
			name = profile.DisplayName
			known[b.ProfileID] = name
		}
		names[i] = name
	}
	return names, nil
}
