package spec_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

func TestDiff(t *testing.T) {
	old := layer(t, `{"resourceDefaults":{"cpuLimit":"1","memoryLimit":"1Gi"},"tags":["a"],"nodeSelector":null,"pod":{"spec":{}}}`)
	new := layer(t, `{"resourceDefaults":{"cpuLimit":"1000m","memoryLimit":"2Gi"},"tags":null,"nodeSelector":{},"pod":{"spec":{"a":1}}}`)
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	want := []spec.Change{
		{Path: "resource_defaults.cpu_limit", Old: raw(`"1"`), New: raw(`"1000m"`), OldState: spec.Set, NewState: spec.Set, SameAmount: true},
		{Path: "resource_defaults.memory_limit", Old: raw(`"1Gi"`), New: raw(`"2Gi"`), OldState: spec.Set, NewState: spec.Set, Grew: 1},
		{Path: "node_selector", Old: raw(`null`), New: raw(`{}`), OldState: spec.Cleared, NewState: spec.Set},
		{Path: "tags", Old: raw(`["a"]`), New: raw(`null`), OldState: spec.Set, NewState: spec.Cleared},
		{Path: "pod.spec", Old: raw(`{}`), OldState: spec.Set},
		{Path: "pod.spec.a", New: raw(`1`), NewState: spec.Set},
	}
	if diff := cmp.Diff(want, spec.Diff(old, new)); diff != "" {
		t.Error(diff)
	}
}

func TestApplyRefuses(t *testing.T) {
	for _, c := range []spec.Change{
		{Path: "nothing", NewState: spec.Cleared},
		{Path: "namespace", NewState: spec.Cleared},
		{Path: "node_selector[a]", New: json.RawMessage(`"b"`), NewState: spec.Set},
		{Path: "tags", New: json.RawMessage(`"b"`), NewState: spec.Set},
		{Path: "tags", New: json.RawMessage(`[`), NewState: spec.Set},
	} {
		if l, err := spec.Apply(nil, []spec.Change{c}); err == nil || !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %s, %v", c, l, err)
		}
	}
}
