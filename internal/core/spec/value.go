package spec

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/bermhq/berm/internal/core/tree"
)

func joinNames(names []string) string { return strings.Join(names, ", ") }

// value decodes one value: a field, or one key of an open object. What is not stored is checked, too.
func (d *layerDecoder) value(f *Field, key string, n *tree.Node, at string) (Leaf, bool) {
	if d.source != stored {
		return d.decodeValue(f, key, n, at)
	}
	id, ok := valueOf(f, key, n)
	if !ok {
		return d.decodeValue(f, key, n, at)
	}
	if v, ok := d.registry.known.Get(id); ok {
		return Leaf{Field: f, Key: key, State: Set, datum: v}, true
	}
	l, ok := d.decodeValue(f, key, n, at)
	if ok {
		d.registry.known.Add(id, l.datum)
	}
	return l, ok
}

func (d *layerDecoder) decodeValue(f *Field, key string, n *tree.Node, at string) (Leaf, bool) {
	n = d.registry.normal(f.fd, f.rules, n)
	root, parent := d.registry.holder(f)
	given := n
	if key != "" {
		given = &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: key, Value: n}}, Line: n.Line, Col: n.Col}
	}
	before := d.problems.Len()
	tree.DecodeField(given, parent, f.fd, at, &d.problems)
	if d.source != stored && !f.Open {
		d.check(f.fd, f.rules, n, at)
	}
	if d.problems.Len() > before {
		return Leaf{}, false
	}
	v, err := newDatum(f, key, root, parent)
	if err != nil {
		d.problems.Add(n, at, "%v", err)
		return Leaf{}, false
	}
	l := Leaf{Field: f, Key: key, State: Set, datum: v}
	if f.Additive {
		l.datum.entries = d.registry.entries(f, parent)
	}
	return l, true
}

// newDatum puts the value of f that parent holds, and root around it, into all its forms.
func newDatum(f *Field, key string, root, parent protoreflect.Message) (*datum, error) {
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(root.Interface())
	if err != nil {
		return nil, err
	}
	n, err := tree.FieldNode(f.fd, parent.Get(f.fd))
	if err != nil {
		return nil, err
	}
	if key != "" {
		n = n.Get(key)
	}
	v := &datum{any: plain(f, key, n), json: string(n.JSON()), wire: string(wire)}
	if n.Kind == tree.String {
		if amount, err := parseQuantity(f.Format, n.Text); err == nil {
			v.amount, v.quantity = amount, true
		}
	}
	return v, nil
}

// plain is Node.Any with lists and maps of strings typed.
func plain(f *Field, key string, n *tree.Node) any {
	switch {
	case key != "":
	case f.Kind == KindList && f.fd.Kind() == protoreflect.StringKind:
		list := make([]string, len(n.Items))
		for i, item := range n.Items {
			list[i] = item.Text
		}
		return list
	case f.Kind == KindMap && f.fd.MapValue().Kind() == protoreflect.StringKind:
		m := make(map[string]string, len(n.Keys))
		for _, k := range n.Keys {
			m[k.Name] = k.Value.Text
		}
		return m
	}
	return n.Any()
}

// entries returns the entries of a map as leaves with keys of their own.
func (r *Registry) entries(f *Field, parent protoreflect.Message) []Leaf {
	if f.Kind != KindMap {
		return nil
	}
	var leaves []Leaf
	parent.Get(f.fd).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		root, single := r.holder(f)
		single.Mutable(f.fd).Map().Set(k, v)
		wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(root.Interface())
		n, err2 := tree.SingleNode(f.fd.MapValue(), v)
		if err == nil && err2 == nil {
			value := &datum{any: n.Any(), json: string(n.JSON()), wire: string(wire)}
			leaves = append(leaves, Leaf{Field: f, Key: k.String(), State: Set, datum: value})
		}
		return true
	})
	slices.SortFunc(leaves, Leaf.Compare)
	return leaves
}
