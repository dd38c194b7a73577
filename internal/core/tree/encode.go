package tree

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// FromMessage returns the set fields of m as an object with camelCase names; 64-bit integers are numbers. It fails for a
// value that has no JSON form, such as a timestamp out of range or a string that is not UTF-8.
func FromMessage(m proto.Message) (*Node, error) { return messageNode(m.ProtoReflect()) }

func messageNode(m protoreflect.Message) (*Node, error) {
	if WellKnown(m.Descriptor()) {
		return wellKnownNode(m)
	}
	n := &Node{Kind: Object}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) {
			continue
		}
		v, err := FieldNode(fd, m.Get(fd))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fd.Name(), err)
		}
		n.Keys = append(n.Keys, Key{Name: fd.JSONName(), Value: v})
	}
	return n, nil
}

// FieldNode returns the value of a field, be it list, map or single.
func FieldNode(fd protoreflect.FieldDescriptor, v protoreflect.Value) (*Node, error) {
	switch {
	case fd.IsMap():
		return mapNode(fd, v.Map())
	case fd.IsList():
		n := &Node{Kind: List}
		for i := range v.List().Len() {
			item, err := SingleNode(fd, v.List().Get(i))
			if err != nil {
				return nil, err
			}
			n.Items = append(n.Items, item)
		}
		return n, nil
	}
	return SingleNode(fd, v)
}

func mapNode(fd protoreflect.FieldDescriptor, m protoreflect.Map) (*Node, error) {
	n := &Node{Kind: Object}
	var failed error
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		value, err := SingleNode(fd.MapValue(), v)
		if err != nil {
			failed = err
			return false
		}
		n.Keys = append(n.Keys, Key{Name: k.String(), Value: value})
		return true
	})
	slices.SortFunc(n.Keys, func(a, b Key) int { return compare(a.Name, b.Name) })
	return n, failed
}

// SingleNode returns one value of a field's kind: an element of a list, a value of a map, or a field that is neither.
func SingleNode(fd protoreflect.FieldDescriptor, v protoreflect.Value) (*Node, error) {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return messageNode(v.Message())
	case protoreflect.StringKind:
		return &Node{Kind: String, Text: v.String()}, nil
	case protoreflect.BytesKind:
		return &Node{Kind: String, Text: base64.StdEncoding.EncodeToString(v.Bytes())}, nil
	case protoreflect.BoolKind:
		return &Node{Kind: Bool, Text: strconv.FormatBool(v.Bool())}, nil
	case protoreflect.EnumKind:
		if ev := fd.Enum().Values().ByNumber(v.Enum()); ev != nil {
			return &Node{Kind: String, Text: string(ev.Name())}, nil
		}
		return &Node{Kind: Number, Text: strconv.Itoa(int(v.Enum()))}, nil
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return &Node{Kind: Number, Text: FormatFloat(v.Float())}, nil
	default:
		return &Node{Kind: Number, Text: fmt.Sprint(v.Interface())}, nil
	}
}
