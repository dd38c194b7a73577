package spectest

import (
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

// Document returns the tree with one statement in it.
func Document(f *spec.Field, n *tree.Node) *tree.Node {
	doc := &tree.Node{Kind: tree.Object}
	Put(doc, f.JSONPath, n)
	return doc
}

// Put writes n into doc at a path of names in camelCase.
func Put(doc *tree.Node, path string, n *tree.Node) {
	name, rest, deeper := strings.Cut(path, ".")
	at := slices.IndexFunc(doc.Keys, func(k tree.Key) bool { return k.Name == name })
	if at < 0 {
		at = len(doc.Keys)
		doc.Keys = append(doc.Keys, tree.Key{Name: name, Value: &tree.Node{Kind: tree.Object}})
	}
	if deeper {
		Put(doc.Keys[at].Value, rest, n)
		return
	}
	doc.Keys[at].Value = n
}

// Document of random statements: each field that people write is absent, null, empty or set.
func documentOf(r *spec.Registry, c Choice) *tree.Node {
	doc := &tree.Node{Kind: tree.Object}
	for _, f := range r.Fields() {
		if f.Derived {
			continue
		}
		state := c(5)
		empty, canBeEmpty := Empty(f)
		switch {
		case state == 0 && !f.Guardrail:
			Put(doc, f.JSONPath, &tree.Node{Kind: tree.Null})
		case state == 1 && canBeEmpty:
			Put(doc, f.JSONPath, empty)
		case state <= 2:
			Put(doc, f.JSONPath, set(f, c))
		}
	}
	return doc
}

// set returns a value of f; of an open field an object with one or two keys, of which one may be null.
func set(f *spec.Field, c Choice) *tree.Node {
	if !f.Open {
		return Value(f, c)
	}
	n := &tree.Node{Kind: tree.Object}
	for range 1 + c(2) {
		v := Value(f, c)
		if c(4) == 0 {
			v = &tree.Node{Kind: tree.Null}
		}
		Put(n, Key(c), v)
	}
	return n
}

// Layer returns the text of a valid layer in which every field is absent, null, empty or set by choice.
func Layer(r *spec.Registry, c Choice) []byte { return documentOf(r, c).JSON() }

// Full returns the text of a layer that sets the first n fields that people write, with the i-th value each.
func Full(r *spec.Registry, n, i int) []byte {
	doc := &tree.Node{Kind: tree.Object}
	for _, f := range r.Fields() {
		if f.Derived {
			continue
		}
		if n--; n < 0 {
			break
		}
		Put(doc, f.JSONPath, set(f, Nth(i)))
	}
	return doc.JSON()
}
