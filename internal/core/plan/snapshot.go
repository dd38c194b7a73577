package plan

import (
	"slices"
	"strconv"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// Snapshot is everything that a decision is made from, at one moment.
type Snapshot struct {
	// OrgID is the caller's organization. Runners of another one are not there.
	OrgID string
	// Now is the time of layer 4's origin.
	Now     time.Time
	Runners []*Runner
}

// Runner is one runner with what it reported.
type Runner struct {
	Runner *core.Runner
	// Zone is nil when the runner names a zone that does not exist: the built-in defaults hold.
	Zone     *core.Zone
	Bindings []*Binding
	// Connected says that something is there that could run a sandbox; Cordoned that nothing new should. Note says why, for
	// people.
	Connected, Cordoned bool
	// CordonNote says why nothing new should be there.
	Note, CordonNote string
	// Unable is why what is connected can run nothing at all (backend.Info.Refusal), "" when it can.
	Unable string
	// Kind is the backend's name; the rest is as in backend.Info. Empty means unknown and restricts nothing.
	Kind, Architecture  string
	RuntimeClasses      []string
	DefaultRuntimeClass string
	NodeLabels          map[string]string
	Features            []string
	// Capacity may be reserved in total, Used is.
	Capacity, Used core.Amounts
	// Guardrails are those of the cluster's owner, as passed to NewBinding; here they are information.
	Guardrails *resolve.Input
	// Refuses, when not nil, says what the backend cannot honour of a resolved spec and its request. It must be pure.
	Refuses func(*specpb.ProfileSpec, *specpb.Launch) []guard.Violation
}

// Binding is a binding with its layers 1 to 3 folded. It is immutable and meant to be kept for as long as none of the
// revisions that it was made from changes.
type Binding struct {
	// Name is what launches select it by.
	Name    string
	Profile *core.Profile
	Spec    core.Binding
	// Inputs are layers 1 to 3, lowest first; Extra is what the runner adds to the guardrails.
	Inputs, Extra []resolve.Input
	Folded        *resolve.Folded
	Limits        *guard.Limits

	// cpu and gpu are the layers as they are for a launch without and with GPUs: the runner may set another runtime class
	// for each.
	cpu, gpu *stack
	usage    []UsageCheck
}

// NewBinding folds layers 1 to 3 of a binding: built-in defaults, the zone's (nil for none), the runner's runtime class,
// the profile, the override. owner is the guardrails of the cluster's owner, nil for none. The error is a fault: the
// profile is not the one that is bound, or the runner's runtime class is no name.
func NewBinding(r *core.Runner, zone *core.Zone, p *core.Profile, b core.Binding, owner *resolve.Input) (*Binding, error) {
	if p == nil || p.ID != b.ProfileID {
		return nil, fault.Internalf(nil, "a binding of runner %s: the profile given is not %s", r.RunnerID, b.ProfileID)
	}
	out := &Binding{Name: b.BindingName(p), Profile: p, Spec: b}
	if r.Managed.EnforceResourceLimits {
		out.Extra = append(out.Extra, guard.EnforceLimits(origin(resolve.LayerZone, "runner "+r.RunnerID, r.Meta)))
	}
	if owner != nil {
		out.Extra = append(out.Extra, *owner)
	}
	var err error
	if out.cpu, err = out.layers(r, zone, r.Managed.CPURuntimeClass); err != nil {
		return nil, err
	}
	out.gpu = out.cpu
	if r.Managed.GPURuntimeClass != r.Managed.CPURuntimeClass && r.Managed.GPURuntimeClass != "" {
		if out.gpu, err = out.layers(r, zone, r.Managed.GPURuntimeClass); err != nil {
			return nil, err
		}
	}
	out.Inputs, out.Folded, out.Limits = out.cpu.inputs, out.cpu.folded, out.cpu.limits
	out.usage = usageChecks(out.Limits)
	return out, nil
}

// layers folds the binding for one runtime class of the runner.
func (b *Binding) layers(r *core.Runner, zone *core.Zone, class string) (*stack, error) {
	inputs := []resolve.Input{resolve.BuiltIn()}
	if zone != nil && !zone.Defaults.IsEmpty() {
		inputs = append(inputs, resolve.Input{Origin: origin(resolve.LayerZone, "zone "+zone.Name, zone.Meta), Layer: zone.Defaults})
	}
	if class != "" {
		l, err := spec.ParseLayer([]byte(`{"runtime_class":` + strconv.Quote(class) + `}`))
		if err != nil {
			return nil, fault.From(err).Clone().WithHint("set another runtime class for runner %s", r.RunnerID)
		}
		inputs = append(inputs, resolve.Input{Origin: origin(resolve.LayerZone, "runner "+r.RunnerID, r.Meta), Layer: l})
	}
	inputs = append(inputs, resolve.Input{Origin: origin(resolve.LayerProfile, "profile "+b.Profile.DisplayName, b.Profile.Meta), Layer: b.Profile.Spec})
	if b.Spec.Overrides != nil {
		from := origin(resolve.LayerOverride, "binding "+r.RunnerID+"/"+b.Name, r.Meta)
		inputs = append(inputs, resolve.Input{Origin: from, Layer: b.Spec.Overrides})
	}
	return newStack(slices.Clip(inputs), b.Extra), nil
}

func origin(l resolve.Layer, object string, m core.Meta) resolve.Origin {
	return resolve.Origin{Layer: l, Object: object, ID: m.ID, Revision: m.Revision, By: m.UpdatedBy, At: m.UpdatedAt, Reason: m.Reason}
}

// Problems returns why the binding is not usable whatever is asked for, see guard.CheckBinding. It must be empty after
// every edit of the runner, its zone and the profile.
func (b *Binding) Problems() []guard.Violation {
	out := guard.CheckDefaults(b.cpu.limits, b.Extra...)
	if b.gpu == b.cpu {
		return out
	}
	for _, v := range guard.CheckDefaults(b.gpu.limits, b.Extra...) {
		if !slices.ContainsFunc(out, func(o guard.Violation) bool { return o.Message == v.Message }) {
			out = append(out, v)
		}
	}
	return out
}

// OverrideProblems returns what the override may not say, see guard.CheckOverride. It is to be checked when an override is
// written and it is not what was there before: one that a later edit below it made too wide stays, without effect.
func (b *Binding) OverrideProblems() []guard.Violation {
	last := len(b.Inputs) - 1
	if b.Inputs[last].Origin.Layer != resolve.LayerOverride {
		return nil
	}
	return guard.CheckOverride(slices.Concat(b.Inputs[:last], b.Extra), b.Inputs[last])
}

// LostEffect returns what the override of this binding no longer achieves compared with old, the same binding before an
// edit below it.
func (b *Binding) LostEffect(old *Binding) []guard.Violation {
	return guard.LostEffect(slices.Concat(old.Inputs, old.Extra), slices.Concat(b.Inputs, b.Extra))
}
