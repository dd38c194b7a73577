package resolve

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/spec/spectest"
	"github.com/bermhq/berm/internal/core/tree"
)

// leafKinds returns one field of each kind of leaf there is, found by kind and format.
func leafKinds() []leafKind {
	var kinds []leafKind
	seen := map[string]bool{}
	for _, f := range spec.Fields() {
		if f.Derived || f.Guardrail {
			continue
		}
		name := f.Kind.String()
		_, canBeEmpty := spectest.Empty(f)
		switch {
		case f.Kind == spec.KindString && canBeEmpty:
			name = "string that may be empty"
		case f.Format == specpb.Format_FORMAT_CPU || f.Format == specpb.Format_FORMAT_MEMORY:
			name = "quantity"
		case len(f.Values) > 0:
			name = "closed set"
		case f.Additive:
			name = "additive map"
		case f.Kind == spec.KindMap && f.Descriptor().MapValue().Message() != nil:
			name = "map of messages"
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		kinds = append(kinds, leafKind{name, f, ""})
		if f.Open {
			kinds = append(kinds, leafKind{"key of an open object", f, "someKey"})
		}
	}
	return kinds
}

// leafKind is a field, or with key a key of an open one.
type leafKind struct {
	name  string
	field *spec.Field
	key   string
}

// said returns the text of a layer in which the leaf has a state; ok is false when it cannot have it.
func (k leafKind) said(state string, nth int) (text []byte, ok bool) {
	var v *tree.Node
	switch state {
	case "absent":
		return []byte(`{}`), true
	case "null":
		v = &tree.Node{Kind: tree.Null}
	case "empty":
		if v, ok = spectest.Empty(k.field); !ok {
			return nil, false
		}
	case "set":
		v = spectest.Value(k.field, spectest.Nth(nth))
		if k.field.Open && k.key == "" {
			v = &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: "someKey", Value: v}}}
		}
	}
	if k.key != "" {
		v = &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: k.key, Value: v}}}
	}
	return spectest.Document(k.field, v).JSON(), true
}

// TestMatrix shows what comes of every pair of layers, every kind of leaf, and every pair of states, as a golden table.
func TestMatrix(t *testing.T) {
	const path = "testdata/matrix.txt"
	var b bytes.Buffer
	for _, k := range leafKinds() {
		fmt.Fprintf(&b, "# %s: %s\n", k.name, k.field.PathOf(k.key))
		for low := LayerZone; low <= LayerRequest; low++ {
			for high := low + 1; high <= LayerRequest; high++ {
				fmt.Fprintf(&b, "## %s, then %s\n", low, high)
				matrixPair(t, &b, k, low, high)
			}
		}
	}
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Error(diff)
	}
}

func matrixPair(t *testing.T, b *bytes.Buffer, k leafKind, low, high Layer) {
	t.Helper()
	states := []string{"absent", "null", "empty", "set"}
	for _, below := range states {
		for _, above := range states {
			lowText, ok := k.said(below, 0)
			highText, ok2 := k.said(above, 1)
			if !ok || !ok2 {
				continue
			}
			r := Fold([]Input{input(t, low, lowText), input(t, high, highText)})
			text := strings.TrimSuffix(strings.ReplaceAll(why(&r.Resolved), "\n", "; "), "; ")
			if text == "" {
				text = "-"
			}
			fmt.Fprintf(b, "%-6s %-6s  %s\n", below, above, text)
			checkPair(t, r, k, low, high, below, above)
		}
	}
}

func input(t *testing.T, kind Layer, text []byte) Input {
	t.Helper()
	l, err := spec.ParseLayer(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return Input{Origin{Layer: kind, Object: kind.String()}, l}
}

// checkPair holds each line against the rule itself: the higher layer owns what it speaks of. Additive maps of a request
// and the whole of an open object are what the rule has exceptions for; the golden alone shows them.
func checkPair(t *testing.T, r *Folded, k leafKind, low, high Layer, below, above string) {
	t.Helper()
	if k.field.Additive && high == LayerRequest || k.field.Open && k.key == "" {
		return
	}
	v, ok := r.At(k.field, k.key)
	owner, state, shadows := high, above, 1
	if above == "absent" {
		owner, state = low, below
	}
	if below == "absent" || above == "absent" {
		shadows = 0
	}
	want := map[string]spec.State{"absent": spec.Absent, "null": spec.Cleared, "empty": spec.Set, "set": spec.Set}[state]
	if ok != (want != spec.Absent) || v.State != want || ok && v.Origin.Layer != owner || len(v.Shadowed) != shadows {
		t.Errorf("%s, %s %s, %s %s: %s", k.name, low, below, high, above, show(&r.Resolved))
	}
}
