package spec

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// normal returns n with every accepted spelling replaced by the one that is kept: numbers given for quantities become
// text, old names of values the new ones, field paths snake_case. n itself never changes.
func (r *Registry) normal(fd protoreflect.FieldDescriptor, rules *specpb.FieldRules, n *tree.Node) *tree.Node {
	switch {
	case fd.IsMap() && n.Kind == tree.Object:
		return mapKeys(n, func(k tree.Key) *tree.Node { return r.normalSingle(fd.MapValue(), rules, k.Value) })
	case fd.IsList() && n.Kind == tree.List:
		var items []*tree.Node
		for i, item := range n.Items {
			to := r.normalSingle(fd, rules, item)
			if to != item && items == nil {
				items = append(make([]*tree.Node, 0, len(n.Items)), n.Items...)
			}
			if items != nil {
				items[i] = to
			}
		}
		if items == nil {
			return n
		}
		c := *n
		c.Items = items
		return &c
	case fd.IsMap() || fd.IsList():
		return n
	}
	return r.normalSingle(fd, rules, n)
}

func (r *Registry) normalSingle(fd protoreflect.FieldDescriptor, rules *specpb.FieldRules, n *tree.Node) *tree.Node {
	if md := fd.Message(); md != nil {
		if tree.WellKnown(md) || n.Kind != tree.Object {
			return n
		}
		return mapKeys(n, func(k tree.Key) *tree.Node {
			sub := tree.FindField(md, k.Name)
			if sub == nil {
				return k.Value
			}
			return r.normal(sub, rulesOf(sub), k.Value)
		})
	}
	text := n.Text
	switch {
	case n.Kind == tree.Number && isQuantity(rules.GetFormat()):
	case n.Kind != tree.String:
		return n
	case rules.GetFormat() == specpb.Format_FORMAT_FIELD_PATH:
		if path, ok := r.CanonicalPath(text); ok {
			text = path
		}
	default:
		for _, a := range rules.GetAliases() {
			if a.GetOld() == text {
				text = a.GetValue()
				break
			}
		}
	}
	if n.Kind == tree.String && text == n.Text {
		return n
	}
	c := *n
	c.Kind, c.Text = tree.String, text
	return &c
}

// mapKeys returns n with its values replaced, or n itself when none is.
func mapKeys(n *tree.Node, to func(tree.Key) *tree.Node) *tree.Node {
	var keys []tree.Key
	for i, k := range n.Keys {
		v := to(k)
		if v != k.Value && keys == nil {
			keys = append(make([]tree.Key, 0, len(n.Keys)), n.Keys...)
		}
		if keys != nil {
			keys[i].Value = v
		}
	}
	if keys == nil {
		return n
	}
	c := *n
	c.Keys = keys
	return &c
}
