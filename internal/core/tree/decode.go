package tree

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/bermhq/berm/internal/core/fault"
)

// Decode writes an object into m. Names may be in snake_case or camelCase. A null of a field is noted in the result and
// leaves the field unset. All that is wrong comes in one Invalid fault, reason FIELD_UNKNOWN or FIELD_INVALID; m is then
// partly filled.
func Decode(n *Node, m proto.Message) (*Presence, error) {
	p := &Problems{}
	d := &decoder{problems: p, presence: &Presence{}}
	d.message(n, m.ProtoReflect(), "")
	return d.presence, p.Err("invalid request body")
}

// DecodeField writes n into one field of m and reports whether all of it was right. The field is a value as a whole:
// null inside it is refused, except in open JSON.
func DecodeField(n *Node, m protoreflect.Message, fd protoreflect.FieldDescriptor, path string, p *Problems) bool {
	before := p.Len()
	d := &decoder{problems: p}
	d.field(n, m, fd, path)
	return p.Len() == before
}

type decoder struct {
	problems *Problems
	// presence is nil inside a value.
	presence *Presence
}

// FieldNames returns the names of a message's fields in snake_case, in descriptor order.
func FieldNames(md protoreflect.MessageDescriptor) []string {
	fields := md.Fields()
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = string(fields.Get(i).Name())
	}
	return names
}

// FindField returns the field with this snake_case or camelCase name, or nil.
func FindField(md protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := md.Fields().ByName(protoreflect.Name(name)); fd != nil {
		return fd
	}
	return md.Fields().ByJSONName(name)
}

func (d *decoder) message(n *Node, m protoreflect.Message, path string) {
	if n == nil || n.Kind != Object {
		d.problems.Add(n, path, "expected an object, got %s", kindOf(n))
		return
	}
	md := m.Descriptor()
	seen := make(map[protoreflect.FieldNumber]string, len(n.Keys))
	for _, k := range n.Keys {
		fd := FindField(md, k.Name)
		if fd == nil {
			d.problems.Unknown(k, Join(path, k.Name), FieldNames(md), "")
			continue
		}
		at := Join(path, string(fd.Name()))
		if old, dup := seen[fd.Number()]; dup {
			d.problems.Add(k.Value, at, "given twice, as %q and as %q", old, k.Name)
			continue
		}
		seen[fd.Number()] = k.Name
		if od := fd.ContainingOneof(); od != nil && !od.IsSynthetic() && k.Value.Kind != Null {
			if other := m.WhichOneof(od); other != nil {
				d.problems.Add(k.Value, at, "give either this or %s, not both", other.Name())
				continue
			}
		}
		d.field(k.Value, m, fd, at)
	}
}

func (d *decoder) field(n *Node, m protoreflect.Message, fd protoreflect.FieldDescriptor, path string) {
	null := n.Kind == Null && !isValue(fd)
	if d.presence != nil {
		d.presence.note(path, null)
		if null {
			return
		}
	}
	if null {
		d.problems.Add(n, path, "null is not allowed inside a value; leave it out")
		return
	}
	switch {
	case fd.IsMap():
		d.mapping(n, m, fd, path)
	case fd.IsList():
		d.list(n, m, fd, path)
	default:
		if v, ok := d.single(n, fd, m.NewField, path); ok {
			m.Set(fd, v)
		}
	}
}

func (d *decoder) list(n *Node, m protoreflect.Message, fd protoreflect.FieldDescriptor, path string) {
	if n.Kind != List {
		d.problems.Add(n, path, "expected a list, got %s", n.Kind)
		return
	}
	list := m.Mutable(fd).List()
	inside := d.inside()
	for i, item := range n.Items {
		at := index(path, i)
		if item.Kind == Null && !isValue(fd) {
			d.problems.Add(item, at, "null is not allowed in a list; leave it out")
			continue
		}
		newElement := func(protoreflect.FieldDescriptor) protoreflect.Value { return list.NewElement() }
		if v, ok := inside.single(item, fd, newElement, at); ok {
			list.Append(v)
		}
	}
}

func (d *decoder) mapping(n *Node, m protoreflect.Message, fd protoreflect.FieldDescriptor, path string) {
	if n.Kind != Object {
		d.problems.Add(n, path, "expected an object, got %s", n.Kind)
		return
	}
	entries := m.Mutable(fd).Map()
	inside := d.inside()
	for _, k := range n.Keys {
		at := entry(path, k.Name)
		if k.Value.Kind == Null && !isValue(fd.MapValue()) {
			d.problems.Add(k.Value, at, "null is not allowed in a map: a map is one value, write out all of it")
			continue
		}
		key, ok := d.mapKey(k, fd.MapKey(), at)
		if !ok {
			continue
		}
		newValue := func(protoreflect.FieldDescriptor) protoreflect.Value { return entries.NewValue() }
		if v, ok := inside.single(k.Value, fd.MapValue(), newValue, at); ok {
			entries.Set(key, v)
		}
	}
}

// inside returns the decoder for what a list or a map holds.
func (d *decoder) inside() *decoder { return &decoder{problems: d.problems} }

func (d *decoder) mapKey(k Key, fd protoreflect.FieldDescriptor, path string) (protoreflect.MapKey, bool) {
	if fd.Kind() == protoreflect.StringKind {
		return protoreflect.ValueOfString(k.Name).MapKey(), true
	}
	kind := Number
	if fd.Kind() == protoreflect.BoolKind {
		kind = Bool
	}
	v, ok := d.scalar(&Node{Kind: kind, Text: k.Name, Line: k.Line, Col: k.Col}, fd, path)
	if !ok {
		return protoreflect.MapKey{}, false
	}
	return v.MapKey(), true
}

// single decodes one value that is neither list nor map.
func (d *decoder) single(
	n *Node, fd protoreflect.FieldDescriptor, fresh func(protoreflect.FieldDescriptor) protoreflect.Value, path string,
) (protoreflect.Value, bool) {
	if fd.Message() == nil {
		return d.scalar(n, fd, path)
	}
	before := d.problems.Len()
	v := fresh(fd)
	if WellKnown(fd.Message()) {
		d.wellKnown(n, v.Message(), path)
	} else {
		d.message(n, v.Message(), path)
	}
	return v, d.problems.Len() == before
}

func kindOf(n *Node) string {
	if n == nil {
		return "nothing"
	}
	return n.Kind.String()
}

// Refuse notes an output-only or derived field that was given.
func (p *Problems) Refuse(n *Node, path, format string, args ...any) {
	p.AddReason(fault.ReasonFieldOutputOnly, n, path, format, args...)
}
