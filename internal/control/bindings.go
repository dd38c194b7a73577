package control

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// bindingHint is what every refusal of a binding list ends with.
const bindingHint = "the list replaces the one that is there as a whole: send every binding that is to stay, exactly one of them with is_default true"

// checkBindings checks the whole list of a runner: its shape, that the profiles exist in the organization, that names are
// unique, that no override widens and that each binding can be launched from. All problems are reported together; any of
// them refuses the list as a whole. The transaction sees to it that no edit of what was read slips between. current is the
// runner as it is, nil for a new one: an override that it has already may have been made too wide by a later edit below
// it, which is no reason to refuse another change. The result lists overrides that lose their effect because the runner
// moves to another zone.
func (s *Service) checkBindings(ctx context.Context, tx store.Reader, r, current *core.Runner) ([]string, error) {
	e := fault.Invalidf(fault.ReasonBindingsInvalid, "the bindings of runner %s are not valid", r.RunnerID).WithHint(bindingHint)
	shapeOfBindings(e, r.Bindings)
	if len(r.Bindings) > MaxBindings {
		return nil, e
	}
	zone, err := findZone(ctx, tx, r.OrgID, r.Zone)
	if err != nil {
		return nil, err
	}
	var warnings []string
	names := map[string]int{}
	owner := s.guardrailsOf(r.ID)
	// Origins in messages name the revision that is being written.
	next := *r
	next.Revision++
	had := overridesOf(current)
	for i, b := range r.Bindings {
		at := bindingPath(i)
		_, kept := had[overrideKey(b)]
		asIs := kept && sameGround(current, r) // It was checked when it was written, and at each edit beneath it.
		profile, name, err := s.boundAs(ctx, tx, e, at, r.OrgID, b, asIs)
		if err != nil {
			return nil, err
		}
		if name == "" {
			continue
		}
		if first, taken := names[name]; taken {
			e.WithField(at+".profile_name", "%q is also the name of profile_bindings[%d]; launches select a binding by its name, so give one of them another", name, first)
			continue
		}
		names[name] = i
		if asIs {
			continue
		}
		folded, err := plan.NewBinding(&next, zone, profile, b, owner)
		if err != nil {
			e.WithField(at, "%s", err)
			continue
		}
		problems := s.problems(&next, folded)
		if kept {
			lost, err := s.lostByMove(ctx, tx, current, &next, profile, b, folded)
			if err != nil {
				return nil, err
			}
			warnings = append(warnings, lost...)
		} else {
			problems = append(folded.OverrideProblems(), problems...)
			checkHome(e, at+".overrides_json", "override", b.Overrides)
			s.checkLayer(e, at+".overrides_json", b.Overrides)
		}
		for _, v := range problems {
			addBindingProblem(e, at, profile, v)
		}
	}
	if err := orNil(e); err != nil {
		return nil, err
	}
	return warnings[:min(len(warnings), maxListed)], nil
}

// lostByMove returns what an override no longer achieves when its runner moves to another zone.
func (s *Service) lostByMove(
	ctx context.Context, r store.Reader, from, to *core.Runner, profile *core.Profile, b core.Binding, after *plan.Binding,
) ([]string, error) {
	if from.Zone == to.Zone {
		return nil, nil
	}
	zone, err := findZone(ctx, r, from.OrgID, from.Zone)
	if err != nil {
		return nil, err
	}
	before, err := plan.NewBinding(from, zone, profile, b, s.guardrailsOf(from.ID))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, v := range after.LostEffect(before) {
		out = append(out, bindingLabel(to, after.Name)+": "+v.Message)
	}
	return out, nil
}

// problems returns why a binding of r is not usable whatever is asked for: what the core finds, and what its pod would carry
// although the runner does not allow that.
func (s *Service) problems(r *core.Runner, b *plan.Binding) []guard.Violation {
	out := b.Problems()
	if s.checkCarried == nil || r.Managed.AllowPrivilegedProfileAnnotation {
		return out
	}
	for _, v := range s.checkCarried(b.Folded.Message()) {
		by := ""
		if v.ValueOrigin = originOf(b.Folded, v.Path); v.ValueOrigin != nil {
			by = " (" + v.ValueOrigin.Object + ")"
		}
		v.Message = fmt.Sprintf("%s%s, which runner %s does not allow: its allow_privileged_profile_annotations is false", v.Message, by, r.RunnerID)
		out = append(out, v)
	}
	return out
}

