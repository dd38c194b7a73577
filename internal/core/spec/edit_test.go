package spec_test

import (
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

func TestEdit(t *testing.T) {
	const base = `{"container_image":"a","node_selector":{"x":"1"},"resource_defaults":{"cpu_limit":"2","memory_limit":"1Gi"}}`
	tests := []struct {
		name                string
		set, clear, inherit []string
		want                string
	}{
		{"nothing", nil, nil, nil, base},
		{"text", []string{"container_image=python:3.11"}, nil, nil, strings.Replace(base, `"a"`, `"python:3.11"`, 1)},
		{"a number for a quantity", []string{"resource_defaults.cpu_limit=4"}, nil, nil, strings.Replace(base, `"2"`, `"4"`, 1)},
		{"camelCase", []string{"resourceDefaults.cpuLimit=500m"}, nil, nil, strings.Replace(base, `"2"`, `"500m"`, 1)},
		{"a text with an equals sign", []string{"container_image=r/x@sha256=1"}, nil, nil, ""},
		{"an entry of a map", []string{"node_selector[y]=2"}, nil, nil, strings.Replace(base, `"x":"1"`, `"x":"1","y":"2"`, 1)},
		{"a list", []string{`tags=["a","b"]`}, nil, nil, base[:len(base)-1] + `,"tags":["a","b"]}`},
		{"cleared", nil, []string{"container_image"}, nil, strings.Replace(base, `"a"`, `null`, 1)},
		{"inherited", nil, nil, []string{"container_image", "node_selector"}, `{"resource_defaults":{"cpu_limit":"2","memory_limit":"1Gi"}}`},
		{"a guardrail", []string{"guardrails.lifetime.max_seconds=60"}, nil, []string{"container_image", "node_selector", "resource_defaults.cpu_limit", "resource_defaults.memory_limit"}, `{"guardrails":{"lifetime":{"max_seconds":60}}}`},
		{"both of two that bound each other", []string{"resource_defaults.cpu_request=3", "resource_defaults.cpu_limit=4"}, nil, nil, strings.Replace(base, `"cpu_limit":"2"`, `"cpu_limit":"4","cpu_request":"3"`, 1)},
		{"one of two that bound each other", []string{"resource_defaults.cpu_request=3"}, nil, nil, "cpu_limit"},
		{"what goes together", []string{"namespace.strategy=static", "namespace.static_namespace=x"}, nil, nil, base[:len(base)-1] + `,"namespace":{"strategy":"static","static_namespace":"x"}}`},
		{"unknown", []string{"memory_limit=1Gi"}, nil, nil, "did you mean resource_defaults.memory_limit"},
		{"no value", []string{"container_image"}, nil, nil, "PATH=VALUE"},
		{"not of its kind", []string{"guardrails.lifetime.max_seconds=many"}, nil, nil, "guardrails.lifetime.max_seconds"},
		{"a guardrail cleared", nil, []string{"guardrails.lifetime.max_seconds"}, nil, "guardrails.lifetime.max_seconds"},
		{"not stated", nil, nil, []string{"tags"}, "not stated"},
		{"two mistakes", []string{"x=1"}, nil, []string{"tags"}, "tags"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			layer, err := spec.ParseLayer([]byte(base))
			if err != nil {
				t.Fatal(err)
			}
			was := layer.String()
			got, err := spec.Edit(layer, tt.set, tt.clear, tt.inherit)
			if err != nil {
				if strings.HasPrefix(tt.want, "{") || !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %s", err, tt.want)
				}
				return
			}
			want, err := spec.ParseLayer([]byte(tt.want))
			if err != nil {
				t.Fatalf("%s is not refused: %s", tt.name, got.JSON())
			}
			if got.String() != want.String() {
				t.Errorf("%s, want %s", got, want)
			}
			if layer.String() != was {
				t.Errorf("the layer itself was changed: %s", layer)
			}
		})
	}
	if got, err := spec.Edit(nil, []string{"container_image=a"}, nil, nil); err != nil || got.String() != `{"containerImage":"a"}` {
		t.Errorf("%s %v", got, err)
	}
}
