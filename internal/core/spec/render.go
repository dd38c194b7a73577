package spec

import (
	"sort"

	"github.com/bermhq/berm/internal/core/tree"
)

// JSONOf returns the canonical text of leaves of the profile spec, see Registry.JSON.
func JSONOf(leaves []Leaf) []byte { return profile().JSON(leaves) }

// JSON returns the canonical text of leaves sorted as in a layer. A message of which every leaf is cleared is null as a
// whole. Leaves of a resolved spec may carry keys of an open object or of an additive map beside a statement about the
// whole: the keys are added to a map, and stand alone behind a null.
func (r *Registry) JSON(leaves []Leaf) []byte {
	w := writer{}
	w.group(r.root, leaves)
	return w.b
}

func (r *Registry) wireJSON(leaves []Leaf) []byte {
	w := writer{wire: true}
	w.group(r.root, leaves)
	return w.b
}

type writer struct {
	b []byte
	// wire asks for the form of the v1beta2 interface.
	wire bool
}

// within returns the leaves of fields lo to hi.
func within(leaves []Leaf, lo, hi int) []Leaf {
	from := sort.Search(len(leaves), func(i int) bool { return leaves[i].Field.index >= lo })
	to := from + sort.Search(len(leaves)-from, func(i int) bool { return leaves[from+i].Field.index >= hi })
	return leaves[from:to]
}

func (m *member) within(leaves []Leaf) []Leaf {
	if m.group != nil {
		return within(leaves, m.group.lo, m.group.hi)
	}
	return within(leaves, m.field.index, m.field.index+1)
}

func (w *writer) group(g *group, leaves []Leaf) {
	members := g.byJSON
	if w.wire {
		members = g.byWire
	}
	w.b = append(w.b, '{')
	first := true
	for _, m := range members {
		sub := m.within(leaves)
		if len(sub) == 0 {
			continue
		}
		if !first {
			w.b = append(w.b, ',')
		}
		first = false
		w.member(m, sub)
	}
	w.b = append(w.b, '}')
}

func (w *writer) member(m *member, leaves []Leaf) {
	name := m.jsonName
	if w.wire {
		name = m.wireName()
	}
	w.b = append(tree.AppendString(w.b, name), ':')
	switch {
	case m.field != nil:
		w.leaf(leaves)
	case m.group.allCleared(leaves):
		w.b = append(w.b, "null"...)
	case w.wire && m.group.wireName != "":
		inner := writer{wire: true}
		inner.group(m.group, leaves)
		w.b = tree.AppendString(w.b, string(inner.b))
	case w.wire && m.group.direct(leaves):
		w.leaf(leaves)
	default:
		w.group(m.group, leaves)
	}
}

// allCleared reports that a null for the message says the same. One leaf alone is named, so that its text is kept.
func (g *group) allCleared(leaves []Leaf) bool {
	if g.authored < 2 || len(leaves) != g.authored {
		return false
	}
	for _, l := range leaves {
		if l.State != Cleared || l.Key != "" || l.Field.Derived {
			return false
		}
	}
	return true
}

// direct reports that the message can be written as the entries of its map alone, which is the published form.
func (g *group) direct(leaves []Leaf) bool {
	if g.inline == nil || len(leaves) != 1 || leaves[0].Field != g.inline || leaves[0].State != Set {
		return false
	}
	entries, ok := leaves[0].Any().(map[string]any)
	for name := range entries {
		if g.byName[name] != nil {
			return false
		}
	}
	return ok && len(entries) > 0
}

// leaf writes what leaves say about the one field that all of them are of.
func (w *writer) leaf(leaves []Leaf) {
	if leaves[0].Key == "" && len(leaves) == 1 {
		w.b = append(w.b, leaves[0].text()...)
		return
	}
	entries := leaves
	if leaves[0].Key == "" {
		entries = union(leaves[0].Entries(), leaves[1:])
	}
	w.b = append(w.b, '{')
	for i, l := range entries {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = append(tree.AppendString(w.b, l.Key), ':')
		w.b = append(w.b, l.text()...)
	}
	w.b = append(w.b, '}')
}

// union merges two sorted lists of entries; of one key the later list's is taken.
func union(a, b []Leaf) []Leaf {
	out := make([]Leaf, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].Key < b[0].Key:
			out, a = append(out, a[0]), a[1:]
		case a[0].Key > b[0].Key:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, b[0]), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}