// originOf returns who set the field at a path, or the one that the path leads into; nil when nobody did.
func originOf(folded *resolve.Folded, path string) *resolve.Origin {
	for path != "" {
		if v, ok := folded.Lookup(path); ok {
			return v.Origin
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return nil
}

// shapeOfBindings checks what can be seen without the store.
func shapeOfBindings(e *fault.Error, bindings []core.Binding) {
	defaults := []int{}
	for i, b := range bindings {
		if b.Default {
			defaults = append(defaults, i)
		}
	}
	switch {
	case len(bindings) == 0:
		e.WithField("profile_bindings", "is empty; a runner has at least one binding")
	case len(bindings) > MaxBindings:
		e.WithField("profile_bindings", "%d bindings, the limit is %d", len(bindings), MaxBindings)
	case len(defaults) == 0:
		e.WithField("profile_bindings", "none of %s has is_default true; exactly one must", counted(len(bindings), "binding"))
	case len(defaults) > 1:
		for _, i := range defaults {
			e.WithField(bindingPath(i)+".is_default", "is true for %d bindings; exactly one may have it", len(defaults))
		}
	}
	total := 0
	for i, b := range bindings {
		if b.Warm < 0 || b.Warm > core.MaxWarmSize {
			e.WithField(bindingPath(i)+".warm.size", "is %d; a binding keeps from 0 to %d sandboxes prepared", b.Warm, core.MaxWarmSize)
		}
		if total += int(b.Warm); total > core.MaxWarmTotal && total-int(b.Warm) <= core.MaxWarmTotal {
			e.WithField(bindingPath(i)+".warm.size", "makes more than %d sandboxes for all bindings, the limit of a runner", core.MaxWarmTotal)
		}
		if b.Alias == "" {
			continue
		}
		if err := spec.CheckName(bindingPath(i)+".profile_name", b.Alias); err != nil {
			e.Fields = append(e.Fields, fault.From(err).Fields...)
		}
	}
}

// boundAs returns the profile of a binding and the name that selects the binding, or no name, with a violation. Of a binding that is
// there as it is, the profile is not read: it cannot be gone.
func (s *Service) boundAs(ctx context.Context, r store.Reader, e *fault.Error, at, orgID string, b core.Binding, asIs bool) (*core.Profile, string, error) {
	if asIs {
		name, err := s.nameOf(ctx, r, orgID, b)
		return nil, name, err
	}
	profile, err := boundProfile(ctx, r, e, at, orgID, b)
	if err != nil || profile == nil {
		return nil, "", err
	}
	return profile, b.BindingName(profile), nil
}

// boundProfile returns the profile of a binding, or nil with a violation. A profile of another organization is a missing one.
func boundProfile(ctx context.Context, r store.Reader, e *fault.Error, at, orgID string, b core.Binding) (*core.Profile, error) {
	path := at + ".profile_template_id"
	if !spec.IsUUIDShaped(b.ProfileID) {
		if b.ProfileID == "" {
			e.WithField(path, "must be the UUID of a profile")
		} else {
			e.WithField(path, "%.80q is no UUID; bindings name profiles by UUID, since names are free again after a delete", b.ProfileID)
		}
		return nil, nil
	}
	profile, err := readProfile(ctx, r, orgID, b.ProfileID)
	if fault.Is(err, fault.NotFound) {
		e.WithField(path, "profile %s does not exist", b.ProfileID)
		return nil, nil
	}
	return profile, err
}

// overridesOf returns the keys of the bindings of a runner, nil for none.
func overridesOf(r *core.Runner) map[string]struct{} {
	if r == nil {
		return nil
	}
	keys := make(map[string]struct{}, len(r.Bindings))
	for _, b := range r.Bindings {
		keys[overrideKey(b)] = struct{}{}
	}
	return keys
}

// overrideKey is the same for bindings of one profile with one override.
func overrideKey(b core.Binding) string { return b.ProfileID + b.Overrides.String() }

// sameGround reports whether two states of a runner put the same beneath the profiles of their bindings.
func sameGround(a, b *core.Runner) bool { return a.Zone == b.Zone && a.Managed == b.Managed }

// addBindingProblem says where in the list a violation is, and lets its reason be that of the refusal when it is the first.
func addBindingProblem(e *fault.Error, at string, profile *core.Profile, v guard.Violation) {
	path := at
	if v.ValueOrigin != nil && v.ValueOrigin.Layer == resolve.LayerOverride {
		path += ".overrides_json"
	}
	if len(e.Fields) == 0 && (v.Reason == guard.ReasonWidens || v.Reason == guard.ReasonUnresolvable) {
		e.Reason = v.Reason
	}
	e.WithField(path+"."+v.Path, "binding of profile %s: %s", profile.DisplayName, v.Message)
}

func bindingPath(i int) string { return "profile_bindings[" + strconv.Itoa(i) + "]" }

// guardrailsOf returns the guardrails of the owner of a runner's cluster, nil when there are none or no process told them.
func (s *Service) guardrailsOf(runnerUUID string) *resolve.Input {
	if k, ok := s.contacts.get(runnerUUID); ok && k.link != nil {
		return k.link.Guardrails()
	}
	return nil
}

// bindingLabel names a binding for people.
func bindingLabel(r *core.Runner, name string) string {
	return fmt.Sprintf("binding %s of runner %s", name, r.RunnerID)
}
