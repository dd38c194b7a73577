package impact

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

func fold(t *testing.T, layers ...string) *resolve.Resolved {
	t.Helper()
	inputs := []resolve.Input{resolve.BuiltIn()}
	for i, text := range layers {
		l, err := spec.ParseLayer([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, resolve.Input{Origin: resolve.Origin{Layer: resolve.LayerZone + resolve.Layer(i), Object: fmt.Sprintf("layer %d", i+1)}, Layer: l})
	}
	return &resolve.Fold(inputs).Resolved
}

func text(fields []Field) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%s %s>%s %s\n", f.Path, f.Old.text(), f.New.text(), f.Meaning)
	}
	return b.String()
}

func TestCompare(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"the same", `{"tags":["a"]}`, `{"tags":["a"]}`, ""},
		{"stated to have none", `{}`, `{"tags":null}`, "tags >null has no value still\n"},
		{"raised and lowered", `{"resource_defaults":{"cpu_limit":"1","memory_limit":"1Gi"}}`, `{"resource_defaults":{"cpu_limit":"1500m","memory_limit":"512Mi"}}`,
			"resource_defaults.cpu_limit \"1\">\"1500m\" raised\nresource_defaults.memory_limit \"1Gi\">\"512Mi\" lowered\n"},
		{"gone", `{"tags":["a"]}`, `{}`, "tags [\"a\"]> has no value any more\n"},
		{"cleared", `{"tags":["a"]}`, `{"tags":null}`, "tags [\"a\"]>null has no value any more\n"},
		{"from null", `{"tags":null}`, `{"tags":["b"]}`, "tags null>[\"b\"] gets a value\n"},
		{"guardrails are told of bindings alone", `{}`, `{"guardrails":{"lifetime":{"max_seconds":5}}}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			old, new := fold(t, tt.old), fold(t, tt.new)
			forth, back := Compare(old, new), Compare(new, old)
			if got := text(forth); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if len(forth) != len(back) {
				t.Fatalf("%d there, %d back", len(forth), len(back))
			}
			for i := range forth {
				if forth[i].Path != back[i].Path || forth[i].Old.text() != back[i].New.text() || forth[i].New.text() != back[i].Old.text() {
					t.Errorf("there %+v, back %+v", forth[i], back[i])
				}
			}
			if len(Compare(new, new)) != 0 {
				t.Error("a result differs from itself")
			}
		})
	}
}

// TestOwnerAlone: who states a value makes no difference to a launch.
func TestOwnerAlone(t *testing.T) {
	if got := Compare(fold(t, `{"tags":["a"]}`), fold(t, `{"tags":["b"]}`, `{"tags":["a"]}`)); len(got) != 0 {
		t.Errorf("%s", text(got))
	}
}

func TestGrouped(t *testing.T) {
	effect := func(about string, kind Kind, key string) Effect { return Effect{About: about, Kind: kind, key: key} }
	var list []Effect
	for i := range 30 {
		list = append(list, effect(fmt.Sprint("c", i), Changed, "x"))
	}
	list = append(list, effect("e", Elsewhere, "x"), effect("r1", Refused, "a"), effect("r2", Refused, "b"), effect("r3", Refused, "b"), effect("d", Changed, "y"))
	got := Grouped(list)
	var order []string
	total := 0
	for _, g := range got {
		order = append(order, fmt.Sprintf("%s:%s:%d", g.Kind, g.About, g.Count))
		if total += g.Count; len(g.Others) > MaxOthers {
			t.Errorf("%d others", len(g.Others))
		}
	}
	if want := "refused:r2:2 refused:r1:1 elsewhere:e:1 changed:c0:30 changed:d:1"; strings.Join(order, " ") != want || total != len(list) {
		t.Errorf("%s, %d in all", order, total)
	}
}
