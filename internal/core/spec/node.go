package spec

import "github.com/bermhq/berm/internal/core/tree"

// Node returns the layer as people write it in YAML: keys in the order of the schema, in snake_case, and in camelCase
// inside those messages that the wire carries as JSON text. DecodeLayer of it gives the same layer.
func (l *Layer) Node() *tree.Node { return l.reg().node(l.reg().root, l.Leaves(), false) }

// node renders a group. camel says that names are in camelCase.
func (r *Registry) node(g *group, leaves []Leaf, camel bool) *tree.Node {
	n := &tree.Node{Kind: tree.Object}
	for _, m := range g.members {
		sub := m.within(leaves)
		if len(sub) == 0 {
			continue
		}
		k := tree.Key{Name: m.name}
		if camel {
			k.Name = m.jsonName
		}
		switch {
		case m.field != nil:
			k.Value = leafNode(sub)
		case m.group.allCleared(sub):
			k.Value = &tree.Node{Kind: tree.Null}
		default:
			k.Value = r.node(m.group, sub, camel || m.group.wireName != "")
		}
		n.Keys = append(n.Keys, k)
	}
	return n
}

func leafNode(leaves []Leaf) *tree.Node {
	w := writer{}
	w.leaf(leaves)
	// The text was made by this package; a tree that cannot be read back would be an empty document, never a wrong one.
	n, err := tree.ParseJSON(w.b)
	if err != nil {
		return &tree.Node{Kind: tree.Null}
	}
	return n
}
