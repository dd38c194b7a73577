package local

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"
	"sigs.k8s.io/yaml"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// TestVerdicts walks every leaf of the spec: what is declared as refused is refused, and what is declared as enforced changes
// what is run or is refused where it cannot be. A new field needs a row here, unless it is recorded: see TestRecorded.
func TestVerdicts(t *testing.T) {
	rows := map[string]struct {
		// with sets the field, to something that this backend acts on.
		with string
		// shows reports whether the order shows it; nil when refusing is what is done.
		shows func(*order, []fault.Field) bool
	}{
		"container_image":                           {`{"containerImage":"team/tool:1"}`, func(o *order, _ []fault.Field) bool { return o.image == "team/tool:1" }},
		"runtime_class":                             {`{"runtimeClass":"runc"}`, func(o *order, _ []fault.Field) bool { return o.runtime == "runc" }},
		"resource_defaults.cpu_request":             {`{"resourceDefaults":{"cpuRequest":"250m"}}`, func(o *order, _ []fault.Field) bool { return o.limits.CPURequestMillis == 250 }},
		"resource_defaults.cpu_limit":               {`{"resourceDefaults":{"cpuLimit":"2"}}`, func(o *order, _ []fault.Field) bool { return o.limits.CPUMillis == 2000 }},
		"resource_defaults.memory_limit":            {`{"resourceDefaults":{"memoryLimit":"1Gi"}}`, func(o *order, _ []fault.Field) bool { return o.limits.MemoryBytes == 1<<30 }},
		"resource_defaults.ephemeral_storage_limit": {`{"resourceDefaults":{"ephemeralStorageLimit":"1Gi"}}`, func(o *order, _ []fault.Field) bool { return o.diskBytes == 1<<30 }},
		"resource_defaults.pids_limit":              {`{"resourceDefaults":{"pidsLimit":77}}`, func(o *order, _ []fault.Field) bool { return o.limits.PIDs == 77 }},
		"resource_defaults.gpu":                     {`{"resourceDefaults":{"gpu":{"count":1}}}`, refusal("resource_defaults.gpu")},
		"network.egress.default":                    {`{"network":{"egress":{"default":"m","modes":{"m":{"type":"internet"}}}}}`, func(o *order, _ []fault.Field) bool { return o.mode == "m" && o.networked() }},
		"network.egress.modes":                      {`{"network":{"egress":{"default":"m","modes":{"m":{"type":"allowlist","cidrs":["10.0.0.0/8"]}}}}}`, func(o *order, _ []fault.Field) bool { return len(o.egress.GetCidrs()) == 1 }},
		"network.egress.selected":                   {`{"network":{"egress":{"selected":"m","modes":{"m":{"type":"org"}}}}}`, func(o *order, _ []fault.Field) bool { return o.egress.GetType() == "org" }},
		"network.egress.require":                    {`{"network":{"egress":{"require":"proven"}}}`, refusal("network.egress.require")},
		"network.ingress.default":                   {`{"network":{"ingress":{"default":"m","modes":{"m":{}}}}}`, exposes(core.AudienceTokens)},
		"network.ingress.modes":                     {`{"network":{"ingress":{"default":"m","modes":{"m":{"scope":"org"}}}}}`, exposes(core.AudienceOrg)},
		"network.ingress.selected":                  {`{"network":{"ingress":{"selected":"n","modes":{"n":{"expectsExternalAddress":true}}}}}`, exposes(core.AudiencePublic)},
		"pod.spec":                                  {`{"pod":{"spec":{"hostPID":true}}}`, refusal("pod.spec.hostPID")},
		"image_sources.aliases": {`{"imageSources":{"aliases":{"a:1":"b:2"}}}`, func(o *order, _ []fault.Field) bool {
			return o.names.Aliases["index.docker.io/library/a:1"].Image == "b:2"
		}},
		"image_sources.mirrors": {`{"imageSources":{"mirrors":{"docker.io":{"hosts":["m.example/hub"]}}}}`, func(o *order, _ []fault.Field) bool {
			return slices.Equal(o.names.Mirrors["index.docker.io"], []string{"m.example/hub"})
		}},
	}
	seen := map[string]bool{}
	for _, f := range spec.Fields() {
		v := f.Verdict(Kind).Verdict
		row, ok := rows[f.Path]
		seen[f.Path] = true
		switch {
		case f.Guardrail, f.ProfileOnly:
			// The core enforces guardrails, and chooses between runners, before a backend sees the launch.
			if v != specpb.Verdict_VERDICT_ENFORCED {
				t.Errorf("%s: %v", f.Path, v)
			}
		case v == specpb.Verdict_VERDICT_RECORDED:
			if ok {
				t.Errorf("%s is declared as recorded and has a row", f.Path)
			}
		case v != specpb.Verdict_VERDICT_ENFORCED && v != specpb.Verdict_VERDICT_REFUSED:
			t.Errorf("%s has no verdict of the local backend", f.Path)
		case !ok:
			t.Errorf("%s is declared as %v and nothing here shows it", f.Path, v)
		default:
			w := work()
			w.Spec = &specpb.ProfileSpec{}
			w.Launch.Ports, w.Launch.ExposedPorts = []*specpb.Port{{ContainerPort: 80}}, []int32{80}
			if err := protojson.Unmarshal([]byte(row.with), w.Spec); err != nil {
				t.Fatal(err)
			}
			if !row.shows(read(w, capable())) {
				t.Errorf("%s: %s has no effect", f.Path, row.with)
			}
		}
	}
	for path := range rows {
		if !seen[path] {
			t.Errorf("%s is no field", path)
		}
	}
}

