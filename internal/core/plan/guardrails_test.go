package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// TestEveryGuardrailHolds walks the guardrails: each is declared as enforced on every backend, so each must refuse some launch that
// would be admitted without it, and be named as the limit. A new guardrail needs a row here, and a check.
func TestEveryGuardrailHolds(t *testing.T) {
	amounts := func(cpu, memory string) *specpb.Launch {
		return &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: cpu, Memory: memory}}
	}
	rows := map[string]struct {
		value  string
		launch *specpb.Launch
	}{
		"guardrails.resources.max_cpu":               {`"1"`, amounts("2", "")},
		"guardrails.resources.max_memory":            {`"1Gi"`, amounts("", "2Gi")},
		"guardrails.resources.max_gpu":               {`0`, &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Gpu: &specpb.Gpu{Count: 1}}}},
		"guardrails.resources.max_ephemeral_storage": {`"1Gi"`, &specpb.Launch{}},
		"guardrails.resources.require_limits":        {`true`, &specpb.Launch{}},
		"guardrails.images.allowed":                  {`["host"]`, &specpb.Launch{ContainerImage: "python:3.11"}},
		"guardrails.images.require_digest":           {`true`, &specpb.Launch{ContainerImage: "python:3.11"}},
		"guardrails.runtime_classes":                 {`["gvisor"]`, &specpb.Launch{}},
		"guardrails.lifetime.max_seconds":            {`60`, &specpb.Launch{MaxLifetimeSeconds: 61}},
		"guardrails.annotations.denied_prefixes":     {`["a/"]`, &specpb.Launch{PodAnnotations: map[string]string{"a/b": ""}}},
		"guardrails.annotations.max_count":           {`0`, &specpb.Launch{PodAnnotations: map[string]string{"a": ""}}},
		"guardrails.fields.locked":                   {`["container_image"]`, &specpb.Launch{ContainerImage: "python:3.11"}},
		"guardrails.mounted_files.max_bytes":         {`0`, &specpb.Launch{MountedFiles: []*specpb.MountedFile{{Path: "/a", Content: []byte("a")}}}},
		"guardrails.ports.max_count":                 {`0`, &specpb.Launch{Ports: []*specpb.Port{{ContainerPort: 80}}}},
	}
	limits := func(path, value string) *guard.Limits {
		names := strings.Split(path, ".")
		text := value
		for _, name := range slices.Backward(names) {
			text = fmt.Sprintf(`{%q:%s}`, name, text)
		}
		l, err := spec.ParseLayer([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return guard.Effective([]resolve.Input{resolve.BuiltIn(), {Origin: resolve.Origin{Layer: resolve.LayerProfile, Object: "profile p"}, Layer: l}})
	}
	for _, f := range spec.Fields() {
		if !f.Guardrail {
			continue
		}
		row, ok := rows[f.Path]
		switch {
		case f.Path == "guardrails.lifetime.default_seconds":
			// It bounds nothing; it takes effect where a request is silent.
			if seconds, _ := limits(f.Path, `7`).Lifetime(0); seconds != 7 {
				t.Errorf("%s: a sandbox lives %d seconds", f.Path, seconds)
			}
		case f.Path == "guardrails.lifetime.max_idle_seconds":
			// No request says anything about it; package control stops what is idle for longer.
			if seconds := limits(f.Path, `7`).Idle(); seconds != 7 {
				t.Errorf("%s: a sandbox may be idle for %d seconds", f.Path, seconds)
			}
		case strings.HasPrefix(f.Path, usageRoot):
			refused := CheckUsage(usageChecks(limits(f.Path, `1`)), func(Subject) Counters {
				return Counters{Concurrent: 1, StartsLastMinute: 1, VCPUMilliHours: 1000}
			})
			if len(refused) != 1 || refused[0].LimitPath != f.Path {
				t.Errorf("%s refuses nothing: %+v", f.Path, refused)
			}
		case !ok:
			t.Errorf("%s is declared as enforced, and nothing here shows it", f.Path)
		default:
			request, err := launch.New(row.launch)
			if err != nil {
				t.Fatal(err)
			}
			s := guard.NewSubject(request, &resolve.Origin{Layer: resolve.LayerRequest, Object: "request"}, "crun")
			if without := guard.Check(guard.Effective([]resolve.Input{resolve.BuiltIn()}), s); len(without) > 0 {
				t.Errorf("%s: the launch is refused without it: %s", f.Path, guard.Explain(without))
			}
			if refused := guard.Check(limits(f.Path, row.value), s); len(refused) == 0 || refused[0].LimitPath != f.Path {
				t.Errorf("%s refuses nothing: %+v", f.Path, refused)
			}
		}
		delete(rows, f.Path)
	}
	for path := range rows {
		t.Errorf("%s is no guardrail", path)
	}
}
