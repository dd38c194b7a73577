package control

import (
	"context"
	"slices"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// TestRun says which tests of a profile are run, and on what.
type TestRun struct {
	// Tests are run in place of those that are attached, unless nil.
	Tests []policy.Test
	// RunnerID, when not empty, is the one runner where they are tried.
	RunnerID string
	// Spec, when not nil, is what the profile has for the run.
	Spec *spec.Layer
}

// RunPolicyTests says what tests of a profile come to. Nothing is written. A spec is checked as an edit of the profile is.
func (s *Service) RunPolicyTests(ctx context.Context, p core.Principal, ref string, run TestRun) ([]policy.Result, error) {
	if err := s.allow(ctx, p, "RunPolicyTests"); err != nil {
		return nil, err
	}
	edits, err := s.editOf(ctx, p, ref, run.Spec)
	if err != nil {
		return nil, err
	}
	var out []policy.Result
	err = s.store.View(ctx, func(r store.Reader) error {
		profile, tests, err := readTests(ctx, r, p.OrgID, ref)
		if err != nil {
			return err
		}
		if run.Tests != nil {
			tests = &PolicyTests{ProfileID: profile.ID, ProfileName: profile.DisplayName, Tests: run.Tests}
		} else if tests == nil || tests.Removed {
			return noTests(profile)
		}
		if run.RunnerID != "" {
			if _, err := readRunner(ctx, r, p.OrgID, run.RunnerID); err != nil {
				return err
			}
		}
		out, err = s.runOn(ctx, s.ground(r, p.OrgID, edits), tests, run.RunnerID)
		return err
	})
	return out, err
}

// editOf returns what an edit of a profile's spec would write, nil for no spec.
func (s *Service) editOf(ctx context.Context, p core.Principal, ref string, layer *spec.Layer) ([]*store.Object, error) {
	if layer == nil {
		return nil, nil
	}
	var noted preview
	_, _, err := s.updateProfile(previewing(ctx, &noted), p, ref, func(store.Tx, *core.Profile) (ProfilePatch, error) {
		return ProfilePatch{Mask: []string{"spec"}, Profile: ProfileInput{Spec: layer}}, nil
	})
	return noted.written, err
}

// failingNow returns which tests of a profile fail as things are. Tests that only warn may be attached when there are too many places to
// run them: to warn is the way out for those that are enforced.
func (s *Service) failingNow(ctx context.Context, r store.Reader, t *PolicyTests) ([]string, error) {
	results, err := s.runOn(ctx, s.ground(r, t.OrgID, nil), t, "")
	if t.Mode == WarnTests && fault.HasReason(err, fault.ReasonLimitExceeded) {
		return []string{notRun(t, err)}, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range results {
		if results[i].Outcome == policy.Failed && len(out) < maxListed {
			e := TestEffect{ProfileName: t.ProfileName, After: results[i]}
			out = append(out, e.label()+" fails as things are: "+results[i].Why())
		}
	}
	return out, nil
}

// runOn runs tests, at one runner alone when it is named.
func (s *Service) runOn(ctx context.Context, g *ground, t *PolicyTests, runnerID string) ([]policy.Result, error) {
	snapshot, err := g.snapshot(ctx, map[string]*PolicyTests{t.ProfileID: t})
	if err != nil {
		return nil, err
	}
	fleet := policy.NewFleet(snapshot, t.ProfileID)
	cases := fleet.Cases(t.Tests)
	if runnerID != "" {
		cases = slices.DeleteFunc(cases, func(c policy.Case) bool { return c.Runner != runnerID })
	}
	if n := fleet.Places(cases); n > policy.MaxPlaces {
		return nil, tooManyPlaces(t.ProfileName, n)
	}
	return runCases(ctx, fleet, cases)
}
