package spec

import (
	"slices"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// ParseLayer reads a layer as people write it, be it with messages as objects or, as on the wire, as JSON texts in
// strings. The error is an Invalid fault with every violation: unknown fields with a suggestion, wrong types, malformed
// values, limits, derived fields, nulls in guardrails.
func (r *Registry) ParseLayer(text []byte) (*Layer, error) {
	n, err := tree.ParseJSON(text)
	if err != nil {
		return nil, err
	}
	return r.DecodeLayer(n, "")
}

// DecodeLayer is ParseLayer of a tree. at is put before the paths in violations.
func (r *Registry) DecodeLayer(n *tree.Node, at string) (*Layer, error) {
	return r.decode(n, at, authored)
}

// ParseStored reads a layer that was checked when it was written, such as one in a revision or in a plan. Derived fields
// are allowed, and values are not checked again: what was accepted once stays readable when rules become stricter.
func (r *Registry) ParseStored(text []byte) (*Layer, error) {
	n, err := tree.ParseJSON(text)
	if err != nil {
		return nil, err
	}
	return r.decode(n, "", stored)
}

// FromMessage reads the set fields of a message; an empty list or map is absent. It checks as ParseLayer does but lets
// derived fields pass: the layer of a request is made this way.
func (r *Registry) FromMessage(m proto.Message) (*Layer, error) {
	n, err := tree.FromMessage(m)
	if err != nil {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid spec: %v", err)
	}
	return r.decode(n, "", computed)
}

// DecodeLayer reads a fragment of the profile spec from a tree, see Registry.DecodeLayer.
func DecodeLayer(n *tree.Node, at string) (*Layer, error) { return profile().DecodeLayer(n, at) }

// ParseStored reads a fragment of the profile spec that was checked before, see Registry.ParseStored.
func ParseStored(text []byte) (*Layer, error) { return profile().ParseStored(text) }

// FromMessage reads the set fields of a profile spec, see Registry.FromMessage. nil is the empty layer.
func FromMessage(m *specpb.ProfileSpec) (*Layer, error) { return profile().FromMessage(m) }

// source says where a layer comes from and so what is checked.
type source uint8

const (
	// authored: people wrote it.
	authored source = iota
	// computed: the program made it, so that derived fields may occur.
	computed
	// stored: computed or authored, and checked then.
	stored
)

// usualLeaves is how many leaves most layers have no more than.
const usualLeaves = 12

func newDecoder(r *Registry, from source) *layerDecoder {
	return &layerDecoder{registry: r, source: from, leaves: make([]Leaf, 0, usualLeaves), nodes: map[*Field]*tree.Node{}}
}

func (r *Registry) decode(n *tree.Node, at string, from source) (*Layer, error) {
	if depth := n.Depth(); depth > MaxLayerDepth {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "the spec nests %d deep, the limit is %d", depth, MaxLayerDepth)
	}
	d := newDecoder(r, from)
	d.group(r.root, n, at)
	slices.SortFunc(d.leaves, Leaf.Compare)
	l := &Layer{registry: r, leaves: d.leaves}
	if from != stored && d.problems.Len() == 0 {
		d.siblings(l, at)
		if size := len(l.JSON()); size > MaxLayer {
			d.problems.AddReason(fault.ReasonLimitExceeded, n, at, "the spec has %d bytes as JSON, the limit is %d", size, MaxLayer)
		}
	}
	if err := d.problems.Err("invalid spec"); err != nil {
		return nil, err
	}
	return l, nil
}
