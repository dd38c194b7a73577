package rebase

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/spec/spectest"
)

func parse(t *testing.T, text string) *spec.Layer {
	t.Helper()
	if text == "" {
		return nil
	}
	l, err := spec.ParseLayer([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func at(kind resolve.Layer, l *spec.Layer) resolve.Input {
	return resolve.Input{Origin: resolve.Origin{Layer: kind, Object: kind.String()}, Layer: l}
}

func TestOverride(t *testing.T) {
	tests := []struct{ name, zone, keep, from, override, want, pinned string }{
		{name: "the same", keep: `{"tags":["a"]}`, from: `{"tags":["a"]}`},
		{name: "one field", keep: `{"tags":["a"],"container_image":"x"}`, from: `{"tags":["a"],"container_image":"y"}`, want: `{"containerImage":"y"}`},
		{
			name: "an override that was there counts", keep: `{"tags":["a"]}`, from: `{"tags":["b"]}`, override: `{"tags":["a"],"container_image":"y"}`,
			want: `{"containerImage":"y"}`,
		},
		{name: "stated by keep alone, nothing beneath", keep: `{"tags":["a"]}`, from: `{}`, want: `{"tags":null}`, pinned: "tags"},
		{name: "stated by keep alone, the zone beneath", zone: `{"tags":["z"]}`, keep: `{"tags":["a"]}`, from: `{}`, want: `{"tags":["z"]}`, pinned: "tags"},
		{name: "stated by keep alone as the zone does", zone: `{"tags":["a"]}`, keep: `{"tags":["a"]}`, from: `{}`},
		{name: "stated, although the zone says it, too", zone: `{"tags":["a"]}`, keep: `{}`, from: `{"tags":["a"]}`, want: `{"tags":["a"]}`},
		{name: "a key of a pod fragment", keep: `{"pod":{"spec":{"priority":1,"hostname":"h"}}}`, from: `{"pod":{"spec":{"priority":1}}}`, want: `{"pod":{"spec":{"hostname":null}}}`, pinned: "pod.spec.hostname"},
		{name: "a tighter guardrail", keep: `{"guardrails":{"lifetime":{"max_seconds":60}}}`, from: `{"guardrails":{"lifetime":{"max_seconds":50}}}`, want: `{"guardrails":{"lifetime":{"maxSeconds":50}}}`},
		{
			name: "guardrails that hold together", keep: `{}`, from: `{"guardrails":{"annotations":{"denied_prefixes":["a.io/"]}}}`, override: `{"guardrails":{"annotations":{"denied_prefixes":["b.io/"]}}}`,
			want: `{"guardrails":{"annotations":{"deniedPrefixes":["a.io/","b.io/"]}}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Override([]resolve.Input{at(resolve.LayerZone, parse(t, tt.zone))}, parse(t, tt.keep), parse(t, tt.from), parse(t, tt.override))
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			if got.Override != nil {
				text = got.Override.String()
			}
			if text != tt.want || strings.Join(got.Pinned, " ") != tt.pinned {
				t.Errorf("%s, pinned %q; want %s, %q", text, got.Pinned, tt.want, tt.pinned)
			}
		})
	}
}

// values writes what a fold comes to, without guardrails and without what has no value.
func values(r *resolve.Folded) string {
	var b strings.Builder
	for _, v := range r.Fields() {
		if !v.Field.Guardrail && v.State == spec.Set && (v.Key != "" || !v.Field.Open) {
			fmt.Fprintf(&b, "%s = %s\n", v.Path(), v.JSON())
		}
	}
	return b.String()
}

func draw(t *rapid.T) *spec.Layer {
	l, err := spec.ParseLayer(spectest.Layer(spec.Profile(), func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestOverrideChangesNothing: whatever lies beneath and whatever the profiles say, the binding comes to what it came to.
func TestOverrideChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		beneath := []resolve.Input{resolve.BuiltIn(), at(resolve.LayerZone, draw(t))}
		keep, from, override := draw(t), draw(t), draw(t)
		got, err := Override(beneath, keep, from, override)
		if err != nil {
			t.Fatal(err)
		}
		was := values(resolve.Fold(append(beneath[:2:2], at(resolve.LayerProfile, from), at(resolve.LayerOverride, override))))
		is := values(resolve.Fold(append(beneath[:2:2], at(resolve.LayerProfile, keep), at(resolve.LayerOverride, got.Override))))
		if was != is {
			t.Fatalf("was\n%sis\n%skeep %s\nfrom %s\noverride %s\nfound %s", was, is, keep, from, override, got.Override)
		}
		if got.Override != nil {
			if _, err := spec.ParseLayer(got.Override.JSON()); err != nil {
				t.Fatalf("%s cannot be written: %v", got.Override, err)
			}
		}
	})
}

// TestProfileChangesNothing: a profile and an override become a profile, where nothing below the two is cleared as a whole.
func TestProfileChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, override := draw(t), draw(t)
		got, err := Profile(from, override)
		if err != nil {
			t.Fatal(err)
		}
		was := values(resolve.Fold([]resolve.Input{at(resolve.LayerProfile, from), at(resolve.LayerOverride, override)}))
		is := values(resolve.Fold([]resolve.Input{at(resolve.LayerProfile, got)}))
		if was != is {
			t.Fatalf("was\n%sis\n%sprofile %s\noverride %s\nfound %s", was, is, from, override, got)
		}
	})
}
