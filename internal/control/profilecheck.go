package control

import (
	"maps"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

// patchProfile returns current with what the patch replaces. current is not touched.
func patchProfile(current *core.Profile, patch ProfilePatch) (*core.Profile, error) {
	next := *current
	in := patch.Profile
	var below []string
	for _, path := range patch.Mask {
		switch {
		case path == "description":
			next.Description = in.Description
		case path == "labels":
			next.Labels = in.Labels
		case path == "spec":
			if in.Spec == nil {
				return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid profile").
					WithField("spec", "cannot be removed; spec: {} inherits everything")
			}
			below = append(below, "")
		case strings.HasPrefix(path, "spec."):
			below = append(below, strings.TrimPrefix(path, "spec."))
		case path == "display_name":
			if in.DisplayName != current.DisplayName {
				return nil, immutable("display_name", current.DisplayName, in.DisplayName).
					WithHint("make a new profile and move the bindings to it")
			}
		default:
			return nil, unknownPath(path)
		}
	}
	if len(below) > 0 {
		layer, err := current.Spec.Replace(below, in.Spec)
		if err != nil {
			return nil, err
		}
		next.Spec = layer
	}
	return &next, checkProfile(&next)
}

func sameProfile(a, b *core.Profile) bool {
	return a.Description == b.Description && maps.Equal(a.Labels, b.Labels) && a.Spec.String() == b.Spec.String()
}

func checkProfile(p *core.Profile) error {
	if err := spec.CheckName("display_name", p.DisplayName); err != nil {
		return err
	}
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid profile")
	checkText(e, "description", p.Description, MaxDescription)
	checkText(e, "reason", p.Reason, MaxReason)
	if len(p.Labels) > MaxLabels {
		e.WithField("labels", "%d entries, the limit is %d", len(p.Labels), MaxLabels)
	}
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		if k == "" {
			e.WithField("labels", "has an empty key")
		}
		checkText(e, "labels["+k[:min(len(k), MaxLabelText)]+"]", k, MaxLabelText)
		checkText(e, "labels["+k[:min(len(k), MaxLabelText)]+"]", p.Labels[k], MaxLabelText)
	}
	return orNil(e)
}
