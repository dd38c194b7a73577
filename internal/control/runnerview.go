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
	view := &RunnerView{Runner: runner, Status: s.statusOf(runner), BindingNames: make([]string, len(runner.Bindings))}
	if view.Status.Live, err = r.CountLive(ctx, runner.ID); err != nil {
		return nil, err
	}
	for i, b := range runner.Bindings {
		if view.BindingNames[i] = b.Alias; b.Alias != "" {
			continue
		}
		name, known := names[b.ProfileID]
		if !known {
			profile, err := readProfile(ctx, r, runner.OrgID, b.ProfileID)
			if err != nil {
				return nil, err
			}
			name = profile.DisplayName
			names[b.ProfileID] = name
		}
		view.BindingNames[i] = name
	}
	return view, nil
}
