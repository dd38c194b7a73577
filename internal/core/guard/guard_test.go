package guard

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// input makes a layer of JSON. The object names kind and place: "zone z", "profile p", "binding r/p", "owner".
func input(t testing.TB, object, text string) resolve.Input {
	t.Helper()
	l, err := spec.ParseLayer([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	kind := resolve.LayerZone
	switch {
	case strings.HasPrefix(object, "profile"):
		kind = resolve.LayerProfile
	case strings.HasPrefix(object, "binding"):
		kind = resolve.LayerOverride
	}
	return resolve.Input{Origin: resolve.Origin{Layer: kind, Object: object}, Layer: l}
}

func subject(t testing.TB, l *specpb.Launch) *Subject {
	t.Helper()
	r, err := launch.New(l)
	if err != nil {
		t.Fatal(err)
	}
	return NewSubject(r, &resolve.Origin{Layer: resolve.LayerRequest, Object: "request"}, "crun")
}

// summary writes violations as "reason path value>limit (value origin, limit origin)".
func summary(list []Violation) []string {
	object := func(o *resolve.Origin) string {
		if o == nil {
			return "-"
		}
		return o.Object
	}
	out := []string{}
	for _, v := range list {
		out = append(out, fmt.Sprintf("%s %s %s>%s (%s, %s)", v.Reason, v.Path, v.Value, v.Limit, object(v.ValueOrigin), object(v.LimitOrigin)))
	}
	return out
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestFieldsExist(t *testing.T) {
	v := reflect.ValueOf(*fields())
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer && f.IsNil() {
			t.Errorf("the schema has no field for %s", v.Type().Field(i).Name)
		}
	}
	for _, d := range fields().dimensions {
		if d.request == nil || d.limit == nil || d.max == nil {
			t.Errorf("%s: a field is missing", d.name)
		}
	}
}

func TestEveryGuardrailMeets(t *testing.T) {
	// A field without a rule follows "later wins". Only a default may.
	for _, f := range spec.Fields() {
		if f.Guardrail && f.Meet == specpb.Meet_MEET_UNSPECIFIED && !strings.Contains(f.Name, "default") {
			t.Errorf("%s bounds requests, but a later layer could widen it: it needs a meet", f.Path)
		}
	}
}

func TestMeet(t *testing.T) {
	layers := []resolve.Input{
		input(t, "zone z", `{"guardrails": {"resources": {"max_cpu": "4", "max_gpu": 2, "require_limits": false}, "runtime_classes": ["a", "b"],
			"annotations": {"denied_prefixes": ["x/"]}, "images": {"allowed": ["one/**"]}, "lifetime": {"default_seconds": 10}}}`),
		input(t, "profile p", `{"guardrails": {"resources": {"max_cpu": "4000m", "require_limits": true}, "runtime_classes": ["b", "c"],
			"annotations": {"denied_prefixes": ["y/", "x/"]}, "images": {"allowed": ["two/**"]}, "lifetime": {"default_seconds": 20}}}`),
		input(t, "binding r/p", `{"guardrails": {"resources": {"max_cpu": "8", "max_gpu": 0}}}`),
	}
	got := []string{}
	for _, b := range Effective(layers).Bounds() {
		e := b.Effect()
		line := b.Field.Path + " = " + string(e.Value) + " by " + e.Owner.Origin.Object
		for _, t := range e.Combined {
			line += " with " + t.Origin.Object
		}
		for _, t := range e.Shadowed {
			line += " over " + t.Origin.Object
		}
		got = append(got, line)
	}
	same(t, got, []string{
		`guardrails.resources.max_cpu = "4" by zone z over binding r/p over profile p`,
		"guardrails.resources.max_gpu = 0 by binding r/p over zone z",
		"guardrails.resources.require_limits = true by profile p over zone z",
		`guardrails.images.allowed = {"allOf":[["one/**"],["two/**"]]} by zone z with profile p`,
		`guardrails.runtime_classes = ["b"] by zone z with profile p`,
		"guardrails.lifetime.default_seconds = 20 by profile p over zone z",
		`guardrails.annotations.denied_prefixes = ["y/","x/"] by profile p over zone z`,
	})
	if b := Effective(layers).Bound("guardrails.ports.max_count"); b != nil {
		t.Errorf("nobody bounds ports, got %v", b)
	}
}

func TestCheck(t *testing.T) {
	cpu := func(limit string) *specpb.Launch {
		return &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: limit}}
	}
	tests := []struct {
		name   string
		layers []string // object: json
		launch *specpb.Launch
		want   []string
	}{
		{"nothing said, nothing asked", nil, &specpb.Launch{}, nil},
		{"the default is the ceiling", []string{`profile p: {"resource_defaults": {"cpu_limit": "2"}}`}, cpu("2001m"),
			[]string{"GUARDRAIL_VIOLATED resource_defaults.cpu_limit 2001m>2 (request, profile p)"}},
		{"the ceiling itself passes", []string{`profile p: {"resource_defaults": {"cpu_limit": "2"}}`}, cpu("2000m"), nil},
		{"the highest layer's default is the ceiling", []string{`zone z: {"resource_defaults": {"cpu_limit": "1"}}`, `profile p: {"resource_defaults": {"cpu_limit": "2"}}`, `binding r/p: {"resource_defaults": {"cpu_limit": "8"}}`}, cpu("8"), nil},
		{"a cleared default is no ceiling", []string{`profile p: {"resource_defaults": {"cpu_limit": "2"}}`, `binding r/p: {"resource_defaults": {"cpu_limit": null}}`}, cpu("64"), nil},
		{"a maximum in the override replaces it", []string{`profile p: {"resource_defaults": {"cpu_limit": "2"}}`, `binding r/p: {"guardrails": {"resources": {"max_cpu": "8"}}}`}, cpu("8"), nil},
		{"a maximum in the zone does not", []string{`zone z: {"guardrails": {"resources": {"max_cpu": "8"}}}`, `profile p: {"resource_defaults": {"cpu_limit": "2"}}`}, cpu("4"),
			[]string{"GUARDRAIL_VIOLATED resource_defaults.cpu_limit 4>2 (request, profile p)"}},
		{"a maximum for one resource leaves the other's ceiling", []string{`profile p: {"resource_defaults": {"cpu_limit": "2", "memory_limit": "1Gi"}, "guardrails": {"resources": {"max_cpu": "8"}}}`},
			&specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "8", Memory: "2Gi"}}, []string{"GUARDRAIL_VIOLATED resource_defaults.memory_limit 2Gi>1Gi (request, profile p)"}},
		{"zero forbids", []string{`zone z: {"guardrails": {"resources": {"max_cpu": "0", "max_gpu": 0}, "ports": {"max_count": 0}, "mounted_files": {"max_bytes": 0}, "annotations": {"max_count": 0}, "lifetime": {"max_seconds": 0}}}`},
			&specpb.Launch{
				ResourceLimits: &specpb.ResourceAmounts{Cpu: "1", Gpu: &specpb.Gpu{Count: 1}}, Ports: []*specpb.Port{{ContainerPort: 1}},
				MountedFiles: []*specpb.MountedFile{{Path: "/a", Content: []byte("a")}}, PodAnnotations: map[string]string{"a": "b"},
			}, []string{
				"GUARDRAIL_VIOLATED resource_defaults.cpu_limit 1>0 (request, zone z)", "GUARDRAIL_VIOLATED resource_defaults.gpu 1>0 (request, zone z)",
				"GUARDRAIL_VIOLATED pod.metadata.annotations 1>0 (request, zone z)", "GUARDRAIL_VIOLATED max_lifetime_seconds 0>0 (-, zone z)",
				"GUARDRAIL_VIOLATED mounted_files 1>0 (request, zone z)", "GUARDRAIL_VIOLATED ports 1>0 (request, zone z)",
			}},
		{"no class of two disjoint sets", []string{`zone z: {"guardrails": {"runtime_classes": ["a"]}}`, `profile p: {"runtime_class": "b", "guardrails": {"runtime_classes": ["b"]}}`}, &specpb.Launch{},
			[]string{"GUARDRAIL_VIOLATED runtime_class b>nothing (profile p, zone z)"}},
		{"the runner's default runtime counts", []string{`zone z: {"guardrails": {"runtime_classes": ["gvisor"]}}`}, &specpb.Launch{},
			[]string{"GUARDRAIL_VIOLATED runtime_class crun>gvisor (-, zone z)"}},
		{"an empty list allows no image", []string{`zone z: {"guardrails": {"images": {"allowed": []}}}`}, &specpb.Launch{ContainerImage: "host"},
			[]string{"GUARDRAIL_VIOLATED container_image host>nothing (request, zone z)"}},
		{"a default lifetime above the maximum", []string{`zone z: {"guardrails": {"lifetime": {"max_seconds": 60}}}`, `profile p: {"guardrails": {"lifetime": {"default_seconds": 61}}}`}, &specpb.Launch{},
			[]string{"GUARDRAIL_VIOLATED max_lifetime_seconds 61>60 (profile p, zone z)"}},
		{"without a default the maximum is it", []string{`zone z: {"guardrails": {"lifetime": {"max_seconds": 60}}}`}, &specpb.Launch{}, nil},
		{"a cleared egress default is closed", []string{`profile p: {"network": {"egress": {"default": null}}}`}, &specpb.Launch{},
			[]string{"LIMIT_MISSING network.egress.default >none (profile p, built-in defaults)"}},
		{"an ingress mode must be declared", nil, &specpb.Launch{IngressMode: "public"}, []string{"MODE_UNDECLARED network.ingress.selected public>nothing (request, built-in rules)"}},
		{"a lock on a message covers what is in it", []string{`profile p: {"guardrails": {"fields": {"locked": ["resource_defaults"]}}}`}, cpu("1"),
			[]string{"FIELD_LOCKED resource_defaults.cpu_limit 1>unset (request, profile p)"}},
		{"a lock on the default mode locks the mode", []string{`profile p: {"network": {"egress": {"default": "none", "modes": {"none": {"type": "none"}, "all": {"type": "internet"}}}}, "guardrails": {"fields": {"locked": ["network.egress.default"]}}}`},
			&specpb.Launch{EgressMode: "all"}, []string{"FIELD_LOCKED network.egress.selected all>none (request, profile p)"}},
		{"a lock on annotations", []string{`profile p: {"guardrails": {"fields": {"locked": ["pod.metadata.annotations"]}}}`}, &specpb.Launch{PodAnnotations: map[string]string{"a": "b"}},
			[]string{"FIELD_LOCKED pod.metadata.annotations[a] b>unset (request, profile p)"}},
		{"a lock on one annotation", []string{`profile p: {"guardrails": {"fields": {"locked": ["pod.metadata.annotations[a]"]}}}`}, &specpb.Launch{PodAnnotations: map[string]string{"a": "b", "c": "d"}},
			[]string{"FIELD_LOCKED pod.metadata.annotations[a] b>unset (request, profile p)"}},
		{"a lock does not reach a field whose name begins alike", []string{`profile p: {"guardrails": {"fields": {"locked": ["resource_defaults.cpu_request"]}}}`}, cpu("1"), nil},
		{"layers that are fine apart", []string{`profile p: {"resource_defaults": {"cpu_request": "2", "cpu_limit": "4"}}`, `binding r/p: {"resource_defaults": {"cpu_limit": "1"}}`}, &specpb.Launch{},
			[]string{"GUARDRAIL_VIOLATED resource_defaults.cpu_request 2>1 (profile p, binding r/p)"}},
		{"a thousandth too much", []string{`profile p: {"resource_defaults": {"cpu_request": "1001m"}}`}, cpu("1"),
			[]string{"GUARDRAIL_VIOLATED resource_defaults.cpu_request 1001m>1 (profile p, request)"}},
		{"no image is none that any pattern allows", []string{`profile p: {"guardrails": {"images": {"allowed": ["**"]}}}`}, &specpb.Launch{},
			[]string{"LIMIT_MISSING container_image >** (-, profile p)"}},
		{"a static namespace without its name", []string{`profile p: {"namespace": {"strategy": "static"}}`}, &specpb.Launch{},
			[]string{"UNRESOLVABLE namespace.static_namespace >static (-, profile p)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			layers := []resolve.Input{resolve.BuiltIn()}
			for _, text := range tt.layers {
				object, body, _ := strings.Cut(text, ": ")
				layers = append(layers, input(t, object, body))
			}
			got := summary(Check(Effective(layers), subject(t, tt.launch)))
			if tt.want == nil {
				tt.want = []string{}
			}
			same(t, got, tt.want)
		})
	}
}

