package guard

import (
	"fmt"
	"slices"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// CheckOverride returns why an override may not be written over the layers below it (zone, profile; the runner's own
// guardrails too, when the caller passes them): it would widen a guardrail, which would be without effect, because the meet
// holds, and so mislead whoever reads it; or it clears a limit that is required. No layer can hold a null inside guardrails.
func CheckOverride(below []resolve.Input, override resolve.Input) []Violation {
	bounds := meet(below)
	var out []Violation
	for _, leaf := range override.Layer.Leaves() {
		if !leaf.Field.Guardrail {
			continue
		}
		if b := bounds[leaf.Field]; b != nil {
			out = append(out, widens(b, leaf, &override.Origin)...)
		}
	}
	return append(out, clears(slices.Concat(below, []resolve.Input{override}), override)...)
}

// widens compares what an override says with the bound below it.
func widens(b *Bound, leaf spec.Leaf, by *resolve.Origin) []Violation {
	v := Violation{Reason: ReasonWidens, Path: leaf.Path(), Value: leaf.String(), LimitPath: leaf.Path(), ValueOrigin: by}
	say := func(t Term, what string) []Violation {
		v.Limit, v.LimitOrigin = t.String(), t.Origin
		v.Message = fmt.Sprintf("%s: %s%s would widen %s%s%s", leaf.Path(), leaf, from(by), t, from(t.Origin), what)
		return []Violation{v}
	}
	switch b.Field.Meet {
	case specpb.Meet_MEET_MINIMUM:
		if amount(leaf) > b.Amount() {
			return say(b.Decisive(), "; the smaller one holds whatever the override says")
		}
	case specpb.Meet_MEET_INTERSECTION:
		for _, value := range list(leaf) {
			if t := b.Without(value); t != nil {
				return say(*t, ", which does not have "+value)
			}
		}
	case specpb.Meet_MEET_ANY:
		if t := b.True(); t != nil && !truth(leaf) {
			return say(*t, "; what one layer requires, no other can waive")
		}
	case specpb.Meet_MEET_UNION, specpb.Meet_MEET_CONJUNCTION, specpb.Meet_MEET_UNSPECIFIED:
		// Denials and patterns of all layers hold together, so that nothing said here can widen them. A default may be any.
	}
	return nil
}

// clears returns the limits that an override clears although limits are required.
func clears(layers []resolve.Input, override resolve.Input) []Violation {
	set := fields()
	need := meet(layers)[set.requireLimits].True()
	if need == nil {
		return nil
	}
	var out []Violation
	for _, d := range set.dimensions {
		if leaf, ok := override.Layer.At(d.limit, ""); ok && leaf.State == spec.Cleared {
			out = append(out, Violation{
				Reason: ReasonWidens, Path: d.limit.Path, Value: "null", Limit: "required", LimitPath: need.Field.Path,
				ValueOrigin: &override.Origin, LimitOrigin: need.Origin,
				Message: fmt.Sprintf("%s cannot be cleared%s: limits are required%s", d.limit.Path, from(&override.Origin), from(need.Origin)),
			})
		}
	}
	return out
}

// LostEffect returns the guardrails of a binding's override that mattered over the old layers and no longer do over the
// new ones, because what is below became tighter. Both lists hold the whole stack, lowest first; the override is the layer
// of kind LayerOverride in the new one. Such an edit is accepted: the meet holds, and its author is told.
func LostEffect(old, new []resolve.Input) []Violation {
	was, is := meet(old), meet(new)
	var out []Violation
	for _, in := range new {
		if in.Origin.Layer != resolve.LayerOverride {
			continue
		}
		for _, leaf := range in.Layer.Leaves() {
			before, now := was[leaf.Field], is[leaf.Field]
			if before == nil || now == nil || leaf.State != spec.Set {
				continue
			}
			if by := lost(before, now, leaf); by != nil {
				out = append(out, Violation{
					Reason: ReasonLostEffect, Path: leaf.Path(), Value: leaf.String(), Limit: by.String(), LimitPath: leaf.Path(),
					ValueOrigin: &in.Origin, LimitOrigin: by.Origin,
					Message: fmt.Sprintf("%s: %s%s has no effect any more, %s%s is tighter", leaf.Path(), leaf, from(&in.Origin), by, from(by.Origin)),
				})
			}
		}
	}
	return out
}

// lost returns the term that made the override's statement meaningless, nil when it still matters or never did.
func lost(before, now *Bound, leaf spec.Leaf) *Term {
	switch before.Field.Meet {
	case specpb.Meet_MEET_MINIMUM:
		if amount(leaf) <= before.Amount() && amount(leaf) > now.Amount() {
			t := now.Decisive()
			return &t
		}
	case specpb.Meet_MEET_INTERSECTION:
		for _, value := range list(leaf) {
			if before.Without(value) == nil && now.Without(value) != nil {
				return now.Without(value)
			}
		}
	case specpb.Meet_MEET_UNSPECIFIED, specpb.Meet_MEET_ANY, specpb.Meet_MEET_UNION, specpb.Meet_MEET_CONJUNCTION:
		// What these demand goes on to hold beside anything that is added below.
	}
	return nil
}
