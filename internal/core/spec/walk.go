package spec

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

type layerDecoder struct {
	registry *Registry
	source   source
	problems tree.Problems
	leaves   []Leaf
	// nodes are where fields with rules about a sibling stood.
	nodes map[*Field]*tree.Node
}

func (d *layerDecoder) group(g *group, n *tree.Node, at string) {
	if n == nil || n.Kind != tree.Object {
		d.problems.Add(n, at, "expected an object, got %s", kindName(n))
		return
	}
	given := map[*member]string{}
	var direct []tree.Key
	for _, k := range n.Keys {
		m := g.byName[k.Name]
		if m == nil || isEntryOf(g, m, k) {
			if g.inline != nil && k.Value.Kind == tree.Object {
				direct = append(direct, k)
				continue
			}
			d.problems.Unknown(k, tree.Join(at, k.Name), g.names(), d.registry.hint(g, k.Name))
			continue
		}
		if old, twice := given[m]; twice {
			d.problems.Add(k.Value, tree.Join(at, m.name), "given twice, as %q and as %q", old, k.Name)
			continue
		}
		given[m] = k.Name
		d.member(m, k, tree.Join(at, m.name))
	}
	d.inline(g, given, direct, at)
}

func kindName(n *tree.Node) string {
	if n == nil {
		return "nothing"
	}
	return n.Kind.String()
}

// isEntryOf reports whether k, though it has the name of a scalar member, is an entry of the map whose entries may stand
// directly in the message: an object can be no scalar.
func isEntryOf(g *group, m *member, k tree.Key) bool {
	return g.inline != nil && m.field != nil && m.field != g.inline && m.field.fd.Message() == nil &&
		!m.field.fd.IsList() && k.Value.Kind == tree.Object
}

// inline reads entries of a map that stand directly in the message as if they stood in the map.
func (d *layerDecoder) inline(g *group, given map[*member]string, direct []tree.Key, at string) {
	if len(direct) == 0 {
		return
	}
	for m, name := range given {
		if m.field == g.inline {
			d.problems.Add(direct[0].Value, tree.Join(at, direct[0].Name), "give entries either in %q or directly, not both", name)
			return
		}
	}
	first := direct[0]
	entries := &tree.Node{Kind: tree.Object, Keys: direct, Line: first.Line, Col: first.Col}
	d.leaf(g.inline, entries, tree.Join(at, g.inline.Name))
}

func (d *layerDecoder) member(m *member, k tree.Key, at string) {
	if m.field != nil {
		d.leaf(m.field, k.Value, at)
		return
	}
	n := k.Value
	wire := m.group.wireName != "" && (k.Name == m.group.wireName || k.Name == snake(m.group.wireName))
	if wire && n.Kind != tree.Null {
		if n = d.nested(n, at); n == nil {
			return
		}
	}
	if n.Kind == tree.Null {
		d.clear(m.group, n, at)
		return
	}
	d.group(m.group, n, at)
}

// nested reads the JSON text that the wire carries in a string. Empty text is absent, as protobuf has it.
func (d *layerDecoder) nested(n *tree.Node, at string) *tree.Node {
	if n.Kind != tree.String {
		d.problems.Add(n, at, "expected JSON text in a string, got %s", n.Kind)
		return nil
	}
	if n.Text == "" {
		return nil
	}
	inner, err := tree.ParseJSON([]byte(n.Text))
	if err != nil {
		var f *fault.Error
		if errors.As(err, &f) {
			d.problems.AddReason(f.Reason, n, at, "%s", f.Error())
		}
		return nil
	}
	inner.Place(n.Line, n.Col)
	if depth := inner.Depth(); depth > MaxLayerDepth {
		d.problems.AddReason(fault.ReasonLimitExceeded, n, at, "nests %d deep, the limit is %d", depth, MaxLayerDepth)
		return nil
	}
	return inner
}

// clear notes a null for every leaf of a message that people write.
func (d *layerDecoder) clear(g *group, n *tree.Node, at string) {
	if g.guardrail {
		d.refuseNull(n, at)
		return
	}
	for _, f := range d.registry.fields[g.lo:g.hi] {
		switch {
		case f.Derived:
		case f.Guardrail:
			d.refuseNull(n, at)
			return
		default:
			d.leaves = append(d.leaves, Leaf{Field: f, State: Cleared})
		}
	}
}

func (d *layerDecoder) refuseNull(n *tree.Node, at string) {
	d.problems.Add(n, at, "a guardrail cannot be cleared: every layer's bounds hold; change the layer that sets it")
}

func (d *layerDecoder) leaf(f *Field, n *tree.Node, at string) {
	if f.Derived && d.source == authored {
		d.problems.Refuse(n, at, "computed when a sandbox is launched; leave it out")
		return
	}
	if n.Kind == tree.Null {
		if f.Guardrail {
			d.refuseNull(n, at)
			return
		}
		d.leaves = append(d.leaves, Leaf{Field: f, State: Cleared})
		return
	}
	if f.Open {
		d.open(f, n, at)
		return
	}
	if f.atMost != nil && d.source != stored {
		d.nodes[f] = n
	}
	if l, ok := d.value(f, "", n, at); ok {
		d.leaves = append(d.leaves, l)
	}
}

// open reads an open object: a leaf for each of its keys, or one that says that it is there and empty.
func (d *layerDecoder) open(f *Field, n *tree.Node, at string) {
	if n.Kind != tree.Object {
		d.problems.Add(n, at, "expected an object, got %s", n.Kind)
		return
	}
	if len(n.Keys) == 0 {
		if l, ok := d.value(f, "", n, at); ok {
			d.leaves = append(d.leaves, l)
		}
		return
	}
	if d.source != stored {
		d.openLimits(f, n, at)
	}
	for _, k := range n.Keys {
		path := tree.Join(at, k.Name)
		if k.Name == "" {
			d.problems.Add(k.Value, at, "a key is empty")
			continue
		}
		if k.Value.Kind == tree.Null {
			d.leaves = append(d.leaves, Leaf{Field: f, Key: k.Name, State: Cleared})
			continue
		}
		if l, ok := d.value(f, k.Name, k.Value, path); ok {
			d.leaves = append(d.leaves, l)
		}
	}
}

func (g *group) names() []string {
	names := make([]string, 0, len(g.members))
	for _, m := range g.members {
		if m.field == nil || !m.field.Derived {
			names = append(names, m.name)
		}
	}
	return names
}

// hint says where a key that is unknown in g belongs: under its full path when one field has the name, or one that lies less deep than all
// others with it, or in the open object of the message. It is empty when there is nothing better than a spelling suggestion.
func (r *Registry) hint(g *group, name string) string {
	name = snakePath(name)
	var there *Field
	same := false // another one lies as deep
	for _, f := range r.fields {
		if f.Name != name || f.Derived {
			continue
		}
		deep := strings.Count(f.Path, ".")
		switch {
		case there == nil || deep < strings.Count(there.Path, "."):
			there, same = f, false
		case deep == strings.Count(there.Path, "."):
			same = true
		}
	}
	if there != nil && !same {
		return fmt.Sprintf("did you mean %q?", there.Path)
	}
	for _, m := range g.members {
		if m.field != nil && m.field.Open && tree.Suggest(name, g.names()) == "" {
			return "known are " + joinNames(g.names()) + "; other keys belong under " + m.field.Path
		}
	}
	return ""
}
