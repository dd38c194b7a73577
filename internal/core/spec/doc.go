// Package spec says what a sandbox spec is: its fields, layers of it, and the text forms of a layer.
//
// Fields are described once, as options in proto/berm/spec. A Registry reads them from a message descriptor; nothing here
// knows the name of any field, so a field that is added to the schema is decoded, merged, masked, compared, rendered and
// documented without a change to this package.
//
// A Layer is a part of a spec in which every field is absent, cleared (JSON null), or set, be it to an empty list or map.
// Protobuf messages cannot carry these differences, so layers are made from text or from tree nodes, and text → Layer →
// text keeps them. A layer is a sorted list of leaves. One leaf is one value: a scalar, a list, a map, a message marked
// atomic, or one top-level key of an open object. A null for a message stands for a null of each leaf below it.
//
// Canonical text is JSON with sorted camelCase keys, nulls included. Quantities keep the text that their author wrote:
// what was asked for is echoed, and "1" and "1000m" are different texts of one amount. Change.SameAmount tells.
package spec

import "slices"

// Limits of a layer. The limits of a field, where it has its own, are options of the field.
const (
	// MaxLayer is the largest canonical text of one layer, in bytes.
	MaxLayer = 256 << 10
	// MaxLayerDepth is how deep a layer may nest, so that it can be embedded in other documents (tree.MaxDepth).
	MaxLayerDepth = 40
	// MaxText is the largest string, in bytes.
	MaxText = 1024
	// MaxItems is the largest number of list elements or map entries.
	MaxItems = 128
	// MaxKey is the longest key of a map or of an open object, in bytes.
	MaxKey = 317
	// MaxInt is the largest integer.
	MaxInt = 1 << 53
	// MaxQuantityText is the longest quantity, in bytes.
	MaxQuantityText = 32
	// MaxCPUMillis is the largest CPU quantity: 10,000 CPUs, in thousandths.
	MaxCPUMillis = 10_000_000
	// MaxMemoryBytes is the largest memory quantity: 1 PiB.
	MaxMemoryBytes = 1 << 50
	// MaxName is the longest name of a profile, a binding, a runner or a zone, in bytes.
	MaxName = 63
	// maxSchemaDepth is how deep messages are followed; a deeper one, such as one that holds itself, is one value.
	maxSchemaDepth = 16
)

// Fields returns all fields of the profile spec in the order of the schema. An open object is one field.
func Fields() []*Field { return slices.Clone(profile().fields) }

// ByPath finds a field of the profile spec, see Registry.ByPath.
func ByPath(path string) (f *Field, key string, ok bool) { return profile().ByPath(path) }

// ParseLayer reads a fragment of the profile spec, see Registry.ParseLayer.
func ParseLayer(text []byte) (*Layer, error) { return profile().ParseLayer(text) }
