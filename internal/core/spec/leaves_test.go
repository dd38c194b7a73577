package spec_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/dynamicpb"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/spec/spectest"
	"github.com/bermhq/berm/internal/core/tree"
)

// TestSchema: every field is described, and every backend says what it does with it.
func TestSchema(t *testing.T) {
	r := spec.Profile()
	if p := r.Problems(backends()...); len(p) > 0 {
		t.Errorf("%d problems:\n%s", len(p), p)
	}
	if len(r.Fields()) < 40 {
		t.Errorf("only %d fields", len(r.Fields()))
	}
}

// TestEveryLeaf knows no field names: whatever the schema holds goes through every operation there is. It runs on the
// profile spec and on a schema that has fields of further kinds, which no code was written for.
func TestEveryLeaf(t *testing.T) {
	for name, r := range map[string]*spec.Registry{"profile": spec.Profile(), "extended": extended(t)} {
		t.Run(name, func(t *testing.T) {
			for _, f := range r.Fields() {
				t.Run(f.Path, func(t *testing.T) {
					c := leafCase{r: r, f: f}
					t.Run("finds", c.finds)
					t.Run("states", c.states)
					t.Run("names", c.names)
					t.Run("message", c.message)
					t.Run("merges", c.merges)
					t.Run("diffs", c.diffs)
					t.Run("masks", c.masks)
					t.Run("documents", c.documents)
				})
			}
		})
	}
}

type leafCase struct {
	r *spec.Registry
	f *spec.Field
}

// read reads a document as what it is: derived fields occur only in what the program makes.
func (c leafCase) read(t *testing.T, doc *tree.Node) *spec.Layer {
	t.Helper()
	parse := func(text []byte) (*spec.Layer, error) { return c.r.ParseLayer(text) }
	if c.f.Derived && len(doc.Keys) > 0 {
		if _, err := parse(doc.JSON()); err == nil {
			t.Errorf("%s is derived, but people may write it", doc.JSON())
		}
		parse = c.r.ParseStored
	}
	l, err := parse(doc.JSON())
	if err != nil {
		t.Fatalf("%s: %v", doc.JSON(), err)
	}
	return l
}

// value returns the i-th document that sets the field, or a key of it when it is open.
func (c leafCase) value(i int) *tree.Node {
	v := spectest.Value(c.f, spectest.Nth(i))
	if c.f.Open {
		v = &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: "someKey", Value: v}}}
	}
	return spectest.Document(c.f, v)
}

// leaf returns the one leaf of a layer.
func (c leafCase) leaf(t *testing.T, l *spec.Layer) spec.Leaf {
	t.Helper()
	if n := len(l.Leaves()); n != 1 {
		t.Fatalf("%s has %d leaves", l, n)
	}
	return l.Leaves()[0]
}

func (c leafCase) finds(t *testing.T) {
	for _, path := range []string{c.f.Path, c.f.JSONPath} {
		if f, key, ok := c.r.ByPath(path); !ok || f != c.f || key != "" {
			t.Errorf("ByPath(%q) = %v, %q, %v", path, f, key, ok)
		}
	}
	if f, key, ok := c.r.ByPath(c.f.Path + ".a.b"); ok != c.f.Open || ok && (f != c.f || key != "a.b") {
		t.Errorf("below: %v %q %v", f, key, ok)
	}
	if f, key, ok := c.r.ByPath(c.f.Path + "[a.b/c]"); ok != (c.f.Kind == spec.KindMap) || ok && (f != c.f || key != "a.b/c") {
		t.Errorf("entry: %v %q %v", f, key, ok)
	}
}

// states: text → Layer → text is the identity for absent, null, empty and set.
func (c leafCase) states(t *testing.T) {
	docs := map[string]*tree.Node{
		"absent": {Kind: tree.Object},
		"null":   spectest.Document(c.f, &tree.Node{Kind: tree.Null}),
		"set":    c.value(0), "set other": c.value(1),
	}
	if e, ok := spectest.Empty(c.f); ok {
		docs["empty"] = spectest.Document(c.f, e)
	}
	want := map[string]spec.State{"null": spec.Cleared, "set": spec.Set, "set other": spec.Set, "empty": spec.Set}
	for name, doc := range docs {
		if name == "null" && (c.f.Guardrail || c.f.Derived) {
			if _, err := c.r.ParseLayer(doc.JSON()); err == nil {
				t.Errorf("null is accepted")
			}
			continue
		}
		l := c.read(t, doc)
		if got := l.JSON(); !bytes.Equal(got, doc.JSON()) {
			t.Errorf("%s: %s became %s", name, doc.JSON(), got)
		}
		if name == "absent" {
			if !l.IsEmpty() {
				t.Errorf("absent: %v", l)
			}
			continue
		}
		if leaf := c.leaf(t, l); leaf.State != want[name] || leaf.Field != c.f {
			t.Errorf("%s: state %s of %s", name, leaf.State, leaf.Path())
		}
	}
}

