package resolve

import (
	"slices"

	"github.com/bermhq/berm/internal/core/spec"
)

// Fold lays inputs over each other, the lowest first. Their order is the caller's; kinds are not looked at, except that a
// request adds to additive maps.
func Fold(inputs []Input) *Folded {
	f := &Folded{}
	f.inputs = slices.Clone(inputs)
	m := newMerge(len(inputs))
	for i := range f.inputs {
		in := &f.inputs[i]
		m.add(source{leaves: statements(in), origin: &in.Origin})
	}
	f.values = m.run()
	return f
}

// Overlay lays further layers over f, the lowest first, and leaves f as it is. It is the same as folding all layers at
// once.
func (f *Folded) Overlay(in Input, more ...Input) *Resolved {
	r := &Resolved{inputs: make([]Input, 0, len(f.inputs)+1+len(more))}
	r.inputs = append(append(append(r.inputs, f.inputs...), in), more...)
	m := newMerge(2 + len(more))
	m.add(source{values: f.values})
	for i := len(f.inputs); i < len(r.inputs); i++ {
		in := &r.inputs[i]
		m.add(source{leaves: statements(in), origin: &in.Origin})
	}
	r.values = m.run()
	return r
}

// statements returns what a layer says, with the entries of additive maps of a request as statements of their own.
func statements(in *Input) []spec.Leaf {
	leaves := in.Layer.Leaves()
	if in.Origin.Layer != LayerRequest || !slices.ContainsFunc(leaves, adds) {
		return leaves
	}
	out := make([]spec.Leaf, 0, len(leaves)+8)
	for _, l := range leaves {
		if adds(l) {
			out = append(out, l.Entries()...)
			continue
		}
		out = append(out, l)
	}
	return out
}

func adds(l spec.Leaf) bool { return l.Field.Additive && l.Key == "" && l.State == spec.Set }

// source is one operand of a merge: a layer, or a result, whose values bring their origins and shadows.
type source struct {
	leaves []spec.Leaf
	origin *Origin
	values []Value
	// next is the position of the first statement not yet merged.
	next int
	// cleared is the statement by which the source clears all keys of the open object being merged.
	cleared    spec.Leaf
	clearedBy  *Origin
	hasCleared bool
}

func (s *source) done() bool { return s.next >= len(s.leaves)+len(s.values) }

func (s *source) head() *spec.Leaf {
	if s.values != nil {
		return &s.values[s.next].Leaf
	}
	return &s.leaves[s.next]
}

// inlineSources is how many operands a merge holds without allocating: the layers of a binding and a request.
const inlineSources = 8

// merge is a k-way merge of sorted statements.
type merge struct {
	buffer  [inlineSources]source
	sources []source
	values  []Value
	// shadows is the arena that all Shadowed slices of the result are cut from.
	shadows []Shadow
	size    int
}

func newMerge(n int) *merge {
	m := &merge{}
	m.sources = m.buffer[:0]
	if n > inlineSources {
		m.sources = make([]source, 0, n)
	}
	return m
}

func (m *merge) add(s source) {
	m.sources = append(m.sources, s)
	m.size += len(s.leaves) + len(s.values)
}
