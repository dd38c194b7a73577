package resolve

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/spec/spectest"
	"github.com/bermhq/berm/internal/core/tree"
)

// choose makes spectest draw from rapid.
func choose(t *rapid.T) spectest.Choice {
	return func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
}

func drawLayer(t *rapid.T) *spec.Layer {
	l, err := spec.ParseLayer(spectest.Layer(spec.Profile(), choose(t)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// drawInputs draws zone layers, a profile, an override and a request, any of which may be missing.
func drawInputs(t *rapid.T) []Input {
	var inputs []Input
	kinds := []Layer{LayerZone, LayerZone, LayerProfile, LayerOverride, LayerRequest}
	for i, k := range kinds {
		if rapid.IntRange(0, 3).Draw(t, "missing") > 0 {
			inputs = append(inputs, Input{Origin{Layer: k, Object: fmt.Sprintf("%s %d", k, i), Revision: int32(i)}, drawLayer(t)})
		}
	}
	return inputs
}

// show writes a result as text, a line per field with its origin and all that it shadows.
func show(r *Resolved) string {
	var b strings.Builder
	for _, v := range r.Fields() {
		fmt.Fprintf(&b, "%s = %s %s @ %s", v.Path(), v.State, v.JSON(), v.Origin.Object)
		for _, s := range v.Shadowed {
			fmt.Fprintf(&b, " < %s %s @ %s", s.State, s.JSON(), s.Origin.Object)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// model is the definition of the fold in its plainest form: layer by layer, statement by statement.
type model struct {
	lines map[string][]string
	paths map[string]*spec.Field
	// whole is, by field, the layer that set the whole of an additive map last, and its entries.
	whole map[*spec.Field]func(key string) string
}

func (m *model) state(f *spec.Field, key, text string) {
	path := f.PathOf(key)
	m.paths[path] = f
	m.lines[path] = append([]string{text}, m.lines[path]...)
}

func (m *model) layer(in Input) {
	for _, l := range in.Layer.Leaves() {
		said := func(l spec.Leaf) string { return fmt.Sprintf("%s %s @ %s", l.State, l.JSON(), in.Origin.Object) }
		if l.Field.Additive && l.State == spec.Set && in.Origin.Layer == LayerRequest {
			for _, e := range l.Entries() {
				if below := m.whole[l.Field]; below != nil && below(e.Key) != "" {
					m.state(l.Field, e.Key, below(e.Key))
				}
				m.state(l.Field, e.Key, said(e))
			}
			continue
		}
		if l.Field.Open && l.Key == "" && l.State == spec.Cleared {
			for path, f := range m.paths {
				if f == l.Field && path != f.Path {
					m.state(f, strings.TrimPrefix(path, f.Path+"."), said(l))
				}
			}
		}
		if l.Field.Additive {
			m.whole[l.Field] = func(key string) string {
				for _, e := range l.Entries() {
					if e.Key == key {
						return said(e)
					}
				}
				return ""
			}
		}
		m.state(l.Field, l.Key, said(l))
	}
}

func (m *model) show() string {
	paths := make([]string, 0, len(m.paths))
	for p := range m.paths {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b string) int {
		if c := m.paths[a].Index() - m.paths[b].Index(); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "%s = %s\n", p, strings.Join(m.lines[p], " < "))
	}
	return b.String()
}

// TestFoldIsItsModel implies soundness (a value is what its origin's layer says), completeness (every field that a layer
// speaks of has exactly one origin) and that the highest layer wins.
func TestFoldIsItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inputs := drawInputs(t)
		m := &model{map[string][]string{}, map[string]*spec.Field{}, map[*spec.Field]func(string) string{}}
		for _, in := range inputs {
			m.layer(in)
		}
		if got, want := show(&Fold(inputs).Resolved), m.show(); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// TestFoldIsPairwise: folding all layers at once, or some and then the others over them, is the same.
func TestFoldIsPairwise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inputs := drawInputs(t)
		want := show(&Fold(inputs).Resolved)
		one := Fold(nil)
		for i, in := range inputs {
			before := show(&one.Resolved)
			if got := show(Fold(inputs[:i]).Overlay(in, inputs[i+1:]...)); got != want {
				t.Fatalf("split at %d: got\n%s\nwant\n%s", i, got, want)
			}
			next := &Folded{*one.Overlay(in)}
			if show(&one.Resolved) != before {
				t.Fatal("an overlay changed what it was laid over")
			}
			one = next
		}
		if got := show(&one.Resolved); got != want {
			t.Fatalf("one by one: got\n%s\nwant\n%s", got, want)
		}
		if got, again := one.Digest(), Fold(inputs).Digest(); got != again {
			t.Fatalf("digests %s and %s", got, again)
		}
	})
}

// TestIdentity: a layer that says nothing changes nothing, wherever it is.
func TestIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inputs := drawInputs(t)
		want := show(&Fold(inputs).Resolved)
		empty := Input{Origin: Origin{Layer: LayerOverride, Object: "empty"}}
		if rapid.Bool().Draw(t, "not nil") {
			empty.Layer, _ = spec.ParseLayer([]byte(`{}`))
		}
		at := rapid.IntRange(0, len(inputs)).Draw(t, "at")
		if got := show(&Fold(slices.Insert(slices.Clone(inputs), at, empty)).Resolved); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// TestIdempotence: a layer over itself gives its own values.
func TestIdempotence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := Input{Origin{Layer: LayerProfile, Object: "a"}, drawLayer(t)}
		twice := Fold([]Input{in, in})
		if got, want := string(twice.JSON()), in.Layer.String(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

// TestLocality: what one layer says about one field has no influence on any other field.
func TestLocality(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inputs := drawInputs(t)
		if len(inputs) == 0 {
			return
		}
		at := rapid.IntRange(0, len(inputs)-1).Draw(t, "at")
		f := rapid.SampledFrom(spec.Fields()).Draw(t, "field")
		changed := slices.Clone(inputs)
		var err error
		if changed[at].Layer, err = inputs[at].Layer.Replace([]string{f.Path}, drawLayer(t)); err != nil {
			t.Fatal(err)
		}
		others := func(r *Folded) string {
			var lines []string
			for line := range strings.Lines(show(&r.Resolved)) {
				path, _, _ := strings.Cut(line, " =")
				if g, _, _ := spec.ByPath(path); g != f {
					lines = append(lines, line)
				}
			}
			return strings.Join(lines, "")
		}
		if got, want := others(Fold(changed)), others(Fold(inputs)); got != want {
			t.Fatalf("%s in layer %d: got\n%s\nwant\n%s", f.Path, at, got, want)
		}
	})
}

// TestMessageHasTheValues: the message of a result holds every value that is set and not empty, and nothing else.
func TestMessageHasTheValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Fold(drawInputs(t))
		back, err := spec.FromMessage(r.Message())
		if err != nil {
			t.Fatal(err)
		}
		var want []spec.Leaf
		for _, l := range r.Leaves() {
			if s := string(l.JSON()); l.State == spec.Set && s != "[]" && (s != "{}" || l.Field.Open && l.Key != "") {
				want = append(want, l)
			}
		}
		got := slices.DeleteFunc(slices.Clone(back.Leaves()), func(l spec.Leaf) bool { return string(l.JSON()) == "{}" && l.Key == "" })
		if g, w := string(spec.JSONOf(got)), string(spec.JSONOf(want)); g != w {
			t.Fatalf("got %s\nwant %s", g, w)
		}
	})
}

