// Package impact says what a change of configuration would do before it is made: to every binding, to launches as they were made
// before, and to the specs of sandboxes that run. It decides nothing itself: each side is what plan makes of a snapshot, so a
// preview is as exact as the launch that follows.
package impact

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// Side is one side of a difference: a value and who states it.
type Side struct {
	// Value is JSON; null is a field that its layer cleared.
	Value  json.RawMessage
	Origin *resolve.Origin
}

// Field is a field of a resolved spec, or a guardrail in force, whose value would change.
type Field struct {
	Path string
	// Old and New are nil where nothing states the field.
	Old, New *Side
	// Meaning says in words what the change amounts to.
	Meaning string
}

// Matters reports whether a launch would notice: that nothing states a field and that a layer clears it come to the same.
func (f Field) Matters() bool { return f.Old.has() || f.New.has() }

// String returns the value, or that there is none.
func (s *Side) String() string {
	if !s.has() {
		return "none"
	}
	return s.text()
}

func (s *Side) has() bool { return s.text() != "" && s.text() != "null" }

// Compare returns the fields in which two results differ, by path, guardrails left out. Who states a value makes no difference.
func Compare(old, new *resolve.Resolved) []Field { return CompareValues(old.Fields(), new.Fields()) }

// CompareValues is Compare for fields as they were recorded.
func CompareValues(old, new []resolve.Value) []Field { return merge(sides(old), sides(new)) }

// CompareBindings is Compare for the folded layers of a binding, with the guardrails in force.
func CompareBindings(old, new *plan.Binding) []Field {
	return merge(bindingSides(old), bindingSides(new))
}

// side is a Side at its path.
type side struct {
	path string
	leaf spec.Leaf
	Side
}

// leafOr returns the statement of a side; that of a guardrail in force is made from its value, where one statement can say it.
func (s side) leafOr() spec.Leaf {
	if s.path == "" || s.leaf.Field != nil {
		return s.leaf
	}
	if l, err := spec.Edit(nil, []string{s.path + "=" + string(s.Value)}, nil, nil); err == nil && len(l.Leaves()) == 1 {
		return l.Leaves()[0]
	}
	return spec.Leaf{}
}

func sides(values []resolve.Value) []side {
	var out []side
	for _, v := range values {
		if !v.Field.Guardrail {
			out = append(out, side{v.Path(), *v.Leaf, Side{v.JSON(), v.Origin}})
		}
	}
	return out
}

func bindingSides(b *plan.Binding) []side {
	out := sides(b.Folded.Fields())
	for _, bound := range b.Bounds() {
		out = append(out, side{path: bound.Path, Side: Side{bound.Value, bound.Owner.Origin}})
	}
	return out
}

// merge pairs the sides by path.
func merge(old, new []side) []Field {
	byPath := func(a, b side) int { return strings.Compare(a.path, b.path) }
	slices.SortFunc(old, byPath)
	slices.SortFunc(new, byPath)
	var out []Field
	for len(old) > 0 || len(new) > 0 {
		var x, y side
		switch {
		case len(new) == 0 || len(old) > 0 && old[0].path < new[0].path:
			x, old = old[0], old[1:]
		case len(old) == 0 || old[0].path > new[0].path:
			y, new = new[0], new[1:]
		default:
			x, y, old, new = old[0], new[0], old[1:], new[1:]
		}
		if f, differ := field(x, y); differ {
			out = append(out, f)
		}
	}
	return out
}

func field(x, y side) (Field, bool) {
	if bytes.Equal(x.Value, y.Value) && (x.path == "") == (y.path == "") {
		return Field{}, false
	}
	f := Field{Path: x.path}
	c := spec.ChangeBetween(x.leafOr(), y.leafOr())
	if x.path != "" {
		f.Old = &Side{x.Value, x.Origin}
	}
	if y.path != "" {
		f.Path, f.New = y.path, &Side{y.Value, y.Origin}
	}
	f.Meaning = meaning(c, f)
	return f, true
}

// meaning says what a change of a resolved value is: beneath it nothing is left that could show through.
func meaning(c spec.Change, f Field) string {
	had, has := f.Old.has(), f.New.has()
	switch {
	case c.SameAmount || c.Grew != 0:
		return c.Meaning()
	case had && has:
		return "replaced"
	case has:
		return "gets a value"
	case had:
		return "has no value any more"
	}
	return "has no value still"
}
