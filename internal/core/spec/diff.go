package spec

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// Change is one difference between two layers.
type Change struct {
	// Path is that of the leaf.
	Path string `json:"path"`
	// Old and New are the values as canonical JSON, nil where absent and null where cleared.
	Old json.RawMessage `json:"old,omitempty"`
	New json.RawMessage `json:"new,omitempty"`
	// OldState and NewState tell absent from cleared.
	OldState State `json:"-"`
	NewState State `json:"-"`
	// SameAmount says that both values are quantities of one amount in different words, such as "1" and "1000m".
	SameAmount bool `json:"sameAmount,omitempty"`
	// Grew is 1 or -1 where both values are amounts or whole numbers and the new one is larger or smaller.
	Grew int `json:"-"`
	// Plain says that the field is none of a spec: nothing lies beneath it.
	Plain bool `json:"-"`
}

// Meaning says in words what a change of a field amounts to.
func (c Change) Meaning() string {
	switch {
	case c.SameAmount:
		return "the same amount in other words"
	case c.Grew > 0:
		return "raised"
	case c.Grew < 0:
		return "lowered"
	case c.Plain && c.NewState == Absent:
		return "removed"
	case c.Plain && c.OldState == Absent:
		return "added"
	case c.NewState == Absent:
		return "not stated any more: what lies beneath shows through"
	case c.NewState == Cleared:
		return "cleared: nothing from beneath shows through"
	case c.OldState == Absent:
		return "stated: hides what lies beneath"
	case c.OldState == Cleared:
		return "has a value again"
	}
	return "replaced"
}

// ChangeOf compares two values of a field that belongs to no spec, nil where there is none.
func ChangeOf(path string, old, new json.RawMessage) (c Change, differ bool) {
	c = Change{Path: path, Old: old, New: new, OldState: Set, NewState: Set, Grew: grew(old, new), Plain: true}
	if old == nil {
		c.OldState = Absent
	}
	if new == nil {
		c.NewState = Absent
	}
	return c, !bytes.Equal(old, new)
}

// Compare orders changes by path.
func (c Change) Compare(d Change) int { return strings.Compare(c.Path, d.Path) }

// Diff returns what must change in old to make it new, by field. Values are compared by their canonical text.
func Diff(old, new *Layer) []Change {
	var changes []Change
	a, b := old.Leaves(), new.Leaves()
	for len(a) > 0 || len(b) > 0 {
		var x, y Leaf
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Compare(b[0]) < 0:
			x, a = a[0], a[1:]
		case len(a) == 0 || a[0].Compare(b[0]) > 0:
			y, b = b[0], b[1:]
		default:
			x, y, a, b = a[0], b[0], a[1:], b[1:]
			if x.Equal(y) {
				continue
			}
		}
		changes = append(changes, change(x, y))
	}
	return changes
}

// ChangeBetween compares two statements about one field, of which one may be the zero Leaf: nothing is stated.
func ChangeBetween(x, y Leaf) Change {
	if x.Field == nil && y.Field == nil {
		return Change{}
	}
	return change(x, y)
}

func change(x, y Leaf) Change {
	c := Change{Path: x.Path(), OldState: x.State, NewState: y.State}
	if x.Field == nil {
		c.Path = y.Path()
	}
	if x.State != Absent {
		c.Old = x.JSON()
	}
	if y.State != Absent {
		c.New = y.JSON()
	}
	if x.datum != nil && y.datum != nil && x.datum.quantity && y.datum.quantity {
		c.SameAmount, c.Grew = x.datum.amount == y.datum.amount, cmp.Compare(y.datum.amount, x.datum.amount)
		return c
	}
	c.Grew = grew(c.Old, c.New)
	return c
}

// grew compares two whole numbers.
func grew(old, new json.RawMessage) int {
	a, err := strconv.ParseInt(string(old), 10, 64)
	b, err2 := strconv.ParseInt(string(new), 10, 64)
	if err != nil || err2 != nil {
		return 0
	}
	return cmp.Compare(b, a)
}

// Apply returns base with changes made: Apply(old, Diff(old, new)) is new. What the changes say the old values were does
// not matter. It fails for a path that is no leaf and for a value that does not fit its field.
func Apply(base *Layer, changes []Change) (*Layer, error) { return base.reg().Apply(base, changes) }

// Apply is the function of that name for the fields of r.
func (r *Registry) Apply(base *Layer, changes []Change) (*Layer, error) {
	d := newDecoder(r, stored)
	d.leaves = slices.Clone(base.Leaves())
	for _, c := range changes {
		f, key, ok := r.ByPath(c.Path)
		if !ok || key != "" && !f.Open {
			return nil, fault.Invalidf(fault.ReasonFieldUnknown, "invalid change").WithField(c.Path, "no field of a spec")
		}
		d.leaves = slices.DeleteFunc(d.leaves, func(l Leaf) bool { return l.Field == f && l.Key == key })
		if c.NewState == Absent {
			continue
		}
		if err := d.apply(f, key, c); err != nil {
			return nil, err
		}
	}
	if err := d.problems.Err("invalid change"); err != nil {
		return nil, err
	}
	slices.SortFunc(d.leaves, Leaf.Compare)
	return &Layer{registry: r, leaves: wholes(d.leaves)}, nil
}

func (d *layerDecoder) apply(f *Field, key string, c Change) error {
	if c.NewState == Cleared {
		d.leaves = append(d.leaves, Leaf{Field: f, Key: key, State: Cleared})
		return nil
	}
	n, err := tree.ParseJSON(c.New)
	if err != nil {
		return err
	}
	if key == "" {
		d.leaf(f, n, c.Path)
		return nil
	}
	if l, ok := d.value(f, key, n, c.Path); ok {
		d.leaves = append(d.leaves, l)
	}
	return nil
}

// wholes drops statements about an open object as a whole where keys of it are given, which is what its text would say.
func wholes(leaves []Leaf) []Leaf {
	return slices.DeleteFunc(leaves, func(l Leaf) bool {
		if !l.Field.Open || l.Key != "" {
			return false
		}
		return len(within(leaves, l.Field.index, l.Field.index+1)) > 1
	})
}
