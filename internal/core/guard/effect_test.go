package guard

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// drawOwners draws guardrails of several layers. They are passed as extra inputs, so that a maximum does nothing but bound.
func drawOwners(t *rapid.T) []resolve.Input {
	var out []resolve.Input
	for i := range rapid.IntRange(1, 4).Draw(t, "layers") {
		out = append(out, drawInput(t, resolve.LayerZone, fmt.Sprintf("layer %d", i), object{"guardrails": guardrails()}))
	}
	return out
}

// TestEffectIsWhatIsEnforced: guardrails that say nothing but the values shown admit exactly what those of all layers admit.
func TestEffectIsWhatIsEnforced(t *testing.T) {
	refused, together := 0, 0
	property := func(t *rapid.T) {
		below := []resolve.Input{resolve.BuiltIn()}
		l := Effective(below, drawOwners(t)...)
		var shown []resolve.Input
		for _, b := range l.Bounds() {
			e := b.Effect()
			values := []json.RawMessage{e.Value}
			var all struct{ AllOf []json.RawMessage }
			if json.Unmarshal(e.Value, &all) == nil && all.AllOf != nil {
				values = all.AllOf
			}
			together += len(e.Combined)
			for _, v := range values {
				shown = append(shown, resolve.Input{Origin: *e.Owner.Origin, Layer: layerOf(t, b.Field.Path, v)})
			}
		}
		for range 8 {
			s := draw(t)
			is, want := Admits(Effective(below, shown...), s), Admits(l, s)
			if is != want {
				t.Fatalf("the values shown admit it: %v, the guardrails: %v\n%v", is, want, s.Request.Launch)
			}
			if !want {
				refused++
			}
		}
	}
	// A hundred draws may lack what is rare.
	for round := 0; round < 20 && (refused == 0 || together == 0); round++ {
		rapid.Check(t, property)
	}
	if refused == 0 || together == 0 {
		t.Errorf("%d requests refused, %d statements held together: the property was hardly put to the test", refused, together)
	}
}

// TestEffectNeedsWhatItNames: every statement is told once, none that is shadowed is needed, and each of the others is.
func TestEffectNeedsWhatItNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, b := range Effective(nil, drawOwners(t)...).Bounds() {
			e := b.Effect()
			kept := append([]Term{e.Owner}, e.Combined...)
			if told := append(slices.Clone(kept), e.Shadowed...); len(told) != len(b.Terms) {
				t.Fatalf("%s: %d statements, %d told", b.Field.Path, len(b.Terms), len(told))
			}
			without := func(out []Term) *Bound {
				rest := slices.DeleteFunc(slices.Clone(b.Terms), func(t Term) bool {
					return slices.ContainsFunc(out, func(o Term) bool { return o.Place == t.Place })
				})
				return &Bound{Field: b.Field, Terms: rest}
			}
			if again := without(e.Shadowed).Effect(); string(again.Value) != string(e.Value) || len(again.Shadowed) > 0 {
				t.Fatalf("%s: %s, without what is shadowed %s", b.Field.Path, e.Value, again.Value)
			}
			for _, k := range kept { // What is shadowed may say the same as one that is needed.
				if rest := without(append([]Term{k}, e.Shadowed...)); len(kept) > 1 && string(rest.Effect().Value) == string(e.Value) {
					t.Fatalf("%s: %s holds without %s of %s", b.Field.Path, e.Value, k, k.Origin.Object)
				}
			}
		}
	})
}

// layerOf makes a layer that says one thing.
func layerOf(t *rapid.T, path string, value json.RawMessage) *spec.Layer {
	names := strings.Split(path, ".")
	text := string(value)
	for _, name := range slices.Backward(names) {
		text = fmt.Sprintf(`{%q:%s}`, name, text)
	}
	l, err := spec.ParseLayer([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return l
}
