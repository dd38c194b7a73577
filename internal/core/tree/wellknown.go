package tree

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// wellKnownForms names, for each message type whose JSON form is not an object of its fields, what is expected.
var wellKnownForms = map[protoreflect.FullName]string{
	"google.protobuf.Timestamp":   "a time such as \"2026-05-14T12:00:00Z\"",
	"google.protobuf.Duration":    "a duration in seconds such as \"1.5s\"",
	"google.protobuf.FieldMask":   "field paths separated by commas",
	"google.protobuf.Struct":      "an object",
	"google.protobuf.Value":       "a JSON value",
	"google.protobuf.ListValue":   "a list",
	"google.protobuf.BoolValue":   "true or false",
	"google.protobuf.StringValue": "a string",
	"google.protobuf.BytesValue":  "base64 text",
	"google.protobuf.Int32Value":  "an integer",
	"google.protobuf.Int64Value":  "an integer",
	"google.protobuf.UInt32Value": "an integer",
	"google.protobuf.UInt64Value": "an integer",
	"google.protobuf.FloatValue":  "a number",
	"google.protobuf.DoubleValue": "a number",
}

// WellKnown reports whether a message type has a JSON form of its own.
func WellKnown(md protoreflect.MessageDescriptor) bool { return wellKnownForms[md.FullName()] != "" }

func isValue(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && fd.Message().FullName() == "google.protobuf.Value"
}

// wellKnown leaves the conversion to protojson, which knows these forms; it says where, we say what was expected.
func (d *decoder) wellKnown(n *Node, m protoreflect.Message, path string) {
	if bad := inexact(n); bad != nil {
		d.problems.Add(bad, path, "%s cannot be kept exactly; write it as a string", clip(bad.Text))
		return
	}
	text := n.JSON()
	if m.Descriptor().FullName() == "google.protobuf.FieldMask" && n.Kind == String {
		text = AppendString(nil, camelMask(n.Text))
	}
	if err := protojson.Unmarshal(text, m.Interface()); err != nil {
		d.problems.Add(n, path, "%v", wanted(wellKnownForms[m.Descriptor().FullName()], n))
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
