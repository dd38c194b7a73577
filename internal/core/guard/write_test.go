package guard

import (
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

func TestCheckOverride(t *testing.T) {
	below := []resolve.Input{
		input(t, "zone z", `{"guardrails": {"resources": {"max_cpu": "4", "require_limits": true}, "runtime_classes": ["a", "b"], "images": {"require_digest": true}, "annotations": {"denied_prefixes": ["x/"]}}}`),
		input(t, "profile p", `{"resource_defaults": {"cpu_limit": "2", "memory_limit": "1Gi"}, "guardrails": {"resources": {"max_cpu": "2"}, "images": {"allowed": ["one/**"]}, "usage": {"per_org": {"max_concurrent": 5}}}}`),
	}
	tests := []struct {
		name, override string
		want           []string
	}{
		{"nothing", `{}`, nil},
		{"tighter", `{"guardrails": {"resources": {"max_cpu": "1"}, "runtime_classes": ["b"], "images": {"allowed": ["two/**"]}, "annotations": {"denied_prefixes": ["y/"]}}}`, nil},
		{"equal, in other words", `{"guardrails": {"resources": {"max_cpu": "2000m"}, "runtime_classes": ["b", "a"]}}`, nil},
		{"a new bound", `{"guardrails": {"resources": {"max_memory": "64Gi"}}}`, nil},
		{"a wider maximum than the tightest below", `{"guardrails": {"resources": {"max_cpu": "3"}}}`,
			[]string{"OVERRIDE_WIDENS guardrails.resources.max_cpu 3>2 (binding r/p, profile p)"}},
		{"a wider set", `{"guardrails": {"runtime_classes": ["a", "c"]}}`, []string{`OVERRIDE_WIDENS guardrails.runtime_classes ["a","c"]>["a","b"] (binding r/p, zone z)`}},
		{"a waived demand", `{"guardrails": {"images": {"require_digest": false}}}`, []string{"OVERRIDE_WIDENS guardrails.images.require_digest false>true (binding r/p, zone z)"}},
		{"a wider bound on usage", `{"guardrails": {"usage": {"per_org": {"max_concurrent": 6}}}}`, []string{"OVERRIDE_WIDENS guardrails.usage.per_org.max_concurrent 6>5 (binding r/p, profile p)"}},
		{"a required limit cleared", `{"resource_defaults": {"memory_limit": null}}`, []string{"OVERRIDE_WIDENS resource_defaults.memory_limit null>required (binding r/p, zone z)"}},
		{"all at once", `{"resource_defaults": {"cpu_limit": null}, "guardrails": {"resources": {"max_cpu": "8", "require_limits": false}}}`, []string{
			"OVERRIDE_WIDENS guardrails.resources.max_cpu 8>2 (binding r/p, profile p)", "OVERRIDE_WIDENS guardrails.resources.require_limits false>true (binding r/p, zone z)",
			"OVERRIDE_WIDENS resource_defaults.cpu_limit null>required (binding r/p, zone z)",
		}},
		{"a default above the default below is no guardrail", `{"resource_defaults": {"cpu_limit": "64"}}`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == nil {
				tt.want = []string{}
			}
			got := CheckOverride(below, input(t, "binding r/p", tt.override))
			same(t, summary(got), tt.want)
			for _, v := range got {
				if v.Limit != "" && (!strings.Contains(v.Message, v.Value) && v.Value != "null" || !strings.Contains(v.Message, v.LimitOrigin.Object) || !strings.Contains(v.Message, "binding r/p")) {
					t.Errorf("the message does not name both values and origins: %s", v.Message)
				}
			}
		})
	}
}

func TestNoLayerHoldsANullGuardrail(t *testing.T) {
	// CheckOverride relies on it.
	for _, parse := range []func([]byte) (*spec.Layer, error){spec.ParseLayer, spec.ParseStored} {
		for _, text := range []string{`{"guardrails": null}`, `{"guardrails": {"resources": null}}`, `{"guardrails": {"resources": {"max_cpu": null}}}`} {
			if l, err := parse([]byte(text)); err == nil {
				t.Errorf("%s was read as %s", text, l)
			}
		}
	}
}

