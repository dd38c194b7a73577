package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/impact"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/rebase"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// MaxConsolidated is how many profiles one call folds into another.
const MaxConsolidated = 64

// RebasedBinding is a binding that has another profile and comes to the same.
type RebasedBinding struct {
	RunnerID, Name string
	// From and To are the display names of its profile before and after.
	From, To string
	// Override is what it states now, nil for nothing.
	Override *spec.Layer
	// Pinned are fields that the override takes from what lies beneath the profile: later edits of the zone do not show there.
	Pinned []string
}

// Rebase is what an edit did that moves bindings from profile to profile.
type Rebase struct {
	Profile  *core.Profile
	Bindings []RebasedBinding
	// Deleted are the display names of profiles that were deleted.
	Deleted []string
	// Warnings are policy tests that fail then.
	Warnings []string
}

// Consolidation says which profiles become one.
type Consolidation struct {
	// Keep is the profile that stays, Others those whose bindings get it, by UUID or display name.
	Keep   string
	Others []string
	// Delete the others then.
	Delete bool
}

// ConsolidateProfiles gives every binding of the others the profile that is kept, with the override that makes it come to what it came
// to, under the name it had: in one transaction, and only when every one of them, folded before and after, has the same fields and the
// same guardrails in force. The Etag of st is that of the profile that is kept. Launches that name one of the others by its UUID do not
// find it any more; a preview says which.
func (s *Service) ConsolidateProfiles(ctx context.Context, p core.Principal, c Consolidation, st EditState) (*Rebase, error) {
	if err := s.allow(ctx, p, "ConsolidateProfiles", audit.Target{Kind: string(store.KindProfile), Ref: c.Keep, Reason: st.Reason}); err != nil {
		return nil, err
	}
	if n := len(c.Others); n == 0 || n > MaxConsolidated {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid consolidation").WithField("others", "%d profiles; from 1 to %d become one with another", n, MaxConsolidated)
	}
	var out *Rebase
	warned, err := s.editWarned(ctx, p.OrgID, func(tx store.Tx) error {
		keep, err := readProfile(ctx, tx, p.OrgID, c.Keep)
		if err != nil {
			return err
		}
		if err := checkEtag(st.Etag, "profile "+keep.DisplayName, keep.Meta); err != nil {
			return err
		}
		others, err := distinctProfiles(ctx, tx, keep, c.Others)
		if err != nil {
			return err
		}
		for _, other := range others {
			if err := refuseTested(ctx, tx, other); err != nil {
				return err
			}
		}
		r := &rebaser{service: s, p: p, reason: cmp.Or(st.Reason, "consolidated into profile "+keep.DisplayName), tx: tx, to: keep, out: &Rebase{Profile: keep}}
		r.moves = func(b core.Binding) *core.Profile { return others[b.ProfileID] }
		if err := r.run(ctx); err != nil {
			return err
		}
		if c.Delete {
			for _, other := range others {
				if err := s.deleteProfile(ctx, tx, p, other, r.reason); err != nil {
					return err
				}
				r.out.Deleted = append(r.out.Deleted, other.DisplayName)
			}
			slices.Sort(r.out.Deleted)
		}
		out = r.out
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.Warnings = warned
	return out, nil
}

// distinctProfiles reads profiles by UUID.
func distinctProfiles(ctx context.Context, tx store.Tx, keep *core.Profile, refs []string) (map[string]*core.Profile, error) {
	out := map[string]*core.Profile{}
	for i, ref := range refs {
		other, err := readProfile(ctx, tx, keep.OrgID, ref)
		if err != nil {
			return nil, err
		}
		if other.ID == keep.ID || out[other.ID] != nil {
			return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid consolidation").WithField(fmt.Sprintf("others[%d]", i), "profile %s is named twice", other.DisplayName)
		}
		out[other.ID] = other
	}
	return out, nil
}

// Promotion says which override becomes a profile.
type Promotion struct {
	// Runner and Binding name the binding.
	Runner, Binding string
	// DisplayName is that of the new profile.
	DisplayName string
	// Everywhere gives it to every binding of the same profile with the same override, on whatever runner.
	Everywhere bool
}

// PromoteOverride makes a profile of what a binding's profile and override say together, and gives it to the binding, which keeps its
// name and has no override then. As ConsolidateProfiles it changes nothing of what launches get, or is refused. The Etag of st is that
// of the runner.
func (s *Service) PromoteOverride(ctx context.Context, p core.Principal, pr Promotion, st EditState) (*Rebase, error) {
	if err := s.allow(ctx, p, "PromoteOverride", audit.Target{Kind: string(store.KindRunner), Ref: pr.Runner, Reason: st.Reason}); err != nil {
		return nil, err
	}
	var out *Rebase
	warned, err := s.editWarned(ctx, p.OrgID, func(tx store.Tx) error {
		runner, b, was, err := s.promoted(ctx, tx, p, pr, st)
		if err != nil {
			return err
		}
		reason := cmp.Or(st.Reason, fmt.Sprintf("the override of binding %s of runner %s as a profile", pr.Binding, runner.RunnerID))
		layer, err := rebase.Profile(was.Spec, b.Overrides)
		if err != nil {
			return err
		}
		made, err := s.insertProfile(ctx, tx, p, ProfileInput{
			DisplayName: pr.DisplayName, Description: was.Description, Labels: was.Labels, Spec: layer, Reason: reason,
		})
		if err != nil {
			return err
		}
		r := &rebaser{service: s, p: p, reason: reason, tx: tx, to: made, out: &Rebase{Profile: made}}
		r.moves = func(o core.Binding) *core.Profile {
			if overrideKey(o) != overrideKey(b) {
				return nil
			}
			return was
		}
		if !pr.Everywhere {
			r.only, r.onlyName = runner.ID, pr.Binding
		}
		out = r.out
		return r.run(ctx)
	})
	if err != nil {
		return nil, err
	}
	out.Warnings = warned
	return out, nil
}

// promoted reads the binding whose override becomes a profile.
func (s *Service) promoted(ctx context.Context, tx store.Tx, p core.Principal, pr Promotion, st EditState) (*core.Runner, core.Binding, *core.Profile, error) {
	runner, err := readRunner(ctx, tx, p.OrgID, pr.Runner)
	if err != nil {
		return nil, core.Binding{}, nil, err
	}
	if err := checkEtag(st.Etag, "runner "+runner.RunnerID, runner.Meta); err != nil {
		return nil, core.Binding{}, nil, err
	}
	names, err := s.bindingNames(ctx, tx, runner)
	if err != nil {
		return nil, core.Binding{}, nil, err
	}
	list := &bindingList{runner: runner, bindings: runner.Bindings, names: names}
	i, err := list.find(pr.Binding)
	if err != nil {
		return nil, core.Binding{}, nil, err
	}
	b := runner.Bindings[i]
	if b.Overrides.IsEmpty() {
		return nil, b, nil, fault.Preconditionf(fault.ReasonBindingsInvalid, "binding %s of runner %s has no override that could become a profile", pr.Binding, runner.RunnerID)
	}
	was, err := readProfile(ctx, tx, p.OrgID, b.ProfileID)
	return runner, b, was, err
}

// rebaser moves bindings to a profile within a transaction.
type rebaser struct {
	service *Service
	p       core.Principal
	reason  string
	tx      store.Tx
	to      *core.Profile
	// moves returns the profile of a binding that moves, nil for one that stays.
	moves func(core.Binding) *core.Profile
	// only and onlyName, when not empty, are the UUID of the runner and the name of the one binding that moves.
	only, onlyName string
	out            *Rebase
}

func (r *rebaser) run(ctx context.Context) error {
	var runners []*core.Runner
	err := eachRunner(ctx, r.tx, r.p.OrgID, func(runner *core.Runner) error {
		if (r.only == "" || r.only == runner.ID) && runner.DeletingSince == nil && slices.ContainsFunc(runner.Bindings, func(b core.Binding) bool { return r.moves(b) != nil }) {
			runners = append(runners, runner)
		}
		return nil
	})
	if err != nil {
		return err
	}
	differ := fault.Preconditionf(fault.ReasonProfilesDiffer, "no override of profile %s says what launches get now", r.to.DisplayName)
	for _, runner := range runners {
		if err := r.runner(ctx, runner, differ); err != nil {
			return err
		}
	}
	return orNil(differ)
}

// runner moves the bindings of one runner. What would not be the same is added to differ.
func (r *rebaser) runner(ctx context.Context, runner *core.Runner, differ *fault.Error) error {
	names, err := r.service.bindingNames(ctx, r.tx, runner)
	if err != nil {
		return err
	}
	zone, err := findZone(ctx, r.tx, runner.OrgID, runner.Zone)
	if err != nil {
		return err
	}
	bindings := slices.Clone(runner.Bindings)
	for i := range bindings {
		from := r.moves(bindings[i])
		if from == nil || r.onlyName != "" && r.onlyName != names[i] {
			continue
		}
		if err := r.binding(runner, zone, from, &bindings[i], names[i], differ); err != nil {
			return err
		}
	}
	if len(differ.Fields) > 0 {
		return nil // Nothing is written; the rest is looked at for the refusal.
	}
	o, err := readRunnerObject(ctx, r.tx, runner.OrgID, runner.ID)
	if err != nil {
		return err
	}
	_, _, err = r.service.reviseRunner(ctx, r.tx, r.p, o, runner, RunnerPatch{Mask: []string{"profile_bindings"}, Runner: RunnerInput{Bindings: bindings, Reason: r.reason}})
	return err
}

// binding gives one binding the profile, and proves that it comes to the same.
func (r *rebaser) binding(runner *core.Runner, zone *core.Zone, from *core.Profile, b *core.Binding, name string, differ *fault.Error) error {
	owner := r.service.guardrailsOf(runner.ID)
	before, err := plan.NewBinding(runner, zone, from, *b, owner)
	if err != nil {
		return err
	}
	beneath := slices.DeleteFunc(slices.Clone(before.Inputs), func(in resolve.Input) bool { return in.Origin.Layer >= resolve.LayerProfile })
	found, err := rebase.Override(beneath, r.to.Spec, from.Spec, b.Overrides)
	if err != nil {
		return err
	}
	b.ProfileID, b.Alias, b.Overrides = r.to.ID, name, found.Override
	if name == r.to.DisplayName {
		b.Alias = ""
	}
	after, err := plan.NewBinding(runner, zone, r.to, *b, owner)
	if err != nil {
		return err
	}
	for _, f := range impact.CompareBindings(before, after) {
		if f.Matters() {
			if strings.HasPrefix(f.Path, "guardrails.") {
				differ.Hint = "an override cannot take back a guardrail: keep the profile that demands less"
			}
			differ.WithField(bindingLabel(runner, name)+": "+f.Path, "would be %s in place of %s: %s", f.New, f.Old, f.Meaning)
		}
	}
	r.out.Bindings = append(r.out.Bindings, RebasedBinding{
		RunnerID: runner.RunnerID, Name: name, From: from.DisplayName, To: r.to.DisplayName, Override: found.Override, Pinned: found.Pinned,
	})
	return nil
}
