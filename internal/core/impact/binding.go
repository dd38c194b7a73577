package impact

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/plan"
)

// Bindings compares every binding of every runner by name, in the order of both. What did not change has no effect.
func Bindings(before, after *plan.Snapshot) []Effect {
	var out []Effect
	old := map[string]*plan.Runner{}
	for _, r := range before.Runners {
		old[r.Runner.ID] = r
	}
	for _, r := range after.Runners {
		out = append(out, runnerEffects(old[r.Runner.ID], r)...)
		delete(old, r.Runner.ID)
	}
	for _, r := range before.Runners {
		if _, gone := old[r.Runner.ID]; gone {
			out = append(out, runnerEffects(r, nil)...)
		}
	}
	return out
}

func runnerEffects(before, after *plan.Runner) []Effect {
	was, is := bindings(before), bindings(after)
	if before != nil && after != nil && slices.EqualFunc(was, is, func(a, b *plan.Binding) bool { return a == b }) {
		return nil // Folded from the same revisions.
	}
	id := cmp.Or(after, before).Runner.RunnerID
	var out []Effect
	for _, b := range is {
		about := id + "/" + b.Name
		a := find(was, b.Name)
		if a == nil {
			fields := merge(nil, bindingSides(b)) // what its sandboxes start with
			out = append(out, Effect{About: about, Kind: Added, Message: "of profile " + b.Profile.DisplayName, Fields: fields, key: b.Profile.ID + "\x00" + keyOf(fields)})
			continue
		}
		if fields := CompareBindings(a, b); len(fields) > 0 {
			out = append(out, Effect{About: about, Kind: Changed, Fields: fields, key: keyOf(fields)})
		}
		for _, v := range b.LostEffect(a) {
			out = append(out, Effect{About: about, Kind: LostEffect, Message: v.Message, key: v.Path})
		}
		if b.Spec.Default && !a.Spec.Default {
			out = append(out, Effect{About: about, Kind: Default, Message: "launches that name no profile get it", key: b.Name})
		}
	}
	for _, a := range was {
		if find(is, a.Name) == nil {
			out = append(out, Effect{About: id + "/" + a.Name, Kind: Removed, Message: "of profile " + a.Profile.DisplayName, key: a.Profile.ID})
		}
	}
	return out
}

func bindings(r *plan.Runner) []*plan.Binding {
	if r == nil {
		return nil
	}
	return r.Bindings
}

func find(list []*plan.Binding, name string) *plan.Binding {
	if i := slices.IndexFunc(list, func(b *plan.Binding) bool { return b.Name == name }); i >= 0 {
		return list[i]
	}
	return nil
}

// Group is effects that are one thing to the reader.
type Group struct {
	// Effect is that of the first one, an example of all.
	Effect
	Count int
	// Others are names of further ones, at most MaxOthers.
	Others []string
}

// MaxOthers is how many of a group are named besides its example.
const MaxOthers = 9

// Grouped puts effects of one kind and cause together: the most frequent first, those of bindings in their order.
func Grouped(effects []Effect) []Group {
	var out []Group
	at := map[string]int{}
	for _, e := range effects {
		key := string(e.Kind) + "\x00" + e.key
		i, known := at[key]
		if !known {
			i = len(out)
			at[key] = i
			out = append(out, Group{Effect: e})
		}
		if out[i].Count++; known && len(out[i].Others) < MaxOthers {
			out[i].Others = append(out[i].Others, e.About)
		}
	}
	slices.SortStableFunc(out, func(a, b Group) int {
		return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), cmp.Compare(b.Count, a.Count), strings.Compare(a.About, b.About))
	})
	return out
}

// rank puts what hurts first.
func rank(k Kind) int {
	return slices.Index([]Kind{Refused, Removed, Elsewhere, Default, Changed, LostEffect, Admitted, Added}, k)
}
