package guard

import (
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// Limits is everything that bounds the requests of one binding. It is immutable, safe for concurrent use and meant to be
// kept with the fold it was made from.
type Limits struct {
	folded *resolve.Folded
	bounds map[*spec.Field]*Bound
	// ceilings are those of the dimensions, in the same order.
	ceilings [2]ceiling
	patterns []patterns
	locks    []entry
	denied   []entry
	// broken is what no request can repair.
	broken []Violation
	// known are the values below a request of the fields that every check looks at.
	known []found
	// image is the image that layers 1 to 3 give, normalised; the modes are the names that they declare, sorted.
	image                     string
	egressModes, ingressModes []string
}

// ceiling is the largest limit of a resource.
type ceiling struct {
	// known is false when nothing bounds the resource.
	known  bool
	amount int64
	text   string
	// path is the guardrail, or the limit whose default is the ceiling; explicit tells which.
	path     string
	explicit bool
	origin   *resolve.Origin
	// bound is the explicit guardrail, nil when there is none.
	bound *Term
}

// entry is one element of a union, with who demands it.
type entry struct {
	text   string
	origin *resolve.Origin
}

// Effective folds the layers below a request and returns what bounds requests. Each extra input belongs to the runner: its
// guardrails count, its other fields do not.
func Effective(inputs []resolve.Input, extra ...resolve.Input) *Limits {
	return Compile(resolve.Fold(inputs), extra...)
}

// Compile is Effective for layers that were folded already.
func Compile(folded *resolve.Folded, extra ...resolve.Input) *Limits {
	layers := slices.Concat(slices.Clone(extra), folded.Inputs())
	l := &Limits{folded: folded, bounds: meet(layers)}
	set := fields()
	for i := range set.dimensions {
		l.ceilings[i] = l.ceilingOf(&set.dimensions[i])
	}
	l.patterns = compilePatterns(l.bounds[set.imagesAllowed])
	l.locks = union(l.bounds[set.locked])
	l.denied = union(l.bounds[set.deniedPrefixes])
	l.broken = broken(folded)
	for _, f := range set.checked() {
		l.known = append(l.known, at(folded, f, ""))
	}
	l.image = NormalizeImage(at(folded, set.image, "").text())
	l.egressModes, l.ingressModes = modes(folded, set.egressModes), modes(folded, set.ingressModes)
	return l
}

// modes returns the names of a map of modes, sorted.
func modes(folded *resolve.Folded, f *spec.Field) []string {
	m, _ := at(folded, f, "").Any().(map[string]any)
	if len(m) == 0 {
		return nil
	}
	return sortedKeys(m)
}

// Bounds returns the effective guardrails in the order of the schema.
func (l *Limits) Bounds() []*Bound {
	out := make([]*Bound, 0, len(l.bounds))
	for _, b := range l.bounds {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *Bound) int { return a.Field.Index() - b.Field.Index() })
	return out
}

// Bound returns the effective guardrail at a path, nil when no layer sets it.
func (l *Limits) Bound(path string) *Bound {
	f, _, _ := spec.ByPath(path)
	return l.bounds[f]
}

// Folded returns the fold that the limits were made with.
func (l *Limits) Folded() *resolve.Folded { return l.folded }

// Lifetime returns the lifetime of a sandbox whose request asks for the given one, in seconds: the request's, else the
// default, else the longest allowed. 0 means that it ends by itself or is stopped. The origin is that of the value, nil
// for the request's own and for none.
func (l *Limits) Lifetime(asked int32) (seconds int32, origin *resolve.Origin) {
	set := fields()
	if asked != 0 {
		return asked, nil
	}
	for _, f := range []*spec.Field{set.lifetimeDefault, set.lifetimeMax} {
		if b := l.bounds[f]; b != nil && b.Amount() > 0 {
			return int32(b.Amount()), b.Decisive().Origin
		}
	}
	return 0, nil
}

// Idle returns how long a sandbox may be without traffic, in seconds; 0 is for ever.
func (l *Limits) Idle() int32 {
	if b := l.bounds[fields().idleMax]; b != nil {
		return int32(b.Amount())
	}
	return 0
}

// ceilingOf returns the tighter of the explicit guardrail and the default, which is no ceiling any more where the profile or
// the override states a maximum of its own.
func (l *Limits) ceilingOf(d *dimension) ceiling {
	c := ceiling{}
	replaced := false
	if b := l.bounds[d.max]; b != nil {
		t := b.Decisive()
		c = ceiling{known: true, amount: b.Amount(), text: t.String(), path: d.max.Path, explicit: true, origin: t.Origin, bound: &t}
		replaced = slices.ContainsFunc(b.Terms, func(t Term) bool {
			return t.Origin.Layer == resolve.LayerProfile || t.Origin.Layer == resolve.LayerOverride
		})
	}
	v := at(l.folded, d.limit, "")
	if a, ok := v.Amount(); ok && !replaced && (!c.known || a < c.amount) {
		c.known, c.amount, c.text, c.path, c.explicit, c.origin = true, a, v.String(), d.limit.Path, false, v.origin
	}
	return c
}

func union(b *Bound) []entry {
	if b == nil {
		return nil
	}
	var out []entry
	for _, t := range b.Terms {
		for _, text := range list(t.Leaf) {
			if !slices.ContainsFunc(out, func(e entry) bool { return e.text == text }) {
				out = append(out, entry{text, t.Origin})
			}
		}
	}
	return out
}

func join(values []string) string { return strings.Join(values, ", ") }
