// Package spectest makes valid values of any field of a spec from its description, for tests that know no field names.
package spectest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// Choice returns a number from 0 to n-1. Values are made of choices, so that any source of them, a seed, a fuzzer's bytes
// or a property test, drives the same generator.
type Choice func(n int) int

// Nth is the choice that takes the i-th alternative everywhere.
func Nth(i int) Choice { return func(n int) int { return i % n } }

// Value returns a valid value of a field that is not open, and of one key of an open field otherwise.
func Value(f *spec.Field, c Choice) *tree.Node {
	if f.Open {
		return openValue(c)
	}
	return value(f.Descriptor(), f.Rules(), c)
}

// Empty returns the empty value of a field: an empty list, map, object or string. ok is false when it has none.
func Empty(f *spec.Field) (n *tree.Node, ok bool) {
	switch f.Kind {
	case spec.KindList:
		return &tree.Node{Kind: tree.List}, true
	case spec.KindMap, spec.KindOpen:
		return &tree.Node{Kind: tree.Object}, true
	case spec.KindString:
		free := f.Format == specpb.Format_FORMAT_UNSPECIFIED || f.Format == specpb.Format_FORMAT_MODE_NAME ||
			f.Format == specpb.Format_FORMAT_LABEL_VALUE || f.Format == specpb.Format_FORMAT_DNS_LABEL_PREFIX
		return text(""), free && len(f.Values) == 0
	default:
		return nil, false
	}
}

// Key returns a key of an open object.
func Key(c Choice) string { return []string{"nodeSelector", "tolerations", "hostPID", "x"}[c(4)] }

func text(s string) *tree.Node { return &tree.Node{Kind: tree.String, Text: s} }

func number(i int) *tree.Node { return &tree.Node{Kind: tree.Number, Text: strconv.Itoa(i)} }

func openValue(c Choice) *tree.Node {
	switch c(5) {
	case 0:
		return text("a" + strconv.Itoa(c(3)))
	case 1:
		return &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: "k", Value: text(strconv.Itoa(c(3)))}}}
	case 2:
		return &tree.Node{Kind: tree.List, Items: []*tree.Node{number(c(9)), {Kind: tree.Null}}}
	case 3:
		return &tree.Node{Kind: tree.Bool, Text: strconv.FormatBool(c(2) == 0)}
	default:
		return &tree.Node{Kind: tree.Object}
	}
}

func value(fd protoreflect.FieldDescriptor, rules *specpb.FieldRules, c Choice) *tree.Node {
	switch {
	case fd.IsList():
		n := &tree.Node{Kind: tree.List}
		for range 1 + c(2) {
			n.Items = append(n.Items, single(fd, rules, c))
		}
		return n
	case fd.IsMap():
		n := &tree.Node{Kind: tree.Object}
		for i := range 1 + c(2) {
			n.Keys = append(n.Keys, tree.Key{Name: key(fd.MapKey(), i+c(2)*2), Value: single(fd.MapValue(), rules, c)})
		}
		return n
	}
	return single(fd, rules, c)
}

func key(fd protoreflect.FieldDescriptor, i int) string {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return "key" + strconv.Itoa(i)
	case protoreflect.BoolKind:
		return strconv.FormatBool(i%2 == 0)
	default:
		return strconv.Itoa(i)
	}
}

// single returns one value. Inside a message a default value is no value, so that none is made.
func single(fd protoreflect.FieldDescriptor, rules *specpb.FieldRules, c Choice) *tree.Node {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return text(str(rules, c))
	case protoreflect.BoolKind:
		return &tree.Node{Kind: tree.Bool, Text: strconv.FormatBool(!fd.HasPresence() || c(2) == 0)}
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		return text(string(values.Get(values.Len() - 1 - c(values.Len()-1)).Name()))
	case protoreflect.BytesKind:
		return text([]string{"AAEC", "/w=="}[c(2)])
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return &tree.Node{Kind: tree.Number, Text: []string{"1.5", "-2", "0.25"}[c(3)]}
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return message(fd.Message(), c)
	default:
		return number(int(rules.GetMin()) + 1 + c(5))
	}
}

func str(rules *specpb.FieldRules, c Choice) string {
	if v := rules.GetValues(); len(v) > 0 {
		return v[c(len(v))]
	}
	// Values below another field's stay below all that the other can have.
	small := rules.GetAtMost() != ""
	switch rules.GetFormat() {
	case specpb.Format_FORMAT_CPU:
		if small {
			return []string{"0", "500m", "0.25"}[c(3)]
		}
		return []string{"1", "2", "2500m", "1000m"}[c(4)]
	case specpb.Format_FORMAT_MEMORY:
		if small {
			return []string{"0", "1Mi", "512Ki"}[c(3)]
		}
		return []string{"1Gi", "512Mi", "1G", "1024Mi"}[c(4)]
	case specpb.Format_FORMAT_IMAGE:
		return []string{"python:3.11", "host", "registry.example:5000/a/b@sha256:" + strings.Repeat("0f", 32)}[c(3)]
	case specpb.Format_FORMAT_IMAGE_PATTERN:
		return []string{"python:*", "registry.example/**"}[c(2)]
	case specpb.Format_FORMAT_CIDR:
		return []string{"198.51.100.0/24", "2001:db8::/32"}[c(2)]
	case specpb.Format_FORMAT_DNS_NAME:
		return []string{"pypi.example", "*.index.example"}[c(2)]
	case specpb.Format_FORMAT_HOST_TEMPLATE:
		return []string{"{{.SandboxID}}.example", "box-{{.SandboxID}}.a.example"}[c(2)]
	case specpb.Format_FORMAT_FIELD_PATH:
		fields := slices.DeleteFunc(spec.Fields(), func(f *spec.Field) bool { return f.Guardrail })
		return fields[c(len(fields))].Path
	default:
		return fmt.Sprintf("value%d", c(4))
	}
}

func message(md protoreflect.MessageDescriptor, c Choice) *tree.Node {
	switch md.FullName() {
	case "google.protobuf.Timestamp":
		return text(fmt.Sprintf("2026-05-%02dT12:00:00Z", 1+c(9)))
	case "google.protobuf.Duration":
		return text(fmt.Sprintf("%ds", c(9)))
	case "google.protobuf.Struct", "google.protobuf.Value":
		return &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: "k", Value: openValue(c)}}}
	}
	n := &tree.Node{Kind: tree.Object}
	fields := md.Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		rules := spec.RulesOf(fd)
		if w := rules.GetOnlyWhen(); w != nil {
			if v := n.Get(tree.Camel(w.GetField())); v == nil || !slices.Contains(w.GetValues(), v.Text) {
				continue
			}
		}
		if rules.GetRequired() || c(2) == 0 {
			n.Keys = append(n.Keys, tree.Key{Name: fd.JSONName(), Value: value(fd, rules, c)})
		}
	}
	return n
}
