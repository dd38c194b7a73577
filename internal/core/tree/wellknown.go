package tree

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// wellKnownForm says what is expected of a message type whose JSON form is not an object of its fields, "" for any other.
func wellKnownForm(name protoreflect.FullName) string {
	switch name {
	case "google.protobuf.Timestamp":
		return `a time such as "2026-05-14T12:00:00Z"`
	case "google.protobuf.Duration":
		return `a duration in seconds such as "1.5s"`
	case "google.protobuf.FieldMask":
		return "field paths separated by commas"
	case "google.protobuf.Struct":
		return "an object"
	case "google.protobuf.Value":
		return "a JSON value"
	case "google.protobuf.ListValue":
		return "a list"
	case "google.protobuf.BoolValue":
		return "true or false"
	case "google.protobuf.StringValue":
		return "a string"
	case "google.protobuf.BytesValue":
		return "base64 text"
	case "google.protobuf.Int32Value", "google.protobuf.Int64Value", "google.protobuf.UInt32Value",
		"google.protobuf.UInt64Value":
		return "an integer"
	case "google.protobuf.FloatValue", "google.protobuf.DoubleValue":
		return "a number"
	}
	return ""
}

// WellKnown reports whether a message type has a JSON form of its own.
func WellKnown(md protoreflect.MessageDescriptor) bool { return wellKnownForm(md.FullName()) != "" }

func isValue(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && fd.Message().FullName() == "google.protobuf.Value"
}

// wellKnown leaves the conversion to protojson, which knows these forms; it says where, we say what was expected.
func (d *decoder) wellKnown(n *Node, m protoreflect.Message, path string) {
	if bad := inexact(n); bad != nil {
		d.problems.Add(bad, path, "%s cannot be kept exactly: integers in open JSON go up to 2^53", clip(bad.Text))
		return
	}
	text := n.JSON()
	if m.Descriptor().FullName() == "google.protobuf.FieldMask" && n.Kind == String {
		text = AppendString(nil, camelMask(n.Text))
	}
	if err := protojson.Unmarshal(text, m.Interface()); err != nil {
		d.problems.Add(n, path, "%v", wanted(wellKnownForm(m.Descriptor().FullName()), n))
	}
}

// camelMask lets masks be written in snake_case too.
func camelMask(text string) string {
	paths := strings.Split(text, ",")
	for i, p := range paths {
		names := strings.Split(p, ".")
		for j, n := range names {
			names[j] = Camel(n)
		}
		paths[i] = strings.Join(names, ".")
	}
	return strings.Join(paths, ",")
}

// maxExact is the largest integer below which a 64-bit float holds every integer.
const maxExact = 1 << 53

// inexact returns the first number that open JSON, which holds 64-bit floats, would change.
func inexact(n *Node) *Node {
	if n.Kind == Number && !strings.ContainsAny(n.Text, ".eE") {
		i, err := strconv.ParseInt(n.Text, 10, 64)
		if err != nil || i > maxExact || i < -maxExact {
			return n
		}
	}
	for _, item := range n.Items {
		if bad := inexact(item); bad != nil {
			return bad
		}
	}
	for _, k := range n.Keys {
		if bad := inexact(k.Value); bad != nil {
			return bad
		}
	}
	return nil
}

// wellKnownNode is the reverse of wellKnown.
func wellKnownNode(m protoreflect.Message) (*Node, error) {
	text, err := protojson.Marshal(m.Interface())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Descriptor().FullName(), err)
	}
	return ParseJSON(text)
}
