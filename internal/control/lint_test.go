package control_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
)

func (w *world) findings() string {
	w.Helper()
	found, more, err := w.svc.Lint(w.ctx(), w.user)
	w.must(err)
	if more {
		w.Error("more findings")
	}
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%s %s: %s %s\n", f.Severity, f.Rule, f.Object, f.Path)
	}
	return b.String()
}

func TestLint(t *testing.T) {
	w := newWorld(t)
	if got := w.findings(); got != "" {
		t.Errorf("a fresh server has findings:\n%s", got)
	}
	const spec = `{"container_image":"host","tags":["a"],"resource_defaults":{"cpu_limit":"1","memory_limit":%q},"network":{"egress":{"default":"none","modes":{"none":{"type":"none"},"net":{"type":"internet"}}}},
		"guardrails":{"fields":{"locked":["network.egress.selected"]}}}`
	one := w.newProfile("one", fmt.Sprintf(spec, "1Gi"))
	w.newProfile("two", fmt.Sprintf(spec, "2Gi"))
	huge := w.newProfile("huge", `{"runtime_class":"nowhere","node_selector":{"a":"b"}}`)
	w.must(w.bind("r1",
		core.Binding{ProfileID: huge.ID, Default: true},
		core.Binding{ProfileID: one.ID, Overrides: w.layer(`{"tags":["a"],"resource_defaults":{"memory_limit":"512Mi"}}`)},
		core.Binding{ProfileID: w.profile.ID},
	))
	t.Log(w.findings())
	found, _, err := w.svc.Lint(w.ctx(), w.user)
	w.must(err)
	want := map[string]string{}
	for _, f := range found {
		want[string(f.Rule)+" "+f.Object+" "+f.Path] = f.Message + " | " + f.Hint
	}
	for key, says := range map[string]string{
		"default-never-admits binding r1/huge ":                        "refused",
		"override-redundant binding r1/one tags":                       "--inherit tags",
		"mode-unselectable binding r1/one network.egress.modes[net]":   "locked",
		"field-never-shows profile one resource_defaults.memory_limit": "the only binding overrides it",
		"profile-unbound profile two ":                                 "no runner",
		"profiles-nearly-equal profile two ":                           "berm profile consolidate one two --delete",
	} {
		if !strings.Contains(want[key], says) {
			t.Errorf("%s: %q", key, want[key])
		}
		delete(want, key)
	}
	for key, text := range want {
		t.Errorf("also found %s: %s", key, text)
	}
	// Each hint does what it says.
	_, _, err = w.svc.UpdateBinding(w.ctx(), w.admin, "r1", "one", control.BindingPatch{Mask: []string{"overrides_json"}, Binding: core.Binding{}}, control.EditState{})
	w.must(err)
	if got := w.findings(); strings.Contains(got, "override-redundant") || strings.Contains(got, "field-never-shows") {
		t.Errorf("after the override is gone:\n%s", got)
	}
}
