// Package resolve folds layers into one spec and remembers, for every field, which layer its value came from.
//
// There is one rule: messages merge, values replace. The highest layer that sets or clears a field owns it; what lower
// layers said about it is kept as shadowed. So every field of a result has exactly one origin. A null for an open object
// clears every key that layers below it set. The one exception is said in the schema: the layer of a request adds entries
// to an additive map, each with an origin of its own.
//
// Folding is pure and total. It compares positions of fields, never names, and copies no values: results point into the
// layers. A Folded is made once per binding and kept; a launch lays its request over it.
package resolve

import (
	"slices"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/spec"
)

// Layer is the kind of a layer. Kinds are ordered: a later one overrides an earlier one.
type Layer uint8

// The layers, lowest first.
const (
	LayerZone Layer = iota + 1
	LayerProfile
	LayerOverride
	LayerRequest
)

// String returns "zone", "profile", "override" or "request".
func (l Layer) String() string {
	switch l {
	case LayerZone:
		return "zone"
	case LayerProfile:
		return "profile"
	case LayerOverride:
		return "override"
	case LayerRequest:
		return "request"
	}
	return "unknown"
}

// ParseLayer is the reverse of Layer.String.
func ParseLayer(s string) (Layer, bool) {
	for l := LayerZone; l <= LayerRequest; l++ {
		if l.String() == s {
			return l, true
		}
	}
	return 0, false
}

// Origin says where a layer comes from.
type Origin struct {
	Layer Layer
	// Object names what holds the layer: "built-in defaults", "zone us-east", "runner r1", "profile agent",
	// "binding r1/agent", "request".
	Object string
	// ID and Revision identify the object's state; a request has neither.
	ID       string
	Revision int32
	// By wrote that revision at At and gave Reason.
	By     string
	At     time.Time
	Reason string
}

// Input is one layer with its origin. A nil Layer says nothing.
type Input struct {
	Origin Origin
	Layer  *spec.Layer
}

// Value is one field of a result.
type Value struct {
	// Leaf is the statement of the layer that owns the field; its State is Set or Cleared. A key of an open object that a
	// null for the whole object cleared is Cleared by that layer. It is never nil, and it is shared: callers do not change it.
	*spec.Leaf
	// Origin points to the origin of the owning layer, in the inputs of the result.
	Origin *Origin
	// Shadowed is what lower layers said, newest first.
	Shadowed []Shadow
}

// Shadow is a statement that a higher layer overrode.
type Shadow struct {
	*spec.Leaf
	Origin *Origin
}

// builtIn is what holds where nothing is configured: no way out.
const builtIn = `{"network":{"egress":{"default":"none","modes":{"none":{"type":"none"}}}}}`

// BuiltIn returns the lowest layer of every binding. It declares one egress mode, "none", and makes it the default, so that
// a runner without any configuration is closed. Everything else is left unset.
func BuiltIn() Input {
	// A test reads the text; an error would leave a layer that says nothing.
	l, _ := spec.ParseLayer([]byte(builtIn))
	return Input{Origin: Origin{Layer: LayerZone, Object: "built-in defaults"}, Layer: l}
}

// Resolved is the result of a fold. It is immutable.
type Resolved struct {
	values []Value
	inputs []*Input
}

// Folded is a result that further layers can be laid over, typically layers 1 to 3 of a binding. It is immutable and meant
// to be kept.
type Folded struct {
	Resolved
}

// Fields returns every field that a layer set or cleared, in the order of the schema. The slice is shared: callers do not
// change it.
func (r *Resolved) Fields() []Value { return r.values }

// Inputs returns the layers that were folded, lowest first.
func (r *Resolved) Inputs() []Input {
	inputs := make([]Input, len(r.inputs))
	for i, in := range r.inputs {
		inputs[i] = *in
	}
	return inputs
}

// IndexOf returns which of the inputs an origin of the result belongs to, or -1 for an origin of something else.
func (r *Resolved) IndexOf(o *Origin) int {
	return slices.IndexFunc(r.inputs, func(in *Input) bool { return &in.Origin == o })
}

// Leaves returns the owning statements alone, sorted as in a layer.
func (r *Resolved) Leaves() []spec.Leaf {
	leaves := make([]spec.Leaf, len(r.values))
	for i := range r.values {
		leaves[i] = *r.values[i].Leaf
	}
	return leaves
}

// Lookup returns the field at a path, in snake_case or camelCase. ok is false when no layer says
// anything about it; the value is then Absent.
func (r *Resolved) Lookup(path string) (v Value, ok bool) {
	f, key, ok := spec.ByPath(path)
	if !ok {
		return Value{Leaf: &spec.Leaf{}}, false
	}
	return r.At(f, key)
}

// At is Lookup by field and key.
func (r *Resolved) At(f *spec.Field, key string) (v Value, ok bool) {
	want := &spec.Leaf{Field: f, Key: key}
	lo, hi := 0, len(r.values)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch at := r.values[mid].Leaf; {
		case same(at, want):
			return r.values[mid], true
		case before(at, want):
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return Value{Leaf: want}, false
}

// Message returns the resolved spec as a message of its own.
func (r *Resolved) Message() *specpb.ProfileSpec { return spec.MessageOf(r.Leaves()) }

// JSON returns the resolved spec as canonical text; a cleared field is null.
func (r *Resolved) JSON() []byte { return spec.JSONOf(r.Leaves()) }

// Digest identifies the resolved spec: a hash of its canonical text.
func (r *Resolved) Digest() string { return spec.Digest(r.JSON()) }
