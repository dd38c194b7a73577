package cli

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/spec/spectest"
)

// profileLayers draws a layer that a profile may be, of whatever fields there are.
func profileLayers(t *rapid.T, name string) *spec.Layer {
	choice := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, name) }
	layer := &spec.Layer{}
	for _, f := range authored() {
		var set, clear []string
		switch choice(8) {
		case 0:
			set = []string{f.Path + "=" + string(spectest.Value(f, choice).JSON())}
		case 1:
			clear = []string{f.Path}
		}
		if next, err := spec.Edit(layer, set, clear, nil); err == nil { // A field may exclude another.
			layer = next
		}
	}
	return layer
}

// TestAnswersKeepTheLayer: whoever accepts every answer that is offered changes nothing, whatever the profile states.
func TestAnswersKeepTheLayer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := profileLayers(t, "layer")
		w := newSpecPrompts(base, specParts(), nil)
		got, err := w.whole()
		if err != nil || got.String() != base.String() {
			t.Fatalf("%s became %s: %v", base, got, err)
		}
		for i, p := range w.prompts {
			if err := w.check(i, p.Answer); err != nil {
				t.Errorf("%s: the answer %q that is offered is refused: %v", p.Title, p.Answer, err)
			}
		}
	})
}

// TestPrintedFlagsDoTheSame: the flags that are printed make the one layer of the other.
func TestPrintedFlagsDoTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, next := profileLayers(t, "old"), profileLayers(t, "new")
		f := layerFlags(old, next)
		got, err := f.edit(old)
		if err != nil || got.String() != next.String() {
			t.Fatalf("%+v make %s of %s, want %s: %v", f, got, old, next, err)
		}
	})
}

// TestEveryFieldIsAsked: a field of the spec has a prompt, and its example is an answer.
func TestEveryFieldIsAsked(t *testing.T) {
	w := newSpecPrompts(&spec.Layer{}, specParts(), nil)
	if len(w.prompts) != len(authored()) || len(w.prompts) < 50 {
		t.Fatalf("%d prompts for %d fields", len(w.prompts), len(authored()))
	}
	for i, f := range w.fields {
		p := w.prompts[i]
		if p.Doc == "" || p.Flag != "--set "+f.Path+"=" {
			t.Errorf("%s: %+v", f.Path, p)
		}
		if answer := strings.Trim(f.Example, `"`); answer != "" {
			if _, err := w.layer(i, answer); err != nil && w.check(i, answer) != nil {
				t.Errorf("%s: the example %q is refused: %v", f.Path, answer, err)
			}
		}
	}
}

// TestAnswers: what people type for lists, maps and objects, and what is said of what is wrong.
func TestAnswers(t *testing.T) {
	at := func(path string) int {
		return slices.IndexFunc(newSpecPrompts(&spec.Layer{}, specParts(), nil).fields, func(f *spec.Field) bool { return f.Path == path })
	}
	for _, tt := range []struct{ path, answer, want string }{
		{"tags", "a, b", `{"tags":["a","b"]}`},
		{"tags", "[a, b]", `{"tags":["a","b"]}`},
		{"node_selector", "a=b,c=d", `{"nodeSelector":{"a":"b","c":"d"}}`},
		{"node_selector", "a", `! "a" is no KEY=VALUE`},
		{"network.egress.modes", "{n: {type: none}}", `{"network":{"egress":{"modes":{"n":{"type":"none"}}}}}`},
		{"network.egress.modes", "{n: {type: non}}", `! `},
		{"network.egress.modes", "{n", `! as in a file`},
		{"container_image", "null", `{"containerImage":null}`},
		{"network.ingress.default", `""`, `{"network":{"ingress":{"default":""}}}`},
		{"pod.spec", "{hostNetwork: false}", `{"pod":{"spec":{"hostNetwork":false}}}`},
		{"guardrails.resources.max_gpu", "many", `! `},
		{"guardrails.resources.max_gpu", "null", `! `},
		{"resource_defaults.cpu_limit", "2", `{"resourceDefaults":{"cpuLimit":"2"}}`},
	} {
		w := newSpecPrompts(&spec.Layer{}, specParts(), nil)
		i := at(tt.path)
		if want, wrong := strings.CutPrefix(tt.want, "! "); wrong {
			if err := w.check(i, tt.answer); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: %v, want %s", tt.path, tt.answer, err, want)
			}
			continue
		}
		w.prompts[i].Answer = tt.answer
		if got, err := w.whole(); err != nil || got.String() != tt.want {
			t.Errorf("%s %s: %s %v, want %s", tt.path, tt.answer, got, err, tt.want)
		}
	}
}
