package control

import (
	"context"
	"slices"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/store"
)

// edit is a change of a zone or a profile as its bindings see it.
type edit struct {
	what string
	// touches says whether a binding of a runner sees the change.
	touches func(*core.Runner, core.Binding) bool
	// zone and profile replace what was read with what it is before and after the edit.
	zone    func(r *core.Runner, read *core.Zone) (before, after *core.Zone)
	profile func(read *core.Profile) (before, after *core.Profile)
}

// profileImpact refuses an edit of a profile that leaves a binding unresolvable, and returns which overrides lose effect.
func (s *Service) profileImpact(ctx context.Context, tx store.Reader, before, after *core.Profile) ([]string, error) {
	if b := batchOf(ctx); b != nil {
		b.editedProfile(before)
		return nil, nil
	}
	return s.impact(ctx, tx, before.OrgID, edit{
		what:    "profile " + before.DisplayName,
		touches: func(_ *core.Runner, b core.Binding) bool { return b.ProfileID == before.ID },
		zone:    func(_ *core.Runner, read *core.Zone) (*core.Zone, *core.Zone) { return read, read },
		profile: func(*core.Profile) (*core.Profile, *core.Profile) { return before, after },
	})
}

// zoneImpact is profileImpact for the defaults of a zone; before is nil for a new one.
func (s *Service) zoneImpact(ctx context.Context, tx store.Reader, before, after *core.Zone) ([]string, error) {
	if b := batchOf(ctx); b != nil {
		b.editedZone(after.Name, before)
		return nil, nil
	}
	return s.impact(ctx, tx, after.OrgID, edit{
		what:    "zone " + after.Name,
		touches: func(r *core.Runner, _ core.Binding) bool { return r.Zone == after.Name },
		zone:    func(*core.Runner, *core.Zone) (*core.Zone, *core.Zone) { return before, after },
		profile: func(read *core.Profile) (*core.Profile, *core.Profile) { return read, read },
	})
}

// impact folds every binding that sees an edit before and after it. The transaction sees to it that no edit of a binding
// slips between.
func (s *Service) impact(ctx context.Context, tx store.Reader, orgID string, ed edit) ([]string, error) {
	var warnings []string
	e := fault.Preconditionf(fault.ReasonUnresolvable, "the edit of %s would leave bindings that nothing can be launched from", ed.what).
		WithHint("change those bindings first, or keep what they need")
	profiles := map[string]*core.Profile{}
	zones := map[string]*core.Zone{}
	err := eachRunner(ctx, tx, orgID, func(r *core.Runner) error {
		for _, b := range r.Bindings {
			if !ed.touches(r, b) {
				continue
			}
			before, after, err := s.foldEdit(ctx, tx, r, b, ed, zones, profiles)
			if err != nil {
				return err
			}
			name := bindingLabel(r, after.Name)
			for _, v := range newlyUnresolvable(s.problems(r, before), s.problems(r, after)) {
				if len(e.Fields) < maxListed {
					e.WithField(v.Path, "%s: %s", name, v.Message)
				}
			}
			for _, v := range after.LostEffect(before) {
				warnings = append(warnings, name+": "+v.Message)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := orNil(e); err != nil {
		return nil, err
	}
	return warnings[:min(len(warnings), maxListed)], nil
}

func (s *Service) foldEdit(
	ctx context.Context, r store.Reader, runner *core.Runner, b core.Binding, ed edit, zones map[string]*core.Zone, profiles map[string]*core.Profile,
) (before, after *plan.Binding, err error) {
	zone, known := zones[runner.Zone]
	if !known {
		if zone, err = findZone(ctx, r, runner.OrgID, runner.Zone); err != nil {
			return nil, nil, err
		}
		zones[runner.Zone] = zone
	}
	profile, known := profiles[b.ProfileID]
	if !known {
		if profile, err = readProfile(ctx, r, runner.OrgID, b.ProfileID); err != nil {
			return nil, nil, err
		}
		profiles[b.ProfileID] = profile
	}
	owner := s.guardrailsOf(runner.ID)
	zoneBefore, zoneAfter := ed.zone(runner, zone)
	profileBefore, profileAfter := ed.profile(profile)
	if before, err = plan.NewBinding(runner, zoneBefore, profileBefore, b, owner); err != nil {
		return nil, nil, err
	}
	after, err = plan.NewBinding(runner, zoneAfter, profileAfter, b, owner)
	return before, after, err
}

// newlyUnresolvable returns what is wrong with a binding after an edit and was not before it.
func newlyUnresolvable(before, after []guard.Violation) []guard.Violation {
	return slices.DeleteFunc(after, func(v guard.Violation) bool {
		return slices.ContainsFunc(before, func(o guard.Violation) bool { return o.Reason == v.Reason && o.Path == v.Path })
	})
}
