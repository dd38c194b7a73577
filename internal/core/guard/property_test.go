package guard

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// matches is what each image pattern of the generator means, by hand: the expectation does not share code with the check.
var matches = map[string][]string{
	"**":                  {"host", "python:3.11", "docker.io/library/python:3.11", "evil.example/x:1", "registry.example/a/b" + digest},
	"host":                {"host"},
	"python:*":            {"python:3.11", "docker.io/library/python:3.11"},
	"registry.example/**": {"registry.example/a/b" + digest},
	"**:1":                {"evil.example/x:1"},
}

type object = map[string]any

// some returns a random part of candidates, drawn one by one.
func some(t *rapid.T, label string, candidates object) object {
	out := object{}
	for _, key := range slices.Sorted(maps.Keys(candidates)) {
		if rapid.IntRange(0, 2).Draw(t, label+"."+key) > 0 {
			continue
		}
		switch v := candidates[key].(type) {
		case object:
			if inner := some(t, label+"."+key, v); len(inner) > 0 {
				out[key] = inner
			}
		case []string:
			out[key] = rapid.SampledFrom(v).Draw(t, key)
		case []int:
			out[key] = rapid.SampledFrom(v).Draw(t, key)
		case [][]string:
			out[key] = rapid.SampledFrom(v).Draw(t, key)
		case []bool:
			out[key] = rapid.SampledFrom(v).Draw(t, key)
		case []object:
			out[key] = rapid.SampledFrom(v).Draw(t, key)
		}
	}
	return out
}

func guardrails() object {
	return object{
		"resources":       object{"max_cpu": []string{"1", "2", "2000m", "4"}, "max_memory": []string{"1Gi", "2Gi"}, "max_gpu": []int{0, 1, 4}, "require_limits": []bool{true, false}},
		"images":          object{"allowed": [][]string{{"**"}, {"host", "python:*"}, {"registry.example/**", "host"}, {"**:1", "python:*"}}, "require_digest": []bool{true, false}},
		"runtime_classes": [][]string{{"crun"}, {"crun", "gvisor"}, {"gvisor", "kata"}},
		"lifetime":        object{"default_seconds": []int{60, 600}, "max_seconds": []int{0, 60, 3600}},
		"annotations":     object{"denied_prefixes": [][]string{{"a"}, {"b/", "c"}}, "max_count": []int{0, 1, 2}},
		"fields":          object{"locked": [][]string{{"container_image"}, {"resource_defaults"}, {"network"}, {"resource_defaults.cpu_request"}, {"pod.metadata.annotations"}}},
		"mounted_files":   object{"max_bytes": []int{0, 4, 10}},
		"ports":           object{"max_count": []int{0, 1}},
	}
}

func layerObject() object {
	return object{
		"container_image": slices.Sorted(maps.Keys(map[string]bool{"host": true, "python:3.11": true, "evil.example/x:1": true, "registry.example/a/b" + digest: true})),
		"runtime_class":   []string{"crun", "gvisor", "kata"},
		"resource_defaults": object{
			"cpu_limit": []string{"1", "2", "4"}, "memory_limit": []string{"1Gi", "2Gi"}, "cpu_request": []string{"500m", "1"}, "memory_request": []string{"512Mi", "1Gi"},
		},
		"pod": object{"metadata": object{"annotations": []object{{"a": "1"}, {"b/x": "2"}}}},
		"network": object{
			"egress":  object{"default": []string{"none", "all", "other"}, "modes": []object{{"none": object{"type": "none"}}, {"none": object{"type": "none"}, "all": object{"type": "internet"}}}},
			"ingress": object{"default": []string{"", "public"}, "modes": []object{{"public": object{"scope": "any"}}}},
		},
		"guardrails": guardrails(),
	}
}

func drawLayers(t *rapid.T) []resolve.Input {
	layers := []resolve.Input{resolve.BuiltIn()}
	for i, object := range []string{"zone z", "profile p", "binding r/p"} {
		layers = append(layers, drawInput(t, resolve.LayerZone+resolve.Layer(i), object, layerObject()))
	}
	return layers
}

