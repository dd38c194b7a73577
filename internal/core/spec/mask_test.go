package spec_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/core/spec"
)

// maskPaths are those of a profile: some plain, some fixed, and the spec with all below it.
func maskPaths() []string { return []string{"description", "labels", "spec.*", "!id", "!display_name"} }

func TestParseMask(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		" labels , description":          "description labels",
		"labels,labels":                  "labels",
		"spec":                           "spec",
		"spec.resourceDefaults.cpuLimit": "spec.resource_defaults.cpu_limit",
		"spec.resource_defaults,spec.resource_defaults.cpu_limit,spec.tags": "spec.resource_defaults spec.tags",
		"spec.tags,spec":                   "spec",
		"spec.pod.spec.a,spec.pod.spec.ab": "spec.pod.spec.a spec.pod.spec.ab",
		"spec.pod.spec.nodeSelector":       "spec.pod.spec.nodeSelector",
		"spec.networkConfigJson":           "spec.network",
		"spec.network_config_json":         "spec.network",
	} {
		got, err := spec.ParseMask(text, maskPaths())
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestParseMaskRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"label,spec.tag": "MASK_INVALID\n" + `0:0 label: no field that can be updated; did you mean "labels"?` + "\n" +
			`0:0 spec.tag: no field that can be updated; did you mean "spec.tags"?`,
		"id":                      "FIELD_IMMUTABLE\n0:0 id: cannot be changed",
		"displayName":             "FIELD_IMMUTABLE\n0:0 display_name: cannot be changed",
		"labels,":                 "MASK_INVALID\n0:0 : a path is empty; is there a comma too many?",
		"labels.team":             "MASK_INVALID\n0:0 labels.team: no field that can be updated; known are description, labels, spec",
		"*":                       "MASK_INVALID\n0:0 *: no field that can be updated; known are description, labels, spec",
		"spec.node_selector[a]":   "MASK_INVALID\n" + `0:0 spec.node_selector[a]: no field that can be updated; did you mean "spec.node_selector"?`,
		strings.Repeat("a,", 64):  "MASK_INVALID",
		strings.Repeat("a", 4097): "MASK_INVALID",
	} {
		got, err := spec.ParseMask(text, maskPaths())
		if diff := cmp.Diff(want, render(err)); diff != "" || got != nil {
			t.Errorf("%.40q: %q %s", text, got, diff)
		}
	}
}

func TestReplace(t *testing.T) {
	old := layer(t, `{"resourceDefaults":{"cpuLimit":"1","memoryLimit":"1Gi"},"tags":["a"],"pod":{"spec":{"a":1,"b":2}}}`)
	new := layer(t, `{"resourceDefaults":{"cpuLimit":"2"},"tags":null,"nodeSelector":{"x":"y"},"pod":{"spec":{"b":3,"c":4}}}`)
	for paths, want := range map[string]string{
		"":                      new.String(),
		"tags":                  `{"pod":{"spec":{"a":1,"b":2}},"resourceDefaults":{"cpuLimit":"1","memoryLimit":"1Gi"},"tags":null}`,
		"resource_defaults":     `{"pod":{"spec":{"a":1,"b":2}},"resourceDefaults":{"cpuLimit":"2"},"tags":["a"]}`,
		"pod.spec":              `{"pod":{"spec":{"b":3,"c":4}},"resourceDefaults":{"cpuLimit":"1","memoryLimit":"1Gi"},"tags":["a"]}`,
		"pod.spec.a pod.spec.b": `{"pod":{"spec":{"b":3}},"resourceDefaults":{"cpuLimit":"1","memoryLimit":"1Gi"},"tags":["a"]}`,
	} {
		got, err := old.Replace(strings.Split(paths, " "), new)
		if err != nil || got.String() != want {
			t.Errorf("%q: %s, %v", paths, got, err)
		}
	}
	if _, err := old.Replace([]string{"nothing"}, new); err == nil {
		t.Error("an unknown path was replaced")
	}
}