func TestASubjectMadeByHandIsChecked(t *testing.T) {
	// Whoever writes the literal gets the same answer: what is prepared for speed must not be what is checked.
	l := Effective([]resolve.Input{resolve.BuiltIn(), input(t, "profile p", `{"guardrails": {"images": {"allowed": ["good/**"]}, "annotations": {"denied_prefixes": ["x"]}}}`)})
	made := subject(t, &specpb.Launch{ContainerImage: "evil:1", PodAnnotations: map[string]string{"x": "y"}})
	byHand := &Subject{Request: made.Request, Origin: made.Origin, RuntimeClass: made.RuntimeClass}
	want := summary(Check(l, made))
	if len(want) != 2 || Admits(l, &Subject{Request: made.Request}) {
		t.Errorf("got %v", want)
	}
	same(t, summary(Check(l, byHand)), want)
}

func TestAdmitsIsCheckWithoutWords(t *testing.T) {
	l := Effective([]resolve.Input{resolve.BuiltIn(), input(t, "profile p", `{"guardrails": {"ports": {"max_count": 0}}}`)})
	for _, launch := range []*specpb.Launch{{}, {Ports: []*specpb.Port{{ContainerPort: 1}}}} {
		if got, want := Admits(l, subject(t, launch)), len(Check(l, subject(t, launch))) == 0; got != want {
			t.Errorf("%v: admits %v, checks %v", launch, got, want)
		}
	}
}

func TestNearestLeavesOutWhatCannotMove(t *testing.T) {
	// The limit asked for is below the request that holds, and the request is locked: only the limit can give way.
	l := Effective([]resolve.Input{resolve.BuiltIn(), input(t, "profile p",
		`{"resource_defaults": {"cpu_request": "1", "cpu_limit": "4"}, "guardrails": {"fields": {"locked": ["resource_defaults.cpu_request"]}}}`)})
	near, changes := Nearest(l, subject(t, &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "500m", Memory: "1Gi"}}))
	if near == nil || len(changes) != 1 || changes[0].Path != "resource_limits.cpu" || changes[0].To != nil || near.GetResourceLimits().GetMemory() != "1Gi" {
		t.Errorf("got %v by %v", near, changes)
	}
}
