package lint

import (
	"fmt"
	"strings"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// redundant finds what an override says in vain.
func redundant(r *plan.Runner, b *plan.Binding) []Finding {
	last := len(b.Inputs) - 1
	if last < 0 || b.Inputs[last].Origin.Layer != resolve.LayerOverride {
		return nil
	}
	about := "binding " + bindingName(r, b)
	override, beneath := b.Inputs[last].Layer, resolve.Fold(b.Inputs[:last])
	var out []Finding
	for _, leaf := range override.Leaves() {
		v, ok := beneath.At(leaf.Field, leaf.Key)
		if leaf.Field.Guardrail || !ok || !v.Leaf.Equal(leaf) {
			continue
		}
		out = append(out, Finding{
			Rule: OverrideRedundant, Severity: Note, Object: about, Path: leaf.Path(),
			Message: fmt.Sprintf("the override states %s, which %s says already", leaf, v.Origin.Object),
			Hint:    fmt.Sprintf("berm runner bind %s %s --inherit %s", r.Runner.RunnerID, b.Name, leaf.Path()),
		})
	}
	if n, m := len(override.Leaves()), len(b.Profile.Spec.Leaves()); n > m {
		out = append(out, Finding{
			Rule: OverrideLarger, Severity: Note, Object: about,
			Message: fmt.Sprintf("the override states %d fields, its profile %s %d", n, b.Profile.DisplayName, m),
			Hint:    fmt.Sprintf("berm profile promote %s %s NAME", r.Runner.RunnerID, b.Name),
		})
	}
	return out
}

// neverShows finds profiles that nobody binds, and fields of profiles that every binding overrides.
func neverShows(s *plan.Snapshot, profiles []*core.Profile) []Finding {
	overrides := map[string][]*spec.Layer{}
	for _, r := range s.Runners {
		for _, b := range r.Bindings {
			overrides[b.Profile.ID] = append(overrides[b.Profile.ID], b.Spec.Overrides)
		}
	}
	var out []Finding
	for _, p := range profiles {
		layers := overrides[p.ID]
		about := "profile " + p.DisplayName
		if len(layers) == 0 {
			out = append(out, Finding{Rule: ProfileUnbound, Severity: Note, Object: about, Message: "no runner binds it", Hint: "berm runner bind RUNNER " + p.DisplayName})
			continue
		}
		for _, leaf := range p.Spec.Leaves() {
			if leaf.Field.Guardrail || !everywhere(layers, leaf) {
				continue
			}
			out = append(out, Finding{
				Rule: FieldNeverShows, Severity: Warning, Object: about, Path: leaf.Path(),
				Message: fmt.Sprintf("no launch sees %s: %s it", leaf, overridden(len(layers))),
			})
		}
	}
	return out
}

func overridden(bindings int) string {
	if bindings == 1 {
		return "the only binding overrides"
	}
	return fmt.Sprintf("all %d bindings override", bindings)
}

// everywhere reports whether every layer states something else about a field.
func everywhere(layers []*spec.Layer, leaf spec.Leaf) bool {
	for _, l := range layers {
		if l == nil {
			return false
		}
		if own, ok := l.At(leaf.Field, leaf.Key); !ok || own.Equal(leaf) {
			return false
		}
	}
	return true
}

// maxApart is in how many fields two profiles differ that could be one.
const maxApart = 2

// nearlyEqual finds pairs of profiles that one profile and an override could say. Of many that are alike each is told once, with the
// first that it resembles.
func nearlyEqual(profiles []*core.Profile) []Finding {
	profiles = profiles[:min(len(profiles), MaxProfiles)]
	var out []Finding
	for i, p := range profiles {
		if p.Spec.IsEmpty() {
			continue
		}
		for _, q := range profiles[:i] {
			if q.Spec.IsEmpty() || abs(len(p.Spec.Leaves())-len(q.Spec.Leaves())) > maxApart {
				continue
			}
			changes := spec.Diff(q.Spec, p.Spec)
			if len(changes) > maxApart || len(changes) >= len(p.Spec.Leaves()) {
				continue
			}
			out = append(out, alike(q, p, changes))
			break
		}
	}
	return out
}

func alike(q, p *core.Profile, changes []spec.Change) Finding {
	f := Finding{Rule: NearlyEqual, Severity: Note, Object: "profile " + p.DisplayName}
	keep, other := q, p
	if len(changes) == 0 {
		f.Message = "says the same as profile " + q.DisplayName
	} else {
		list := make([]string, len(changes))
		for i, c := range changes {
			list[i] = fmt.Sprintf("%s (%s, there %s)", c.Path, said(c.New), said(c.Old))
			// An override can only tighten a guardrail: the profile that demands less is the one to keep.
			if strings.HasPrefix(c.Path, "guardrails.") && (c.NewState != spec.Set || c.Grew > 0) {
				keep, other = p, q
			}
		}
		f.Message = fmt.Sprintf("differs from profile %s in %s alone", q.DisplayName, strings.Join(list, " and "))
	}
	f.Hint = fmt.Sprintf("berm profile consolidate %s %s --delete shows how one of them could say both", keep.DisplayName, other.DisplayName)
	return f
}

// said shows one side of a difference.
func said(v []byte) string {
	if v == nil {
		return "not stated"
	}
	const most = 60
	if len(v) > most {
		return string(v[:most]) + "…"
	}
	return string(v)
}

func abs(n int) int { return max(n, -n) }
