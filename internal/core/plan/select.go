package plan

import (
	"cmp"
	"slices"
	"strings"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// maxListed is how many names an error lists.
const maxListed = 10

// selection is what a request says about profiles and runners.
type selection struct {
	names, ids, runners []string
}

func selectionOf(l *specpb.Launch) selection {
	return selection{names: l.GetProfileNames(), ids: l.GetProfileIds(), runners: l.GetRunnerIds()}
}

// named reports whether the request names a profile.
func (s *selection) named() bool { return len(s.names)+len(s.ids) > 0 }

// text returns the profiles as the request names them.
func (s *selection) text() string { return listed(slices.Concat(s.names, s.ids)) }

// bindings returns the bindings of r in the order in which they are tried.
func (s *selection) bindings(r *Runner) []*Binding {
	if !s.named() {
		if i := slices.IndexFunc(r.Bindings, func(b *Binding) bool { return b.Spec.Default }); i >= 0 {
			return r.Bindings[i : i+1 : i+1]
		}
		return nil
	}
	var out []*Binding
	add := func(want func(*Binding) bool) {
		from := len(out)
		for _, b := range r.Bindings {
			if want(b) && !slices.Contains(out, b) {
				out = append(out, b)
			}
		}
		// One profile may be bound twice: a UUID means both, by name.
		slices.SortFunc(out[from:], func(a, b *Binding) int { return cmp.Compare(a.Name, b.Name) })
	}
	for _, name := range s.names {
		add(func(b *Binding) bool { return b.Name == name })
	}
	for _, id := range s.ids {
		add(func(b *Binding) bool { return matchesID(b, id) })
	}
	return out
}

// matchesID reports whether an entry of profile_ids means b: a UUID that of its profile, anything else its name.
func matchesID(b *Binding, id string) bool {
	if spec.IsUUIDShaped(id) {
		return strings.EqualFold(b.Spec.ProfileID, id)
	}
	return b.Name == id
}

// check refuses runners that do not exist, and profiles of which none is bound anywhere. runners are those of the
// organization.
func (s *selection) check(runners []*Runner) error {
	var unknown, known []string
	for _, r := range runners {
		known = append(known, r.Runner.RunnerID)
	}
	for _, id := range s.runners {
		if !slices.Contains(known, id) && !slices.Contains(unknown, id) {
			unknown = append(unknown, id)
		}
	}
	if len(unknown) > 0 {
		e := fault.NotFoundf(fault.ReasonRunnerNotFound, "no runner is called %s", listed(unknown)).WithMeta("runner_ids", listed(unknown))
		e.WithField("runner_ids", "no runner is called %s", listed(unknown))
		return e.WithHint("%s", suggestion(unknown[0], known, "runners"))
	}
	if !s.named() || slices.ContainsFunc(runners, func(r *Runner) bool { return len(s.bindings(r)) > 0 }) {
		return nil
	}
	return s.notFound(runners)
}

func (s *selection) notFound(runners []*Runner) error {
	var bound []string
	for _, r := range runners {
		for _, b := range r.Bindings {
			bound = append(bound, b.Name)
		}
	}
	slices.Sort(bound)
	bound = slices.Compact(bound)
	e := fault.NotFoundf(fault.ReasonProfileNotFound, "no runner binds a profile called %s", s.text()).WithMeta("profiles", s.text())
	path, given := "profile_names", s.names
	if len(given) == 0 {
		path, given = "profile_ids", s.ids
	}
	first := given[0]
	e.WithField(path, "no runner binds a profile called %s", s.text())
	if path == "profile_names" && spec.IsUUIDShaped(first) {
		return e.WithHint("%s is a UUID: give it in profile_ids", first)
	}
	return e.WithHint("%s", suggestion(first, bound, "profiles"))
}

// suggestion says what may have been meant, and what there is.
func suggestion(name string, known []string, what string) string {
	if near := tree.Suggest(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	if len(known) == 0 {
		return "there are no " + what + " yet"
	}
	return what + ": " + listed(known)
}

// listed joins names, the first few of them.
func listed(names []string) string {
	if len(names) <= maxListed {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:maxListed], ", ") + ", …"
}