// names: snake_case, the wire form and the form for YAML read back as the same layer.
func (c leafCase) names(t *testing.T) {
	l := c.read(t, c.value(1))
	for name, text := range map[string][]byte{"wire": l.WireJSON(), "yaml": l.Node().JSON()} {
		n, err := tree.ParseJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		if again := c.read(t, n); again.String() != l.String() {
			t.Errorf("%s form %s of %s reads as %s", name, text, l, again)
		}
	}
	out, err := yaml.Marshal(l.Node().Any())
	if err != nil {
		t.Fatal(err)
	}
	var back any
	if err := yaml.Unmarshal(out, &back); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(back)
	if err != nil {
		t.Fatal(err)
	}
	n, err := tree.ParseJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	if again := c.read(t, n); again.String() != l.String() {
		t.Errorf("YAML\n%s of %s reads as %s", out, l, again)
	}
}

// message: a set value survives the way through a message.
func (c leafCase) message(t *testing.T) {
	l := c.read(t, c.value(0))
	m := dynamicpb.NewMessage(c.r.Descriptor())
	if err := spec.Merge(l.Leaves(), m); err != nil {
		t.Fatal(err)
	}
	back, err := c.r.FromMessage(m)
	if err != nil {
		t.Fatal(err)
	}
	if back.Digest() != l.Digest() {
		t.Errorf("%s came back as %s", l, back)
	}
	if c.r == spec.Profile() {
		again, err := spec.FromMessage(l.Message())
		if err != nil || again.Digest() != l.Digest() {
			t.Errorf("%s came back as %s, %v", l, again, err)
		}
	}
}

// merges: the higher layer owns the field, the lower one is shadowed.
func (c leafCase) merges(t *testing.T) {
	low, high := c.read(t, c.value(0)), c.read(t, c.value(1))
	f := resolve.Fold([]resolve.Input{
		{Origin: resolve.Origin{Layer: resolve.LayerZone}, Layer: low},
		{Origin: resolve.Origin{Layer: resolve.LayerProfile}, Layer: high},
	})
	if len(f.Fields()) != 1 {
		t.Fatalf("%d fields", len(f.Fields()))
	}
	v := f.Fields()[0]
	if !v.Equal(c.leaf(t, high)) || v.Origin.Layer != resolve.LayerProfile {
		t.Errorf("value %s from %s", v, v.Origin.Layer)
	}
	if len(v.Shadowed) != 1 || !v.Shadowed[0].Equal(c.leaf(t, low)) {
		t.Errorf("shadowed %v", v.Shadowed)
	}
}

func (c leafCase) diffs(t *testing.T) {
	old, new := c.read(t, c.value(0)), c.read(t, c.value(1))
	for _, d := range [][2]*spec.Layer{{old, new}, {nil, new}, {old, nil}, {new, new}} {
		changes := spec.Diff(d[0], d[1])
		want := 1
		if d[0] == d[1] {
			want = 0
		}
		if len(changes) != want {
			t.Errorf("%d changes from %s to %s", len(changes), d[0], d[1])
		}
		got, err := c.r.Apply(d[0], changes)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d[1].String(), got.String()); diff != "" {
			t.Errorf("apply: %s", diff)
		}
	}
}

// masks: a mask of the field takes it over and nothing else, a mask of any other field leaves it.
func (c leafCase) masks(t *testing.T) {
	old, new := c.read(t, c.value(0)), c.read(t, c.value(1))
	got, err := old.Replace([]string{c.f.JSONPath}, new)
	if err != nil || got.String() != new.String() {
		t.Errorf("own mask: %s, %v", got, err)
	}
	for _, other := range c.r.Fields() {
		if other == c.f {
			continue
		}
		if got, err := old.Replace([]string{other.Path}, new); err != nil || got.String() != old.String() {
			t.Errorf("mask %s: %s, %v", other.Path, got, err)
		}
	}
	if c.r != spec.Profile() {
		return // ParseMask knows the profile spec alone
	}
	paths, err := spec.ParseMask("spec."+c.f.JSONPath, []string{"spec.*"})
	if err != nil || len(paths) != 1 || paths[0] != "spec."+c.f.Path {
		t.Errorf("ParseMask: %v, %v", paths, err)
	}
}

// documents: the reference has the field, and its example is valid.
func (c leafCase) documents(t *testing.T) {
	if !bytes.Contains(c.r.Reference(backends()...), []byte("| `"+c.f.Path+"` |")) {
		t.Error("not in the reference")
	}
	if c.f.Example == "" {
		t.Fatal("no example")
	}
	var v any
	if err := yaml.Unmarshal([]byte(c.f.Example), &v); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	n, err := tree.ParseJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	c.read(t, spectest.Document(c.f, n))
	for _, b := range backends() {
		if c.f.Verdict(b).Verdict == specpb.Verdict_VERDICT_UNSPECIFIED {
			t.Errorf("no verdict of %s", b)
		}
	}
}