func TestCheckBinding(t *testing.T) {
	enforced := EnforceLimits(resolve.Origin{Layer: resolve.LayerZone, Object: "runner r"})
	owner := input(t, "owner", `{"guardrails": {"resources": {"max_memory": "2Gi"}, "runtime_classes": ["gvisor"]}}`)
	tests := []struct {
		name   string
		layers []string
		extra  []resolve.Input
		want   []string
	}{
		{"nothing said", nil, nil, nil},
		{"the default egress names no mode", []string{`profile p: {"network": {"egress": {"default": "gone", "modes": {"a": {"type": "none"}}}}}`}, nil,
			[]string{"UNRESOLVABLE network.egress.default gone>a (profile p, profile p)"}},
		{"an override takes the default's mode away", []string{`profile p: {"network": {"egress": {"default": "a", "modes": {"a": {"type": "none"}}}}}`, `binding r/p: {"network": {"egress": {"modes": {}}}}`}, nil,
			[]string{"UNRESOLVABLE network.egress.default a>nothing (profile p, binding r/p)"}},
		{"no default, but modes to choose from", []string{`profile p: {"network": {"egress": {"default": null}}}`}, nil, nil},
		{"no default and no mode", []string{`profile p: {"network": {"egress": null}}`}, nil, []string{"UNRESOLVABLE network.egress.default >nothing (profile p, profile p)"}},
		{"the default ingress names no mode", []string{`profile p: {"network": {"ingress": {"default": "public"}}}`}, nil, []string{"UNRESOLVABLE network.ingress.default public>nothing (profile p, built-in rules)"}},
		{"one node label, two values", []string{`zone z: {"node_selector": {"disk": "ssd"}}`, `profile p: {"pod": {"spec": {"nodeSelector": {"disk": "hdd"}}}}`}, nil,
			[]string{"UNRESOLVABLE node_selector[disk] ssd>hdd (zone z, profile p)"}},
		{"one node label, one value", []string{`zone z: {"node_selector": {"disk": "ssd"}}`, `profile p: {"pod": {"spec": {"nodeSelector": {"disk": "ssd", "b": "c"}}}}`}, nil, nil},
		{"a request above its limit", []string{`profile p: {"resource_defaults": {"memory_request": "2Gi"}}`, `binding r/p: {"resource_defaults": {"memory_limit": "1Gi"}}`}, nil,
			[]string{"UNRESOLVABLE resource_defaults.memory_request 2Gi>1Gi (profile p, binding r/p)"}},
		{"guardrails exclude the defaults", []string{`zone z: {"guardrails": {"resources": {"max_cpu": "1"}, "images": {"allowed": ["good/**"]}}}`, `profile p: {"container_image": "evil:1", "resource_defaults": {"cpu_limit": "2"}}`}, nil,
			[]string{"UNRESOLVABLE resource_defaults.cpu_limit 2>1 (profile p, zone z)", "UNRESOLVABLE container_image evil:1>good/** (profile p, zone z)"}},
		{"a maximum without a default: requests can give it", []string{`profile p: {"guardrails": {"resources": {"max_cpu": "1", "require_limits": true}, "images": {"allowed": ["good/**"]}}}`}, nil, nil},
		{"a runner that enforces limits wants them in the binding", []string{`profile p: {"resource_defaults": {"cpu_limit": "1"}}`}, []resolve.Input{enforced},
			[]string{"UNRESOLVABLE resource_defaults.memory_limit >required (-, runner r)"}},
		{"and may not find them cleared", []string{`profile p: {"resource_defaults": {"cpu_limit": "1", "memory_limit": "1Gi"}}`, `binding r/p: {"resource_defaults": {"cpu_limit": null}}`}, []resolve.Input{enforced},
			[]string{"UNRESOLVABLE resource_defaults.cpu_limit >required (binding r/p, runner r)"}},
		{"the owner's guardrails count", []string{`profile p: {"runtime_class": "runc", "resource_defaults": {"memory_limit": "4Gi"}}`}, []resolve.Input{owner},
			[]string{"UNRESOLVABLE resource_defaults.memory_limit 4Gi>2Gi (profile p, owner)", "UNRESOLVABLE runtime_class runc>gvisor (profile p, owner)"}},
		{"the runner's default runtime is not known yet", nil, []resolve.Input{owner}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			layers := []resolve.Input{resolve.BuiltIn()}
			for _, text := range tt.layers {
				object, body, _ := strings.Cut(text, ": ")
				layers = append(layers, input(t, object, body))
			}
			if tt.want == nil {
				tt.want = []string{}
			}
			same(t, summary(CheckBinding(layers, tt.extra...)), tt.want)
		})
	}
}

func TestEnforceLimitsSaysSomething(t *testing.T) {
	in := EnforceLimits(resolve.Origin{Object: "runner r"})
	if b := Effective(nil, in).Bound("guardrails.resources.require_limits"); b.True() == nil {
		t.Error("limits are not required")
	}
}

func TestLostEffect(t *testing.T) {
	stack := func(zone, profile, override string) []resolve.Input {
		return []resolve.Input{input(t, "zone z", zone), input(t, "profile p", profile), input(t, "binding r/p", override)}
	}
	override := `{"guardrails": {"resources": {"max_cpu": "4"}, "runtime_classes": ["a", "b"]}}`
	tests := []struct {
		name, zone, profile string
		want                []string
	}{
		{"nothing below changed", `{}`, `{}`, nil},
		{"a maximum below became tighter", `{}`, `{"guardrails": {"resources": {"max_cpu": "2"}}}`, []string{"OVERRIDE_LOST_EFFECT guardrails.resources.max_cpu 4>2 (binding r/p, profile p)"}},
		{"equal is no loss", `{"guardrails": {"resources": {"max_cpu": "4"}}}`, `{}`, nil},
		{"a set below lost an element", `{"guardrails": {"runtime_classes": ["a"]}}`, `{}`, []string{`OVERRIDE_LOST_EFFECT guardrails.runtime_classes ["a","b"]>["a"] (binding r/p, zone z)`}},
		{"something else below became tighter", `{"guardrails": {"ports": {"max_count": 1}}}`, `{}`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == nil {
				tt.want = []string{}
			}
			same(t, summary(LostEffect(stack(`{}`, `{}`, override), stack(tt.zone, tt.profile, override))), tt.want)
		})
	}
	// What had no effect before cannot lose it.
	already := `{"guardrails": {"resources": {"max_cpu": "1"}}}`
	same(t, summary(LostEffect(stack(already, `{}`, override), stack(already, `{"guardrails": {"resources": {"max_cpu": "500m"}}}`, override))), []string{})
}
