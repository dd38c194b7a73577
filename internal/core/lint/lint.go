// Package lint finds what a configuration says in vain, twice, or in contradiction to itself. It is pure: the findings are about
// the state that it is given, and what a launch would do it asks plan.
package lint

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/plan"
)

// Severity says how much a finding matters.
type Severity string

// The severities. An error is a binding that cannot be used, a warning something that does nothing or not what it seems to, a note
// something that could be said shorter.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Rule names what is found.
type Rule string

// The rules.
const (
	// DefaultNeverAdmits: a launch that asks for nothing is refused by the default binding of a runner. NeverAdmits: the same for
	// another binding, which a launch names.
	DefaultNeverAdmits Rule = "default-never-admits"
	NeverAdmits        Rule = "binding-never-admits"
	// ModeUnselectable: a mode is declared that no launch under the binding can select.
	ModeUnselectable Rule = "mode-unselectable"
	// OverrideRedundant: an override states what lies beneath anyway.
	OverrideRedundant Rule = "override-redundant"
	// OverrideLarger: an override states more than its profile.
	OverrideLarger Rule = "override-larger-than-profile"
	// FieldNeverShows: every binding of a profile overrides the field.
	FieldNeverShows Rule = "field-never-shows"
	// ProfileUnbound: no runner binds the profile.
	ProfileUnbound Rule = "profile-unbound"
	// NearlyEqual: two profiles differ in one or two fields.
	NearlyEqual Rule = "profiles-nearly-equal"
)

// Finding is one thing that was found.
type Finding struct {
	Rule     Rule
	Severity Severity
	// Object is what it is about: "profile NAME", "binding RUNNER/NAME". Path is the field, "" for none.
	Object, Path string
	// Message says what is wrong, Hint what to do.
	Message, Hint string
}

// Limits of a run.
const (
	// MaxProfiles is how many profiles are compared with each other.
	MaxProfiles = 1000
	// MaxFindings is how many findings are returned.
	MaxFindings = 1000
)

// Check returns the findings about a configuration, errors first, and whether there are more. Nothing is said of what runners that
// are out of contact would do.
func Check(s *plan.Snapshot, profiles []*core.Profile) (found []Finding, more bool) {
	for _, r := range s.Runners {
		for _, b := range r.Bindings {
			found = append(found, usable(s, r, b)...)
			found = append(found, redundant(r, b)...)
		}
	}
	found = append(found, neverShows(s, profiles)...)
	found = append(found, nearlyEqual(profiles)...)
	slices.SortStableFunc(found, func(a, b Finding) int {
		rank := func(f Finding) int { return slices.Index([]Severity{Error, Warning, Note}, f.Severity) }
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Object, b.Object), strings.Compare(a.Path, b.Path))
	})
	return found[:min(len(found), MaxFindings)], len(found) > MaxFindings
}

func bindingName(r *plan.Runner, b *plan.Binding) string { return r.Runner.RunnerID + "/" + b.Name }