// exposes: the exposed port of the work is led to by the gateway, for an audience.
func exposes(to core.Audience) func(*order, []fault.Field) bool {
	return func(o *order, fields []fault.Field) bool {
		return len(fields) == 0 && o.service.Exposes(80) && o.service.Through == to
	}
}

func refusal(path string) func(*order, []fault.Field) bool {
	return func(_ *order, fields []fault.Field) bool { return len(fields) == 1 && fields[0].Path == path }
}

// TestRecorded: a field, or a key, that is declared as recorded changes nothing of what is run, and is not refused. Each is tried
// with the example of its documentation.
func TestRecorded(t *testing.T) {
	plain := work()
	want, refused := read(plain, capable())
	if len(refused) > 0 || (bundle.Limits{}) == want.limits {
		t.Fatalf("%+v, %+v", want, refused)
	}
	tried := 0
	try := func(path, text string) {
		t.Helper()
		tried++
		asJSON, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatalf("%s: %s: %v", path, text, err)
		}
		example, err := spec.ParseLayer(asJSON)
		if err != nil {
			t.Fatalf("%s: %s: %v", path, text, err)
		}
		base, err := spec.FromMessage(plain.Spec)
		if err != nil {
			t.Fatal(err)
		}
		w := work()
		w.Spec = resolve.Fold([]resolve.Input{{Layer: base}, {Layer: example}}).Message()
		if got, fields := read(w, capable()); len(fields) > 0 || !cmp.Equal(got, want, cmp.AllowUnexported(order{}), protocmp.Transform()) {
			t.Errorf("%s is declared as recorded: %s makes %+v of %+v, refused is %+v", path, text, got, want, fields)
		}
	}
	for _, f := range spec.Fields() {
		if f.Verdict(Kind).Verdict == specpb.Verdict_VERDICT_RECORDED {
			try(f.Path, nested(f.Path, f.Example))
		}
		for key, v := range f.KeyEnforcement[Kind] {
			if v.Verdict != specpb.Verdict_VERDICT_RECORDED {
				t.Errorf("%s: only what is recorded is tried here", f.PathOf(key))
			}
			try(f.PathOf(key), nested(f.PathOf(key), "{x: y}"))
		}
	}
	if tried < 10 {
		t.Errorf("only %d fields were tried", tried)
	}
}

// nested writes a value at a path as YAML.
func nested(path, value string) string {
	names := strings.Split(path, ".")
	return "{" + strings.Join(names, ": {") + ": " + value + strings.Repeat("}", len(names))
}
