package guard

import (
	"slices"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// Term is what one layer says about a guardrail.
type Term struct {
	spec.Leaf
	Origin *resolve.Origin
	// Place is where its layer stands among those that were met, from 0.
	Place int
}

// Bound is one guardrail as it holds: everything that layers say about it, met as its field demands.
type Bound struct {
	Field *spec.Field
	// Terms are what layers say, lowest layer first; never empty.
	Terms []Term
}

// meet collects the guardrails of all layers, by field. Layers are lowest first.
func meet(layers []resolve.Input) map[*spec.Field]*Bound {
	bounds := map[*spec.Field]*Bound{}
	for i := range layers {
		in := &layers[i]
		for _, leaf := range in.Layer.Leaves() {
			if !leaf.Field.Guardrail || leaf.State != spec.Set {
				continue
			}
			b := bounds[leaf.Field]
			if b == nil {
				b = &Bound{Field: leaf.Field}
				bounds[leaf.Field] = b
			}
			b.Terms = append(b.Terms, Term{Leaf: leaf, Origin: &in.Origin, Place: i})
		}
	}
	return bounds
}

// Decisive returns the term that holds where one alone decides: the smallest maximum, the first true. Where terms hold
// together, and where the field simply follows "later wins", it is the highest layer's.
func (b *Bound) Decisive() Term {
	best := b.Terms[len(b.Terms)-1]
	for _, t := range slices.Backward(b.Terms) {
		switch b.Field.Meet {
		case specpb.Meet_MEET_MINIMUM:
			// Of equal maxima the lowest layer's decides: taking away a higher one changes nothing.
			if amount(t.Leaf) <= amount(best.Leaf) {
				best = t
			}
		case specpb.Meet_MEET_ANY:
			if truth(t.Leaf) {
				best = t
			}
		default:
			return best
		}
	}
	return best
}

// Amount returns the smallest maximum.
func (b *Bound) Amount() int64 { return amount(b.Decisive().Leaf) }

// True returns the term that demands something, nil when none does.
func (b *Bound) True() *Term {
	if b == nil {
		return nil
	}
	if t := b.Decisive(); truth(t.Leaf) {
		return &t
	}
	return nil
}

// Without returns the lowest term whose set does not contain value, nil when all do.
func (b *Bound) Without(value string) *Term {
	for i := range b.Terms {
		if !slices.Contains(list(b.Terms[i].Leaf), value) {
			return &b.Terms[i]
		}
	}
	return nil
}

// Common returns what is in every term's set, sorted.
func (b *Bound) Common() []string {
	var out []string
	for _, v := range list(b.Terms[0].Leaf) {
		if b.Without(v) == nil {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Entries returns what is in any term's list, sorted.
func (b *Bound) Entries() []string {
	var out []string
	for _, t := range b.Terms {
		out = append(out, list(t.Leaf)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func amount(l spec.Leaf) int64 {
	a, _ := l.Amount()
	return a
}

func truth(l spec.Leaf) bool {
	b, _ := l.Any().(bool)
	return b
}

func list(l spec.Leaf) []string {
	s, _ := l.Any().([]string)
	return s
}

// listed writes a set for people; an empty one admits nothing.
func listed(values []string) string {
	if len(values) == 0 {
		return "nothing"
	}
	return join(values)
}