// TestKeyOrder: the order of keys in the text means nothing.
func TestKeyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, err := tree.ParseJSON(spectest.Layer(spec.Profile(), choose(t)))
		if err != nil {
			t.Fatal(err)
		}
		want, err := spec.DecodeLayer(n, "")
		if err != nil {
			t.Fatal(err)
		}
		shuffle(t, n)
		got, err := spec.DecodeLayer(n, "")
		if err != nil || got.Digest() != want.Digest() {
			t.Fatalf("got %s, want %s, %v", got, want, err)
		}
	})
}

func shuffle(t *rapid.T, n *tree.Node) {
	if len(n.Keys) > 1 {
		n.Keys = rapid.Permutation(n.Keys).Draw(t, "keys")
	}
	for _, k := range n.Keys {
		shuffle(t, k.Value)
	}
	for _, item := range n.Items {
		shuffle(t, item)
	}
}

// TestManyLayers: more layers than a merge holds without allocating are folded all the same.
func TestManyLayers(t *testing.T) {
	var inputs []Input
	m := &model{map[string][]string{}, map[string]*spec.Field{}, map[*spec.Field]func(string) string{}}
	for i := range 3 * inlineSources {
		l, err := spec.ParseLayer(spectest.Full(spec.Profile(), 60-i, i))
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, Input{Origin{Layer: LayerZone, Object: fmt.Sprint(i)}, l})
		m.layer(inputs[i])
		if got, want := show(&Fold(inputs).Resolved), m.show(); got != want {
			t.Fatalf("%d layers: got\n%s\nwant\n%s", i, got, want)
		}
	}
}

// TestShadowsAreApart: what a caller appends to one field's shadows does not reach another field's.
func TestShadowsAreApart(t *testing.T) {
	inputs := []Input{}
	for i := range 3 {
		l, err := spec.ParseLayer(spectest.Full(spec.Profile(), 10, i))
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, Input{Origin{Layer: LayerZone, Object: fmt.Sprint(i)}, l})
	}
	r := Fold(inputs)
	want := show(&r.Resolved)
	for _, v := range r.Fields() {
		_ = append(v.Shadowed, Shadow{Leaf: &spec.Leaf{}, Origin: &Origin{Object: "foreign"}})
	}
	if got := show(&r.Resolved); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
