package spec

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// State says what a layer does with a field.
type State uint8

// The states.
const (
	// Absent: the layer says nothing, what is below shows through.
	Absent State = iota
	// Cleared: nothing from below shows through and there is no value.
	Cleared
	// Set: there is a value, which may be an empty list, map or string.
	Set
)

// String returns "absent", "cleared" or "set".
func (s State) String() string {
	switch s {
	case Cleared:
		return "cleared"
	case Set:
		return "set"
	case Absent:
	}
	return "absent"
}

// Leaf is one statement of a layer: a field, or a key of an open object, with what becomes of it. For an open object the
// leaf with Key "" is about the object as a whole: Cleared clears all its keys, Set means that it is there and empty.
type Leaf struct {
	Field *Field
	Key   string
	State State
	datum *datum
}

// datum is a decoded value in all the forms that are asked for. It is shared between layers and never changes.
type datum struct {
	any  any
	json string
	// wire is the protobuf encoding of a root message that has only this value: concatenated encodings merge.
	wire string
	// amount is the value of a quantity in thousandths of a CPU or in bytes.
	amount   int64
	quantity bool
	// entries are the entries of an additive map as leaves of their own.
	entries []Leaf
}

// Path returns the path of the leaf in snake_case.
func (l Leaf) Path() string {
	if l.Field == nil {
		return ""
	}
	return l.Field.PathOf(l.Key)
}

// Any returns the value as plain Go: bool, int64, float64, string, []string, map[string]string, and for anything else
// []any and map[string]any; nil unless Set. It is shared: callers do not change it.
func (l Leaf) Any() any {
	if l.datum == nil {
		return nil
	}
	return l.datum.any
}

// JSON returns the canonical text of the value: "null" when Cleared, nothing when Absent.
func (l Leaf) JSON() []byte { return []byte(l.text()) }

func (l Leaf) text() string {
	switch {
	case l.State == Absent:
		return ""
	case l.datum == nil:
		return "null"
	}
	return l.datum.json
}

// String returns the value for people: strings bare, anything else as JSON.
func (l Leaf) String() string {
	if s, ok := l.Any().(string); ok && s != "" {
		return s
	}
	return l.text()
}

// Amount returns the value of a quantity, in thousandths of a CPU or in bytes, or that of an integer. ok is false for
// anything else, and unless Set.
func (l Leaf) Amount() (amount int64, ok bool) {
	if l.datum == nil {
		return 0, false
	}
	if l.datum.quantity {
		return l.datum.amount, true
	}
	amount, ok = l.datum.any.(int64)
	return amount, ok
}

// Entries returns the entries of an additive map as leaves with the entry's key, sorted; nil for anything else. They are
// shared: callers do not change them.
func (l Leaf) Entries() []Leaf {
	if l.datum == nil {
		return nil
	}
	return l.datum.entries
}

// Equal reports whether two leaves say the same about the same field, quantities by their text.
func (l Leaf) Equal(o Leaf) bool {
	return l.Field == o.Field && l.Key == o.Key && l.State == o.State && l.text() == o.text()
}

// Compare orders leaves by field, then by key.
func (l Leaf) Compare(o Leaf) int {
	if c := cmp.Compare(l.Field.index, o.Field.index); c != 0 {
		return c
	}
	return strings.Compare(l.Key, o.Key)
}

// Layer is a part of a spec. It is immutable; nil is the empty layer.
type Layer struct {
	registry *Registry
	leaves   []Leaf
}

// Leaves returns what the layer says, sorted. The slice is shared: callers do not change it.
func (l *Layer) Leaves() []Leaf {
	if l == nil {
		return nil
	}
	return l.leaves
}

// IsEmpty reports whether the layer says nothing.
func (l *Layer) IsEmpty() bool { return l == nil || len(l.leaves) == 0 }

// Get returns what the layer says about a path. ok is false when that is nothing.
func (l *Layer) Get(path string) (leaf Leaf, ok bool) {
	f, key, ok := l.reg().ByPath(path)
	if !ok {
		return Leaf{}, false
	}
	return l.At(f, key)
}

// At returns what the layer says about a field, or about a key of an open object.
func (l *Layer) At(f *Field, key string) (leaf Leaf, ok bool) {
	at, ok := slices.BinarySearchFunc(l.Leaves(), Leaf{Field: f, Key: key}, Leaf.Compare)
	if !ok {
		return Leaf{Field: f, Key: key}, false
	}
	return l.leaves[at], true
}

func (l *Layer) reg() *Registry {
	if l == nil || l.registry == nil {
		return profile()
	}
	return l.registry
}

// Message returns the set values as a message. What is cleared or empty is not there, since protobuf has no form for it.
func (l *Layer) Message() *specpb.ProfileSpec { return MessageOf(l.Leaves()) }

// JSON returns the canonical text, nulls included, with namespace, network and pod as objects.
func (l *Layer) JSON() []byte { return l.reg().JSON(l.Leaves()) }

// WireJSON returns the canonical text in the form of the v1beta2 interface, where some messages are JSON texts in strings.
func (l *Layer) WireJSON() []byte { return l.reg().wireJSON(l.Leaves()) }

// Digest identifies the canonical text.
func (l *Layer) Digest() string { return Digest(l.JSON()) }

// String returns the canonical text.
func (l *Layer) String() string { return string(l.JSON()) }

// Digest returns "sha256:" and the hash of text in hex.
func Digest(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// MessageOf returns the set values among leaves, sorted as in a layer, as a message of their own.
func MessageOf(leaves []Leaf) *specpb.ProfileSpec {
	m := &specpb.ProfileSpec{}
	// The encodings were made by Marshal, so that reading them back cannot fail.
	_ = Merge(leaves, m)
	return m
}

// Merge writes the set values among leaves into m, which must be of the type that their registry was made for.
func Merge(leaves []Leaf, m proto.Message) error {
	size := 0
	for _, l := range leaves {
		if l.datum != nil {
			size += len(l.datum.wire)
		}
	}
	wire := make([]byte, 0, size)
	for _, l := range leaves {
		if l.datum != nil {
			wire = append(wire, l.datum.wire...)
		}
	}
	return proto.UnmarshalOptions{Merge: true}.Unmarshal(wire, m)
}

// holder returns a fresh root message and the message in it that holds f.
func (r *Registry) holder(f *Field) (root, parent protoreflect.Message) {
	root = r.mt.New()
	parent = root
	for _, fd := range f.chain {
		parent = parent.Mutable(fd).Message()
	}
	return root, parent
}
