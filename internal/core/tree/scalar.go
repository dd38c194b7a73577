package tree

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func entry(path, key string) string { return path + "[" + key + "]" }

// scalar decodes a value of a kind that is not a message.
func (d *decoder) scalar(n *Node, fd protoreflect.FieldDescriptor, path string) (protoreflect.Value, bool) {
	v, err := scalarOf(n, fd)
	if err != nil {
		d.problems.Add(n, path, "%v", err)
		return protoreflect.Value{}, false
	}
	return v, true
}

func scalarOf(n *Node, fd protoreflect.FieldDescriptor) (protoreflect.Value, error) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		if n.Kind != String {
			err := wanted("a string", n)
			if n.Kind == Number || n.Kind == Bool {
				err = fmt.Errorf("%w; write it in quotes", err)
			}
			return protoreflect.Value{}, err
		}
		return protoreflect.ValueOfString(n.Text), nil
	case protoreflect.BoolKind:
		if n.Kind != Bool {
			return protoreflect.Value{}, wanted("true or false", n)
		}
		return protoreflect.ValueOfBool(n.Text == "true"), nil
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		i, err := integer(n, 32)
		return protoreflect.ValueOfInt32(int32(i)), err
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		i, err := integer(n, 64)
		return protoreflect.ValueOfInt64(i), err
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		i, err := natural(n, 32)
		return protoreflect.ValueOfUint32(uint32(i)), err
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		i, err := natural(n, 64)
		return protoreflect.ValueOfUint64(i), err
	case protoreflect.FloatKind:
		f, err := float(n, 32)
		return protoreflect.ValueOfFloat32(float32(f)), err
	case protoreflect.DoubleKind:
		f, err := float(n, 64)
		return protoreflect.ValueOfFloat64(f), err
	case protoreflect.EnumKind:
		return enum(n, fd.Enum())
	case protoreflect.BytesKind:
		return binary(n)
	case protoreflect.MessageKind, protoreflect.GroupKind:
	}
	return protoreflect.Value{}, fmt.Errorf("fields of kind %s cannot be given here", fd.Kind())
}

func wanted(what string, n *Node) error {
	switch n.Kind {
	case Bool, Number:
		return fmt.Errorf("expected %s, got %s (%s)", what, n.Kind, clip(n.Text))
	case String:
		return fmt.Errorf("expected %s, got %s (%q)", what, n.Kind, clip(n.Text))
	case Null, List, Object:
	}
	return fmt.Errorf("expected %s, got %s", what, n.Kind)
}

// integer accepts a number or, as protobuf's JSON mapping writes 64-bit integers, a string of digits.
func integer(n *Node, bits int) (int64, error) {
	if n.Kind != Number && n.Kind != String {
		return 0, wanted("an integer", n)
	}
	i, err := strconv.ParseInt(plainInteger(n), 10, bits)
	if err != nil {
		return 0, notInteger(n, err, fmt.Sprintf("a %d-bit integer", bits))
	}
	return i, nil
}

func natural(n *Node, bits int) (uint64, error) {
	if n.Kind != Number && n.Kind != String {
		return 0, wanted("an integer that is not negative", n)
	}
	i, err := strconv.ParseUint(plainInteger(n), 10, bits)
	if err != nil {
		return 0, notInteger(n, err, fmt.Sprintf("a %d-bit integer that is not negative", bits))
	}
	return i, nil
}

func notInteger(n *Node, err error, what string) error {
	if strings.Contains(err.Error(), strconv.ErrRange.Error()) {
		return fmt.Errorf("%s is out of the range of %s", clip(n.Text), what)
	}
	return wanted(what, n)
}

// plainInteger lets 1e3 and 2.0 pass as the integers that they are.
func plainInteger(n *Node) string {
	if n.Kind == Number && strings.ContainsAny(n.Text, ".eE") {
		return canonicalNumber(n.Text)
	}
	return n.Text
}

func float(n *Node, bits int) (float64, error) {
	if n.Kind != Number {
		return 0, wanted("a number", n)
	}
	f, err := strconv.ParseFloat(n.Text, bits)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, fmt.Errorf("%s is out of range", clip(n.Text))
	}
	return f, nil
}

// enum accepts a value's full name, its name without the enum's prefix, or its number.
func enum(n *Node, ed protoreflect.EnumDescriptor) (protoreflect.Value, error) {
	values := ed.Values()
	if n.Kind == Number {
		i, err := integer(n, 32)
		if err != nil || values.ByNumber(protoreflect.EnumNumber(i)) == nil {
			return protoreflect.Value{}, fmt.Errorf("%s is no value of %s", clip(n.Text), ed.Name())
		}
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(i)), nil
	}
	if n.Kind != String {
		return protoreflect.Value{}, wanted("one of "+strings.Join(enumNames(ed), ", "), n)
	}
	prefix := enumPrefix(ed)
	for i := range values.Len() {
		v := values.Get(i)
		if name := string(v.Name()); name == n.Text || strings.TrimPrefix(name, prefix) == n.Text {
			return protoreflect.ValueOfEnum(v.Number()), nil
		}
	}
	return protoreflect.Value{}, fmt.Errorf("%s", NoneOf(n.Text, enumNames(ed)))
}

// NoneOf says that a value is not in a closed set and which one may have been meant.
func NoneOf(value string, set []string) string {
	text := fmt.Sprintf("%q is none of %s", clip(value), strings.Join(set, ", "))
	if s := Suggest(value, set); s != "" {
		text += fmt.Sprintf("; did you mean %q?", s)
	}
	return text
}

// enumPrefix is the enum's name in capitals: SERVICE_TYPE_ for ServiceType.
func enumPrefix(ed protoreflect.EnumDescriptor) string {
	var b strings.Builder
	for i, r := range string(ed.Name()) {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String()) + "_"
}

func enumNames(ed protoreflect.EnumDescriptor) []string {
	names := make([]string, 0, ed.Values().Len())
	prefix := enumPrefix(ed)
	for i := range ed.Values().Len() {
		names = append(names, strings.TrimPrefix(string(ed.Values().Get(i).Name()), prefix))
	}
	return names
}

func binary(n *Node) (protoreflect.Value, error) {
	if n.Kind != String {
		return protoreflect.Value{}, wanted("base64 text", n)
	}
	text := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(n.Text, "="))
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return protoreflect.Value{}, fmt.Errorf("not base64: %w", err)
	}
	return protoreflect.ValueOfBytes(b), nil
}
