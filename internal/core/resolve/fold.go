package resolve

import (
	"slices"

	"github.com/bermhq/berm/internal/core/spec"
)

// Fold lays inputs over each other, the lowest first. Their order is the caller's; kinds are not looked at, except that a
// request adds to additive maps.
func Fold(inputs []Input) *Folded {
	own := slices.Clone(inputs)
	f := &Folded{Resolved{inputs: make([]*Input, len(own))}}
	m := merge{}
	for i := range own {
		f.inputs[i] = &own[i]
		m.addLayer(&own[i])
	}
	f.values = m.run()
	return f
}

// Overlay lays further layers over f, the lowest first, and leaves f as it is. It is the same as folding all layers at
// once.
func (f *Folded) Overlay(in Input, more ...Input) *Resolved {
	own := append(append(make([]Input, 0, 1+len(more)), in), more...)
	r := &Resolved{inputs: make([]*Input, len(f.inputs), len(f.inputs)+len(own))}
	copy(r.inputs, f.inputs)
	m := merge{}
	m.add(source{values: f.values})
	for i := range own {
		r.inputs = append(r.inputs, &own[i])
		m.addLayer(&own[i])
	}
	r.values = m.run()
	return r
}

// statements returns what a layer says, with the entries of additive maps of a request as statements of their own.
func statements(in *Input) []spec.Leaf {
	leaves := in.Layer.Leaves()
	if in.Origin.Layer != LayerRequest {
		return leaves
	}
	first := slices.IndexFunc(leaves, adds)
	if first < 0 {
		return leaves
	}
	out := make([]spec.Leaf, 0, len(leaves)+len(leaves[first].Entries()))
	out = append(out, leaves[:first]...)
	for _, l := range leaves[first:] {
		if adds(l) {
			out = append(out, l.Entries()...)
			continue
		}
		out = append(out, l)
	}
	return out
}

func adds(l spec.Leaf) bool { return l.Field.Additive && l.Key == "" && l.State == spec.Set }

// source is one operand of a merge: a layer, or a result, whose values bring their origins and shadows. It has leaves or
// values, never both.
type source struct {
	leaves []spec.Leaf
	origin *Origin
	values []Value
	// next is the position of the first statement not yet merged.
	next int
	// cleared is the open object whose keys a layer clears all at once, nil when it does not. In a result such keys are
	// listed one by one.
	cleared *spec.Field
}

// head returns the first statement not yet merged, nil at the end.
func (s *source) head() *spec.Leaf {
	if s.next < len(s.leaves) {
		return &s.leaves[s.next]
	}
	if s.next < len(s.values) {
		return s.values[s.next].Leaf
	}
	return nil
}

// inlineSources is how many operands a merge holds without allocating: the layers of a binding and a request.
const inlineSources = 8

// merge is a k-way merge of sorted statements. Most of its time is the garbage collector's, so it allocates one array of
// values and one of shadows, near the size that they will have.
type merge struct {
	buffer [inlineSources]source
	// many takes the place of buffer for more operands than that.
	many   []source
	count  int
	values []Value
	// shadows is the arena that Shadowed slices are cut from.
	shadows []Shadow
	// largest is the length of the longest operand, total that of all.
	largest, total int
}

func (m *merge) addLayer(in *Input) { m.add(source{leaves: statements(in), origin: &in.Origin}) }

func (m *merge) add(s source) {
	switch {
	case m.count < inlineSources:
		m.buffer[m.count] = s
	case m.many == nil:
		m.many = append(append(make([]source, 0, 2*inlineSources), m.buffer[:]...), s)
	default:
		m.many = append(m.many, s)
	}
	m.count++
	size := len(s.leaves) + len(s.values)
	m.largest = max(m.largest, size)
	m.total += size
}

func (m *merge) sources() []source {
	if m.many != nil {
		return m.many
	}
	return m.buffer[:m.count]
}
