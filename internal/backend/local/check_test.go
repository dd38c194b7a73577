package local

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// capable is a machine that has everything.
func capable() machine {
	return machine{cgroup: "v1", cpu: true, memory: true, pids: true, swap: true, memoryBytes: 16 << 30, openFiles: 1024, pidsLimit: DefaultPIDs, disk: true}
}

// checked is a backend that can check, and runs nothing.
func checked(t *testing.T, change func(*machine)) *Backend {
	t.Helper()
	m := capable()
	if change != nil {
		change(&m)
	}
	b, err := New(t.Context(), Config{Dir: t.TempDir(), RunnerName: "r1", ImageFile: images(t, "allow: []"), Runtimes: []string{"runtime-of-nobody"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	b.machine, b.info.Refusal = m, ""
	b.runtimes = map[string]ociRuntime{"crun": {name: "crun", seen: probed{cpu: true, memory: true, pids: true, filter: true}}}
	b.info.RuntimeClasses, b.info.DefaultRuntimeClass = []string{"crun"}, "crun"
	return b
}

// TestCheckRefusals: each thing that this machine does not honour is named, and nothing else is.
func TestCheckRefusals(t *testing.T) {
	b := checked(t, nil)
	if err := b.Check(work("true")); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(&backend.Work{SandboxID: "x"}); err != nil {
		t.Fatalf("a work without a spec: %v", err)
	}
	spec := func(text string) func(*backend.Work) {
		return func(w *backend.Work) {
			s := &specpb.ProfileSpec{}
			if err := protojson.Unmarshal([]byte(text), s); err != nil {
				t.Fatal(err)
			}
			proto.Merge(w.Spec, s)
		}
	}
	launch := func(text string) func(*backend.Work) {
		return func(w *backend.Work) {
			l := &specpb.Launch{}
			if err := protojson.Unmarshal([]byte(text), l); err != nil {
				t.Fatal(err)
			}
			proto.Merge(w.Launch, l)
		}
	}
	long := strings.Repeat("x", MaxString)
	for name, c := range map[string]struct {
		change func(*backend.Work)
		path   string
		words  string
	}{
		"egress unknown":      {spec(`{"network":{"egress":{"selected":"net","modes":{"net":{"type":"everything"}}}}}`), "network.egress.selected", "everything"},
		"egress undeclared":   {spec(`{"network":{"egress":{"selected":"other"}}}`), "network.egress.selected", "not declared"},
		"ingress":             {spec(`{"network":{"ingress":{"selected":"public"}}}`), "network.ingress.selected", "not declared"},
		"ingress by default":  {spec(`{"network":{"ingress":{"default":"public"}}}`), "network.ingress.selected", "not declared"},
		"node port":           {spec(`{"network":{"ingress":{"default":"m","modes":{"m":{"service":{"serviceType":"NodePort"}}}}}}`), "network.ingress.selected", "say ClusterIP"},
		"gpu":                 {spec(`{"resourceDefaults":{"gpu":{"count":1}}}`), "resource_defaults.gpu", "GPU"},
		"gpu type":            {spec(`{"resourceDefaults":{"gpu":{"type":"A100"}}}`), "resource_defaults.gpu", "GPU"},
		"pod key":             {spec(`{"pod":{"spec":{"hostNetwork":true}}}`), "pod.spec.hostNetwork", "pods"},
		"cpu too small":       {spec(`{"resourceDefaults":{"cpuLimit":"5m"}}`), "resource_defaults.cpu_limit", "10m"},
		"memory too small":    {spec(`{"resourceDefaults":{"memoryLimit":"1Mi"}}`), "resource_defaults.memory_limit", fmt.Sprint(MinMemoryBytes)},
		"quantity":            {spec(`{"resourceDefaults":{"memoryLimit":"much"}}`), "resource_defaults.memory_limit", "quantity"},
		"unsupported":         {launch(`{"unsupported":["volumes"]}`), "volumes", "later"},
		"arguments alone":     {func(w *backend.Work) { w.Launch = &specpb.Launch{Args: []string{"x"}} }, "args", "without a command"},
		"long argument":       {launch(`{"args":["` + long + `"]}`), "args", "argument"},
		"zero byte":           {launch(`{"args":["a\u0000b"]}`), "args", "zero byte"},
		"name of a variable":  {launch(`{"environmentVariables":{"A=B":"x"}}`), "environment_variables", "name"},
		"value of a variable": {launch(`{"environmentVariables":{"A":"\u0000"}}`), "environment_variables[A]", "zero byte"},
		"long variable":       {launch(`{"environmentVariables":{"A":"` + long + `"}}`), "environment_variables[A]", "less than"},
		"relative file":       {launch(`{"mountedFiles":[{"path":"a"}]}`), "mounted_files[0].path", "absolute"},
		"unclean file":        {launch(`{"mountedFiles":[{"path":"/a/../b"}]}`), "mounted_files[0].path", "shortest"},
		"file in proc":        {launch(`{"mountedFiles":[{"path":"/proc/1/mem"}]}`), "mounted_files[0].path", "/proc"},
		"file in dev":         {launch(`{"mountedFiles":[{"path":"/dev/berm-init"}]}`), "mounted_files[0].path", "/dev"},
		"file is sys":         {launch(`{"mountedFiles":[{"path":"/sys"}]}`), "mounted_files[0].path", "/sys"},
		"file in usr of host": {launch(`{"mountedFiles":[{"path":"/usr/bin/sh"}]}`), "mounted_files[0].path", "/usr"},
		"file is the root":    {launch(`{"mountedFiles":[{"path":"/"}]}`), "mounted_files[0].path", "root"},
		"file twice":          {launch(`{"mountedFiles":[{"path":"/a"},{"path":"/a"}]}`), "mounted_files[1].path", "twice"},
		"file in a file":      {launch(`{"mountedFiles":[{"path":"/a/b"},{"path":"/a"}]}`), "mounted_files[0].path", "mounted file"},
		"id":                  {func(w *backend.Work) { w.SandboxID = "../x" }, "sandbox_id", "letters"},
		"id of dots":          {func(w *backend.Work) { w.SandboxID = ".." }, "sandbox_id", "letters"},
		"long id":             {func(w *backend.Work) { w.SandboxID = strings.Repeat("x", MaxIDLength+1) }, "sandbox_id", "at most"},
		"too many files":      {func(w *backend.Work) { w.Launch.MountedFiles = make([]*specpb.MountedFile, MaxMountedFiles+1) }, "mounted_files", "at most"},
		"files too large": {func(w *backend.Work) {
			w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/a", Content: make([]byte, MaxMountedBytes+1)}}
		}, "mounted_files", "at most"},
		"too many arguments": {func(w *backend.Work) { w.Launch.Args = make([]string, MaxArgs) }, "args", "at most"},
		"environment too large": {func(w *backend.Work) {
			w.Launch.EnvironmentVariables = map[string]string{"A": long[:MaxString-3], "B": long[:MaxString-3], "C": long[:100]}
		}, "environment_variables", "together"},
	} {
		w := work("true")
		c.change(w)
		err := b.Check(w)
		if !fault.Is(err, fault.Precondition) || !fault.HasReason(err, fault.ReasonBackendUnsupported) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		fields := fault.From(err).Fields
		if len(fields) != 1 || fields[0].Path != c.path || !strings.Contains(fields[0].Description, c.words) {
			t.Errorf("%s: %+v, want %s with %q alone", name, fields, c.path, c.words)
		}
		if err := b.Create(t.Context(), w); !fault.HasReason(err, fault.ReasonBackendUnsupported) {
			t.Errorf("%s: create: %v", name, err)
		}
	}
}

// TestNoID: a plan has no id yet; a sandbox without one is refused, and nothing is harmed.
func TestNoID(t *testing.T) {
	b := checked(t, nil)
	w := work("true")
	w.SandboxID = ""
	if err := b.Check(w); err != nil {
		t.Error(err)
	}
	if err := b.Create(t.Context(), w); !fault.HasReason(err, fault.ReasonBackendUnsupported) {
		t.Errorf("%v", err)
	}
	if !exists(b.place.sandboxes()) {
		t.Error("the directory of all sandboxes is gone")
	}
}

// TestCreateOverRemains: records that nobody knows are not overwritten and not removed.
func TestCreateOverRemains(t *testing.T) {
	b := checked(t, nil)
	w := work("true")
	if err := os.MkdirAll(filepath.Join(b.place.sandbox(w.SandboxID), "precious"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), w); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	if !exists(filepath.Join(b.place.sandbox(w.SandboxID), "precious")) {
		t.Error("they are gone")
	}
	if err := os.RemoveAll(b.place.sandbox(w.SandboxID)); err != nil {
		t.Fatal(err)
	}
}

// TestCheckTogether: everything that is wrong is told at once.
func TestCheckTogether(t *testing.T) {
	b := checked(t, nil)
	w := work("true")
	w.Spec.RuntimeClass, w.Spec.ContainerImage = proto.String("gvisor"), proto.String("unknown:1")
	w.Spec.Network = &specpb.Network{Ingress: &specpb.Ingress{Default: proto.String("m")}}
	w.Launch.Unsupported = []string{"volumes"}
	var paths []string
	for _, f := range fault.From(b.Check(w)).Fields {
		paths = append(paths, f.Path)
	}
	if want := []string{"network.ingress.selected", "volumes", "runtime_class", "container_image"}; !slices.Equal(paths, want) {
		t.Errorf("%q, want %q", paths, want)
	}
}

// TestRuntimeClass: a class that was not probed is refused and never replaced.
func TestRuntimeClass(t *testing.T) {
	b := checked(t, nil)
	w := work("true")
	w.Spec.RuntimeClass = proto.String("runc")
	err := b.Check(w)
	e := fault.From(err)
	if !fault.Is(err, fault.NotFound) || e.Reason != fault.ReasonRuntimeNotFound || !strings.Contains(e.Message, "crun") || len(e.Fields) != 1 || e.Fields[0].Path != "runtime_class" {
		t.Errorf("%+v", e)
	}
}

// TestMissingControllers: a limit that cannot be enforced is refused; without one the sandbox runs.
func TestMissingControllers(t *testing.T) {
	b := checked(t, func(m *machine) { m.cpu, m.memory, m.pids = false, false, false })
	var paths []string
	for _, f := range fault.From(b.Check(work("true"))).Fields {
		paths = append(paths, f.Path)
	}
	if want := []string{"resource_defaults.cpu_limit", "resource_defaults.memory_limit"}; !slices.Equal(paths, want) {
		t.Errorf("%q, want %q", paths, want)
	}
	w := work("true")
	w.Spec.ResourceDefaults = nil
	if err := b.Check(w); err != nil {
		t.Error(err)
	}
	if o, _ := read(w, b.machine); o.limits.PIDs != 0 || o.limits.CPURequestMillis != 0 {
		t.Errorf("%+v", o.limits)
	}
	// CPU shares are not refused, but neither are they claimed.
	b.describe(core.Amounts{})
	if b.Info().Unenforced["resource_defaults.cpu_request"] == "" {
		t.Error("CPU shares count as enforced")
	}
	if capable := checked(t, nil); capable.Info().Unenforced != nil {
		t.Error(capable.Info().Unenforced)
	}
}

// TestNoRoot: a machine that can run nothing says so everywhere, and what still works.
func TestNoRoot(t *testing.T) {
	m := machine{refusal: "needs root"}
	rows := capabilities(m, []string{"crun"})
	works := map[string]bool{}
	for _, c := range rows {
		works[c.Feature] = c.Works
		if !c.Works && c.Reason == "" {
			t.Errorf("%s is refused without a reason", c.Feature)
		}
		if c.String() == "" || c.Title == "" {
			t.Errorf("%+v", c)
		}
	}
	if works[featureSandboxes] || works[featureHost] || works["runtime:crun"] || !works["control-plane"] {
		t.Errorf("%+v", works)
	}
	if f := features(rows); slices.Contains(f, featureEgress) {
		t.Errorf("%q", f)
	}
	b, err := New(t.Context(), Config{Dir: t.TempDir(), RunnerName: "r1", ImageFile: images(t, "allow: []"), Runtimes: []string{"runtime-of-nobody"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	if why := b.Info().Refusal; !strings.Contains(why, "runtime-of-nobody: not installed") {
		t.Errorf("%q", why)
	}
	for _, err := range []error{b.Check(work()), b.Create(t.Context(), work())} {
		if !fault.HasReason(err, fault.ReasonBackendUnsupported) || !strings.Contains(err.Error(), "runtime-of-nobody") {
			t.Errorf("%v", err)
		}
	}
	if _, err := b.Exec(t.Context(), "x", backend.Exec{}); !fault.HasReason(err, fault.ReasonSandboxNotFound) {
		t.Errorf("%v", err)
	}
}

// TestCapabilities: the table of this machine agrees with Info.
func TestCapabilities(t *testing.T) {
	b := open(t)
	info := b.Info()
	for _, c := range b.Capabilities() {
		if name, ok := strings.CutPrefix(c.Feature, "runtime:"); ok && c.Works != slices.Contains(info.RuntimeClasses, name) {
			t.Errorf("%+v", c)
		}
	}
	for _, f := range []string{featureEgress, featureHost, featureLayout, "cgroup:limits", featureCPU, featureMemory, featurePIDs} {
		if !slices.Contains(info.Features, f) {
			t.Errorf("%s is not among %q", f, info.Features)
		}
	}
	if info.DefaultRuntimeClass != "crun" || !slices.Equal(info.RuntimeClasses, []string{"crun", "runc", "runsc"}) {
		t.Errorf("%+v", info)
	}
}
