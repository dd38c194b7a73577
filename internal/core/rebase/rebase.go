// Package rebase moves bindings between profiles without a change of what they come to: it finds the override that lets one profile
// say what another one says, and the profile that says what a profile and an override say together.
//
// What it finds is a proposal. Whoever writes it proves it, by folding the binding as it was and as it would be (package impact).
package rebase

import (
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// Rebased is an override that was found.
type Rebased struct {
	// Override is nil where none is needed.
	Override *spec.Layer
	// Pinned are fields of the profile that is kept which were not stated before. What the zone says about them, or that it says
	// nothing, is stated in the override now: a later edit of the zone would not show through any more.
	Pinned []string
}

// Override finds what has to lie over keep, so that it says what from and override say together: every statement of theirs that keep
// does not make, and of those that keep alone makes what lies beneath. Beneath are the layers under the profile, the lowest first.
func Override(beneath []resolve.Input, keep, from, override *spec.Layer) (Rebased, error) {
	want, err := Profile(from, override)
	if err != nil {
		return Rebased{}, err
	}
	f := finder{floor: resolve.Fold(beneath)}
	for _, leaf := range want.Leaves() {
		// An object as a whole may be cleared by either: its keys are looked at below, one by one.
		if had, ok := keep.At(leaf.Field, leaf.Key); !whole(leaf) && (!ok || !had.Equal(leaf)) {
			f.state(leaf)
		}
	}
	for _, leaf := range keep.Leaves() {
		// A guardrail cannot be taken back above: what keep alone demands is found when the binding is folded.
		if _, ok := want.At(leaf.Field, leaf.Key); !ok && !leaf.Field.Guardrail && !leaf.Field.Open {
			f.pin(leaf)
		}
	}
	found, err := spec.Apply(nil, f.says)
	if err != nil {
		return Rebased{}, err
	}
	f.keys(over(beneath, from, override), over(beneath, keep, found))
	if len(f.says) == 0 {
		return Rebased{}, nil
	}
	f.Override, err = spec.Apply(nil, f.says)
	return f.Rebased, err
}

// whole reports whether a statement is about an open object and not about one key of it.
func whole(l spec.Leaf) bool { return l.Field.Open && l.Key == "" }

// finder collects what an override has to say.
type finder struct {
	Rebased
	floor *resolve.Folded
	says  []spec.Change
}

func (f *finder) state(l spec.Leaf) { f.says = append(f.says, spec.ChangeBetween(spec.Leaf{}, l)) }

// pin states what lies beneath a statement.
func (f *finder) pin(l spec.Leaf) {
	below := spec.Leaf{Field: l.Field, Key: l.Key, State: spec.Cleared}
	if v, ok := f.floor.At(l.Field, l.Key); ok {
		below = *v.Leaf
	}
	if !below.Equal(l) {
		f.state(below)
		f.Pinned = append(f.Pinned, l.Path())
	}
}

// over lays a profile and an override over what is beneath them.
func over(beneath []resolve.Input, profile, override *spec.Layer) *resolve.Folded {
	return resolve.Fold(append(beneath[:len(beneath):len(beneath)],
		resolve.Input{Origin: resolve.Origin{Layer: resolve.LayerProfile}, Layer: profile},
		resolve.Input{Origin: resolve.Origin{Layer: resolve.LayerOverride}, Layer: override}))
}

// keys states the keys of open objects that come to something else.
func (f *finder) keys(was, is *resolve.Folded) {
	for _, v := range was.Fields() {
		if now, _ := is.At(v.Field, v.Key); v.Field.Open && v.Key != "" && v.State == spec.Set && !now.Equal(*v.Leaf) {
			f.state(*v.Leaf)
			if below, ok := f.floor.At(v.Field, v.Key); ok && below.Equal(*v.Leaf) {
				f.Pinned = append(f.Pinned, v.Path())
			}
		}
	}
	for _, v := range is.Fields() {
		if before, _ := was.At(v.Field, v.Key); v.Field.Open && v.Key != "" && v.State == spec.Set && before.State != spec.Set {
			f.state(spec.Leaf{Field: v.Field, Key: v.Key, State: spec.Cleared})
			f.Pinned = append(f.Pinned, v.Path())
		}
	}
}

// Profile returns the layer that says what a profile and an override over it say together, guardrails as they hold together.
func Profile(profile, override *spec.Layer) (*spec.Layer, error) {
	folded := over(nil, profile, override)
	met := map[*spec.Field][]byte{}
	for _, b := range guard.Compile(folded).Bounds() {
		met[b.Field] = b.Effect().Value
	}
	var says []spec.Change
	for _, leaf := range folded.Leaves() {
		c := spec.ChangeBetween(spec.Leaf{}, leaf)
		if v, ok := met[leaf.Field]; ok {
			c = together(c, v)
		}
		says = append(says, c)
	}
	return spec.Apply(nil, says)
}

// together makes a statement say what guardrails of two layers come to. Lists of patterns that hold both cannot be said by one: the
// upper one stays, and the fold of the binding shows that it is not the same.
func together(c spec.Change, met []byte) spec.Change {
	both := c
	both.New = met
	if _, err := spec.Apply(nil, []spec.Change{both}); err != nil {
		return c
	}
	return both
}