func drawInput(t *rapid.T, kind resolve.Layer, name string, from object) resolve.Input {
	text, err := json.Marshal(some(t, name, from))
	if err != nil {
		t.Fatal(err)
	}
	l, err := spec.ParseLayer(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return resolve.Input{Origin: resolve.Origin{Layer: kind, Object: name}, Layer: l}
}

func drawLaunch(t *rapid.T) *specpb.Launch {
	maybe := func(label string, values ...string) string {
		return rapid.SampledFrom(append([]string{"", ""}, values...)).Draw(t, label)
	}
	l := &specpb.Launch{
		ContainerImage: maybe("image", "host", "python:3.11", "docker.io/library/python:3.11", "evil.example/x:1", "registry.example/a/b"+digest),
		EgressMode:     maybe("egress", "none", "all", "other"), IngressMode: maybe("ingress", "public", "private"),
		MaxLifetimeSeconds: rapid.SampledFrom([]int32{0, 0, 30, 60, 3600, 86400}).Draw(t, "lifetime"),
		ResourceRequests:   &specpb.ResourceAmounts{Cpu: maybe("cpu request", "500m", "1", "8"), Memory: maybe("memory request", "512Mi", "2Gi")},
		ResourceLimits:     &specpb.ResourceAmounts{Cpu: maybe("cpu limit", "1000m", "2", "8"), Memory: maybe("memory limit", "1Gi", "4Gi")},
	}
	if n := rapid.SampledFrom([]int64{0, 0, 1, 2, 8}).Draw(t, "gpus"); n > 0 {
		l.ResourceLimits.Gpu, l.ResourceRequests.Gpu = &specpb.Gpu{Count: n}, &specpb.Gpu{Count: n}
	}
	for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "ab", "b/x", "c", "d", "kubernetes.io/x"}), 0, 4, rapid.ID[string]).Draw(t, "annotations") {
		if l.PodAnnotations == nil {
			l.PodAnnotations = map[string]string{}
		}
		l.PodAnnotations[key] = "v"
	}
	for i, size := range rapid.SliceOfN(rapid.IntRange(0, 6), 0, 3).Draw(t, "files") {
		l.MountedFiles = append(l.MountedFiles, &specpb.MountedFile{Path: fmt.Sprintf("/f%d", i), Content: make([]byte, size)})
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "ports") {
		l.Ports = append(l.Ports, &specpb.Port{ContainerPort: int32(8000 + i)})
		if rapid.Bool().Draw(t, "exposed") {
			l.ExposedPorts = append(l.ExposedPorts, int32(8000+i))
		}
	}
	return l
}

// draw returns a launch of good shape; the generator also makes a few that are not.
func draw(t *rapid.T) *Subject {
	l := rapid.Custom(drawLaunch).Filter(func(l *specpb.Launch) bool { return launch.Validate(l) == nil }).Draw(t, "launch")
	r, err := launch.New(l)
	if err != nil {
		t.Fatal(err)
	}
	return NewSubject(r, &resolve.Origin{Layer: resolve.LayerRequest, Object: "request"}, "crun")
}

func overlay(layers []resolve.Input, s *Subject) *resolve.Resolved {
	return resolve.Fold(layers).Overlay(resolve.Input{Origin: *s.Origin, Layer: s.Request.Layer})
}

func TestAdmittedSatisfiesEveryLayer(t *testing.T) {
	admitted := 0
	rapid.Check(t, func(t *rapid.T) {
		layers, s := drawLayers(t), draw(t)
		if len(Check(Effective(layers), s)) > 0 {
			return
		}
		admitted++
		r := overlay(layers, s)
		for _, in := range layers {
			if why := outside(in.Layer.Message().GetGuardrails(), r, resolve.Fold(layers), s); why != "" {
				t.Fatalf("admitted, but outside the guardrails of %s: %s\n%s", in.Origin.Object, why, in.Layer)
			}
		}
	})
	if admitted == 0 {
		t.Error("nothing was admitted: the property was never put to the test")
	}
}

