package plan

import (
	"encoding/json"

	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/resolve"
)

// Bound is one guardrail in force: what the statements of all layers come to, see guard.Effect.
type Bound struct {
	Path string
	// Value is JSON, in the form of the field, or {"allOf": […]} of such.
	Value json.RawMessage
	// Owner decides the value, or is the tightest of those that hold together; Combined are the others of those, Shadowed what the
	// value does not need, the highest layer first.
	Owner              Statement
	Combined, Shadowed []Statement
}

// Statement is what one layer says about a guardrail.
type Statement struct {
	// Value is JSON.
	Value  json.RawMessage
	Origin *resolve.Origin
}

// Bounds returns the guardrails in force in the order of the schema.
func (p *Plan) Bounds() []Bound { return bounds(p.stack.limits) }

// Bounds returns the guardrails in force for launches from the binding, in the order of the schema.
func (b *Binding) Bounds() []Bound { return bounds(b.Limits) }

func bounds(limits *guard.Limits) []Bound {
	var out []Bound
	for _, b := range limits.Bounds() {
		e := b.Effect()
		out = append(out, Bound{
			Path: b.Field.Path, Value: e.Value, Owner: statement(e.Owner), Combined: statements(e.Combined), Shadowed: statements(e.Shadowed),
		})
	}
	return out
}

func statement(t guard.Term) Statement { return Statement{Value: t.JSON(), Origin: t.Origin} }

func statements(terms []guard.Term) []Statement {
	var out []Statement
	for _, t := range terms {
		out = append(out, statement(t))
	}
	return out
}

// bound reads one guardrail.
func (r *Record) bound(s *storedBound) (Bound, bool) {
	b := Bound{Path: s.Path, Value: s.Value}
	var ok bool
	if b.Owner, ok = r.statement(s.Path, s.Owner); !ok || len(s.Value) == 0 {
		return b, false
	}
	if b.Combined, ok = r.statements(s.Path, s.Combined); !ok {
		return b, false
	}
	b.Shadowed, ok = r.statements(s.Path, s.Shadowed)
	return b, ok
}

func (r *Record) statements(path string, places []int) ([]Statement, bool) {
	var out []Statement
	for _, place := range places {
		s, ok := r.statement(path, place)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// statement returns what the layer at a place, counted through Layers and then Extra, says about a path.
func (r *Record) statement(path string, place int) (Statement, bool) {
	var in *resolve.Input
	switch extra := place - len(r.Layers); {
	case place < 0 || extra >= len(r.Extra):
		return Statement{}, false
	case extra < 0:
		in = &r.Layers[place]
	default:
		in = &r.Extra[extra]
	}
	leaf, ok := leafAt(in.Layer, path)
	if !ok {
		return Statement{}, false
	}
	return Statement{Value: leaf.JSON(), Origin: &in.Origin}, true
}