// outside says which guardrail of one layer a resolved launch breaks, read off the messages, without what Check uses.
func outside(g *specpb.Guardrails, r *resolve.Resolved, below *resolve.Folded, s *Subject) string {
	m, l, base := r.Message(), s.Request.Launch, below.Message()
	d, res, images := m.GetResourceDefaults(), g.GetResources(), g.GetImages()
	var broken []string
	bad := func(is bool, what string) {
		if is {
			broken = append(broken, what)
		}
	}
	bad(res != nil && above(spec.ParseCPU, d.GetCpuLimit(), res.MaxCpu), "max_cpu")
	bad(res != nil && above(spec.ParseMemory, d.GetMemoryLimit(), res.MaxMemory), "max_memory")
	bad(res != nil && res.MaxGpu != nil && d.GetGpu().GetCount() > *res.MaxGpu, "max_gpu")
	bad(res.GetRequireLimits() && (d.GetCpuLimit() == "" || d.GetMemoryLimit() == ""), "require_limits")
	bad(len(images.GetAllowed()) > 0 && !slices.ContainsFunc(images.GetAllowed(), func(p string) bool { return slices.Contains(matches[p], m.GetContainerImage()) }), "images.allowed")
	bad(images.GetRequireDigest() && !strings.Contains(m.GetContainerImage(), "@sha256:"), "images.require_digest")
	class := m.GetRuntimeClass()
	if class == "" {
		class = s.RuntimeClass
	}
	bad(len(g.GetRuntimeClasses()) > 0 && !slices.Contains(g.GetRuntimeClasses(), class), "runtime_classes")
	life := l.GetMaxLifetimeSeconds()
	if life == 0 {
		life = m.GetGuardrails().GetLifetime().GetDefaultSeconds()
	}
	bad(g.GetLifetime() != nil && g.GetLifetime().MaxSeconds != nil && (life > g.GetLifetime().GetMaxSeconds() || g.GetLifetime().GetMaxSeconds() == 0), "lifetime.max_seconds")
	for key := range l.GetPodAnnotations() {
		bad(slices.ContainsFunc(g.GetAnnotations().GetDeniedPrefixes(), func(p string) bool { return strings.HasPrefix(key, p) }), "annotations.denied_prefixes")
	}
	bad(g.GetAnnotations() != nil && g.GetAnnotations().MaxCount != nil && len(l.GetPodAnnotations()) > int(*g.GetAnnotations().MaxCount), "annotations.max_count")
	size := 0
	for _, f := range l.GetMountedFiles() {
		size += len(f.GetContent())
	}
	bad(g.GetMountedFiles() != nil && int64(size) > g.GetMountedFiles().GetMaxBytes(), "mounted_files.max_bytes")
	bad(g.GetPorts() != nil && len(l.GetPorts()) > int(g.GetPorts().GetMaxCount()), "ports.max_count")
	bd := base.GetResourceDefaults()
	for _, lock := range g.GetFields().GetLocked() {
		switch lock {
		case "container_image":
			bad(NormalizeImage(m.GetContainerImage()) != NormalizeImage(base.GetContainerImage()), lock)
		case "resource_defaults":
			bad(differ(spec.ParseCPU, d.GetCpuLimit(), bd.GetCpuLimit()) || differ(spec.ParseCPU, d.GetCpuRequest(), bd.GetCpuRequest()) || d.GetGpu() != nil ||
				differ(spec.ParseMemory, d.GetMemoryLimit(), bd.GetMemoryLimit()) || differ(spec.ParseMemory, d.GetMemoryRequest(), bd.GetMemoryRequest()), lock)
		case "resource_defaults.cpu_request":
			bad(differ(spec.ParseCPU, d.GetCpuRequest(), bd.GetCpuRequest()), lock)
		case "network":
			bad(l.GetEgressMode() != "" && l.GetEgressMode() != base.GetNetwork().GetEgress().GetDefault(), lock)
			bad(l.GetIngressMode() != "" && l.GetIngressMode() != base.GetNetwork().GetIngress().GetDefault(), lock)
		case "pod.metadata.annotations":
			bad(len(l.GetPodAnnotations()) > 0, lock)
		default:
			bad(true, "the generator has a lock that is not checked here: "+lock)
		}
	}
	return strings.Join(broken, ", ")
}

// above reports whether a limit is above a maximum; no limit at all is.
func above(parse func(string) (int64, error), text string, most *string) bool {
	if most == nil {
		return false
	}
	a, err := parse(text)
	b, _ := parse(*most)
	return err != nil || a > b
}

func differ(parse func(string) (int64, error), a, b string) bool {
	x, errX := parse(a)
	y, errY := parse(b)
	return x != y || (errX == nil) != (errY == nil)
}

func TestTighteningNeverAdmitsMore(t *testing.T) {
	refused := 0
	rapid.Check(t, func(t *rapid.T) {
		layers, s := drawLayers(t), draw(t)
		tighter := drawInput(t, resolve.LayerZone, "owner", object{"guardrails": guardrails()})
		if len(Check(Effective(layers), s)) == 0 {
			return
		}
		refused++
		if after := Check(Effective(layers, tighter), s); len(after) == 0 {
			t.Fatalf("the guardrails %s admit what was refused without them", tighter.Layer)
		}
	})
	if refused == 0 {
		t.Error("nothing was refused: the property was never put to the test")
	}
}

func TestLoweringAMaximumNeverAdmitsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layers, s := drawLayers(t), draw(t)
		before := Check(Effective(layers), s)
		at := rapid.IntRange(1, len(layers)-1).Draw(t, "layer")
		m := layers[at].Layer.Message()
		res := m.GetGuardrails().GetResources()
		if res.GetMaxCpu() == "" || len(before) == 0 {
			return
		}
		res.MaxCpu = proto.String("500m")
		l, err := spec.FromMessage(m)
		if err != nil {
			t.Fatal(err)
		}
		layers[at].Layer = l
		if after := Check(Effective(layers), s); len(after) == 0 {
			t.Fatal("a smaller maximum admits what was refused")
		}
	})
}

func TestARequestChangesOnlyWhatItNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layers, s := drawLayers(t), draw(t)
		folded := resolve.Fold(layers)
		named := map[string]bool{}
		for _, leaf := range s.Request.Layer.Leaves() {
			named[leaf.Path()] = true
			for _, e := range leaf.Entries() {
				named[e.Path()] = true
			}
		}
		rest := func(values []resolve.Value) map[string]string {
			out := map[string]string{}
			for _, v := range values {
				// The map itself stays what layers 1 to 3 say; a request's entries stand beside it.
				if !named[v.Path()] || v.Field.Additive && v.Key == "" {
					out[v.Path()] = v.State.String() + string(v.JSON()) + v.Origin.Object
				}
			}
			return out
		}
		before, after := rest(folded.Fields()), rest(overlay(layers, s).Fields())
		if !maps.Equal(before, after) {
			t.Fatalf("the request %s changed\n%v\ninto\n%v", s.Request.Layer, before, after)
		}
	})
}

func TestNearest(t *testing.T) {
	helped := 0
	rapid.Check(t, func(t *rapid.T) {
		layers, s := drawLayers(t), draw(t)
		l := Effective(layers)
		original := proto.CloneOf(s.Request.Launch)
		violations := Check(l, s)
		near, changes := Nearest(l, s)
		if !proto.Equal(original, s.Request.Launch) {
			t.Fatal("the request itself was modified")
		}
		switch {
		case len(violations) == 0 && len(changes) > 0:
			t.Fatalf("changes to a request that passes: %v", changes)
		case near == nil:
			return
		case !admits(l, s, near):
			t.Fatalf("the nearest request is refused: %s", Explain(Check(l, subjectOf(t, near))))
		}
		helped += len(changes)
		for _, c := range changes {
			if admits(l, s, launch.Undo(near, original, c.Path)) {
				t.Fatalf("undoing the change of %s is admitted: it was not needed", c.Path)
			}
		}
		if len(violations) > 0 && len(changes) == 0 {
			t.Fatal("a refused request passes without a change")
		}
	})
	if helped == 0 {
		t.Error("no request was ever helped")
	}
}

func subjectOf(t *rapid.T, l *specpb.Launch) *Subject {
	r, err := launch.New(l)
	if err != nil {
		t.Fatal(err)
	}
	return NewSubject(r, &resolve.Origin{Layer: resolve.LayerRequest, Object: "request"}, "crun")
}

// TestNearestIsFound makes sure that help is not given up too easily: what only bounds numbers can always be repaired.
func TestNearestIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bounds := object{"guardrails": object{
			"resources": object{"max_cpu": []string{"1", "2"}, "max_memory": []string{"1Gi", "2Gi"}, "max_gpu": []int{0, 1}},
			"lifetime":  object{"max_seconds": []int{60, 3600}}, "annotations": object{"max_count": []int{0, 1}},
			"mounted_files": object{"max_bytes": []int{0, 4}}, "ports": object{"max_count": []int{0, 1}},
		}, "resource_defaults": layerObject()["resource_defaults"]}
		layers := []resolve.Input{resolve.BuiltIn(), drawInput(t, resolve.LayerProfile, "profile p", bounds)}
		s := draw(t)
		if near, _ := Nearest(Effective(layers), s); near == nil {
			t.Fatalf("no help for %s under %s", Explain(Check(Effective(layers), s)), layers[1].Layer)
		}
	})
}

func TestEveryViolationIsComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layers, s := drawLayers(t), draw(t)
		for _, v := range Check(Effective(layers), s) {
			if v.Reason == "" || v.Path == "" || v.Message == "" || v.LimitOrigin == nil {
				t.Fatalf("incomplete: %+v", v)
			}
		}
	})
}
