package launch

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestEveryFieldHasARow is the table of layer 4: what each field of a request touches in the spec. A field without a row
// fails the test.
func TestEveryFieldHasARow(t *testing.T) {
	rows := map[string]struct {
		launch  *specpb.Launch
		touches []string
	}{
		"command":                  {&specpb.Launch{Command: "sh"}, nil},
		"args":                     {&specpb.Launch{Args: []string{"a"}}, nil},
		"idle":                     {&specpb.Launch{Idle: true}, nil},
		"tags":                     {&specpb.Launch{Tags: []string{"a"}}, nil},
		"container_image":          {&specpb.Launch{ContainerImage: "python"}, []string{"container_image"}},
		"resource_requests.cpu":    {&specpb.Launch{ResourceRequests: &specpb.ResourceAmounts{Cpu: "1"}}, []string{"resource_defaults.cpu_request"}},
		"resource_requests.memory": {&specpb.Launch{ResourceRequests: &specpb.ResourceAmounts{Memory: "1Gi"}}, []string{"resource_defaults.memory_request"}},
		"resource_requests.gpu":    {&specpb.Launch{ResourceRequests: &specpb.ResourceAmounts{Gpu: &specpb.Gpu{Count: 1}}}, []string{"resource_defaults.gpu"}},
		"resource_limits.cpu":      {&specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "1"}}, []string{"resource_defaults.cpu_limit"}},
		"resource_limits.memory":   {&specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Memory: "1Gi"}}, []string{"resource_defaults.memory_limit"}},
		"resource_limits.gpu":      {&specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Gpu: &specpb.Gpu{Count: 1, Type: "A100"}}}, []string{"resource_defaults.gpu"}},
		"environment_variables":    {&specpb.Launch{EnvironmentVariables: map[string]string{"A": "b"}}, nil},
		"mounted_files":            {&specpb.Launch{MountedFiles: []*specpb.MountedFile{{Path: "/a"}}}, nil},
		"ports":                    {&specpb.Launch{Ports: []*specpb.Port{{ContainerPort: 1}}}, nil},
		"egress_mode":              {&specpb.Launch{EgressMode: "a"}, []string{"network.egress.selected"}},
		"ingress_mode":             {&specpb.Launch{IngressMode: "a"}, []string{"network.ingress.selected"}},
		"exposed_ports":            {&specpb.Launch{Ports: []*specpb.Port{{ContainerPort: 1}}, ExposedPorts: []int32{1}}, nil},
		"pod_annotations":          {&specpb.Launch{PodAnnotations: map[string]string{"a": "b"}}, []string{"pod.metadata.annotations"}},
		"profile_names":            {&specpb.Launch{ProfileNames: []string{"a"}}, nil},
		"profile_ids":              {&specpb.Launch{ProfileIds: []string{"a"}}, nil},
		"runner_ids":               {&specpb.Launch{RunnerIds: []string{"a"}}, nil},
		"max_lifetime_seconds":     {&specpb.Launch{MaxLifetimeSeconds: 1}, nil},
		"lease_id":                 {&specpb.Launch{LeaseId: "lease"}, nil},
		"purpose":                  {&specpb.Launch{Purpose: "a test"}, nil},
		"fork_of":                  {&specpb.Launch{ForkOf: "sbx"}, nil},
		"secret_stores":            {&specpb.Launch{SecretStores: []*specpb.SecretStoreUse{{StoreName: "team", Secrets: []*specpb.SecretUse{{Path: "p", EnvVar: "A"}}}}}, nil},
		"unsupported":              {&specpb.Launch{Unsupported: []string{"volumes"}}, nil},
	}
	seen := 0
	fields := (&specpb.Launch{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		for _, name := range rowNames(fields.Get(i)) {
			row, ok := rows[name]
			if !ok {
				t.Errorf("field %s of a launch has no row: say what it touches", name)
				continue
			}
			seen++
			r, err := New(row.launch)
			if name == "unsupported" {
				if !fault.Is(err, fault.Unimplemented) || !strings.Contains(err.Error(), "volumes") {
					t.Errorf("unsupported fields: got %v", err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			var touched []string
			for _, leaf := range r.Layer.Leaves() {
				touched = append(touched, leaf.Path())
			}
			if !slices.Equal(touched, row.touches) {
				t.Errorf("%s touches %v, want %v", name, touched, row.touches)
			}
		}
	}
	if seen != len(rows) {
		t.Errorf("%d rows are of fields that do not exist", len(rows)-seen)
	}
}

// rowNames returns the rows of a field: its own, or those of the fields of the amounts that it holds.
func rowNames(fd protoreflect.FieldDescriptor) []string {
	if fd.Message() == nil || fd.IsList() || fd.IsMap() {
		return []string{string(fd.Name())}
	}
	var out []string
	for i := range fd.Message().Fields().Len() {
		out = append(out, fmt.Sprintf("%s.%s", fd.Name(), fd.Message().Fields().Get(i).Name()))
	}
	return out
}

func TestPathsLeadBothWays(t *testing.T) {
	for _, row := range touched {
		if got := RequestPath(row.spec); got != row.request {
			t.Errorf("RequestPath(%s) = %s", row.spec, got)
		}
		if got, ok := SpecPath(row.request); !ok || got != row.spec {
			t.Errorf("SpecPath(%s) = %s", row.request, got)
		}
	}
	for in, want := range map[string]string{
		"pod.metadata.annotations[a.b/c]":  "pod_annotations[a.b/c]",
		"resource_defaults.cpu_limits":     "resource_defaults.cpu_limits",
		"guardrails.resources.max_cpu":     "guardrails.resources.max_cpu",
		"network.egress.selected.and.more": "network.egress_mode.and.more",
	} {
		if got := RequestPath(in); got != want {
			t.Errorf("RequestPath(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestShape(t *testing.T) {
	many := func(n int) []string { return slices.Repeat([]string{"a"}, n) }
	entries := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprintf("k%d", i)] = "v"
		}
		return m
	}
	ports := func(n int) (out []*specpb.Port) {
		for i := range n {
			out = append(out, &specpb.Port{ContainerPort: int32(i + 1)})
		}
		return out
	}
	files := func(paths ...string) (out []*specpb.MountedFile) {
		for _, p := range paths {
			out = append(out, &specpb.MountedFile{Path: p})
		}
		return out
	}
	cpu := func(request, limit string) *specpb.Launch {
		return &specpb.Launch{ResourceRequests: &specpb.ResourceAmounts{Cpu: request}, ResourceLimits: &specpb.ResourceAmounts{Cpu: limit}}
	}
	gpu := func(a, b *specpb.Gpu) *specpb.Launch {
		return &specpb.Launch{ResourceRequests: &specpb.ResourceAmounts{Gpu: a}, ResourceLimits: &specpb.ResourceAmounts{Gpu: b}}
	}
	tests := []struct {
		name   string
		launch *specpb.Launch
		want   []string // "path: text"; nil admits
	}{
		{"empty", &specpb.Launch{}, nil},
		{"an idle sandbox with arguments for its entrypoint", &specpb.Launch{Args: many(3)}, nil},
		{"idle", &specpb.Launch{Idle: true}, nil},
		{"idle with a command", &specpb.Launch{Idle: true, Command: "x"}, []string{"idle: a sandbox that idles has no main process"}},
		{"idle with arguments", &specpb.Launch{Idle: true, Args: many(1)}, []string{"idle: a sandbox that idles has no main process"}},
		{"too many arguments", &specpb.Launch{Args: many(MaxArgs + 1)}, []string{"args: 4097 entries"}},
		{"an argument that execve would cut", &specpb.Launch{Args: []string{"a\x00b"}}, []string{"args[0]: contains a zero byte"}},
		{"an argument that execve refuses", &specpb.Launch{Command: strings.Repeat("x", MaxArg+1)}, []string{"command: 131072 bytes, the limit is 131071"}},
		{"arguments that are too long together", &specpb.Launch{Args: slices.Repeat([]string{strings.Repeat("x", MaxArg)}, 9)}, []string{"command: command, arguments and environment have 1179639 bytes together"}},
		{"as many variables as allowed", &specpb.Launch{EnvironmentVariables: entries(MaxEnv)}, nil},
		{"one variable too many", &specpb.Launch{EnvironmentVariables: entries(MaxEnv + 1)}, []string{"environment_variables: 1025 entries"}},
		{"names of variables", &specpb.Launch{EnvironmentVariables: map[string]string{"": "x", "a=b": "x", "ok": "x\x00", "ü": "x"}}, []string{
			"environment_variables: a variable has no name", "environment_variables[a=b]: a name is of", "environment_variables[ok]: contains a zero byte", "environment_variables[ü]: a name is of"}},
		{"tags", &specpb.Launch{Tags: []string{"", "a", "a", "x\ny", strings.Repeat("t", MaxTag+1)}}, []string{
			"tags[0]: is empty", `tags[2]: "a" is given twice`, "tags[3]: contains a control character", "tags[4]: 129 bytes"}},
		{"too many tags", &specpb.Launch{Tags: many(MaxTags + 1)}, []string{"tags: 101 entries, the limit is 100"}},
		{"as many annotations as allowed", &specpb.Launch{PodAnnotations: entries(MaxAnnotations)}, nil},
		{"one annotation too many", &specpb.Launch{PodAnnotations: entries(MaxAnnotations + 1)}, []string{"pod_annotations: 101 entries, the limit is 100"}},
		{"as many ports as allowed", &specpb.Launch{Ports: ports(MaxPorts)}, nil},
		{"one port too many", &specpb.Launch{Ports: ports(MaxPorts + 1)}, []string{"ports: 65 entries"}},
		{"the same port for two protocols", &specpb.Launch{Ports: []*specpb.Port{{ContainerPort: 53, Protocol: "UDP"}, {ContainerPort: 53}}}, nil},
		{"bad ports", &specpb.Launch{Ports: []*specpb.Port{{ContainerPort: 65536}, {ContainerPort: 1, Protocol: "tcp"}, {ContainerPort: 2, Name: "UP"}, {ContainerPort: 2, Protocol: "TCP"}}}, []string{
			"ports[0].container_port: 65536 is not between", "ports[1].protocol: ", `ports[2].name: "UP" is not a port name`, "ports[3]: port 2/TCP is given twice"}},
		{"two ports of one name", &specpb.Launch{Ports: []*specpb.Port{{ContainerPort: 1, Name: "web"}, {ContainerPort: 2, Name: "web"}}}, []string{`ports[1].name: "web" is given twice`}},
		{"exposed ports are ports", &specpb.Launch{Ports: ports(2), ExposedPorts: []int32{1, 1, 3}}, []string{"network.exposed_ports[1]: 1 is given twice", "network.exposed_ports[2]: 3 is not one of ports"}},
		{"paths of files", &specpb.Launch{MountedFiles: files("", "a", "/", "/a/../b", "/a//b", "/a/", "/ok", "/x\x00")}, []string{
			"mounted_files[0].mount_path: is empty", `mounted_files[1].mount_path: "a" is not absolute`, `mounted_files[2].mount_path: "/" is not the plain path`,
			`mounted_files[3].mount_path: "/a/../b" is not`, `mounted_files[4].mount_path: "/a//b" is not`, `mounted_files[5].mount_path: "/a/" is not`, "mounted_files[7].mount_path: "}},
		{"a file where a directory is", &specpb.Launch{MountedFiles: files("/a", "/a-b", "/a/c", "/d", "/d")}, []string{`mounted_files: "/a" is a file and the directory of "/a/c"`, `mounted_files: "/d" is given twice`}},
		{"too many files", &specpb.Launch{MountedFiles: slices.Repeat(files("/a"), MaxMountedFiles+1)}, []string{"mounted_files: 257 entries"}},
		{"too many bytes", &specpb.Launch{MountedFiles: []*specpb.MountedFile{{Path: "/a", Content: make([]byte, MaxMountedBytes+1)}}}, []string{"mounted_files: 33554433 bytes together"}},
		{"the longest lifetime", &specpb.Launch{MaxLifetimeSeconds: MaxLifetimeSeconds}, nil},
		{"a longer one", &specpb.Launch{MaxLifetimeSeconds: MaxLifetimeSeconds + 1}, []string{"max_lifetime_seconds: 2592001 is not between 0 and 2592000"}},
		{"a negative one", &specpb.Launch{MaxLifetimeSeconds: -1}, []string{"max_lifetime_seconds: -1 is not"}},
		{"names", &specpb.Launch{ProfileNames: []string{""}, ProfileIds: []string{strings.Repeat("x", 64)}, RunnerIds: many(101)}, []string{
			"profile_names[0]: is empty", "profile_ids[0]: 64 bytes", "runner_ids: 101 entries"}},
		{"a request above its limit", cpu("2", "1"), []string{"resource_requests.cpu: 2 is above cpu_limit"}},
		{"a limit of nothing", cpu("", "0"), []string{"resource_limits.cpu: "}},
		{"finer than a thousandth", cpu("", "0.0005"), []string{"resource_limits.cpu: "}},
		{"not quantities", &specpb.Launch{ResourceLimits: &specpb.ResourceAmounts{Cpu: "NaN", Memory: "1e9Gi"}, ResourceRequests: &specpb.ResourceAmounts{Cpu: "-1", Memory: "0x10"}}, []string{
			`resource_requests.cpu: "-1" is negative`, `resource_requests.memory: "0x10"`, `resource_limits.cpu: "NaN"`, `resource_limits.memory: "1e9Gi"`}},
		{"GPUs in both halves", gpu(&specpb.Gpu{Count: 2, Type: "A100"}, &specpb.Gpu{Count: 2, Type: "A100"}), nil},
		{"no GPUs in one half is nothing said", gpu(&specpb.Gpu{}, &specpb.Gpu{Count: 1}), nil},
		{"no GPUs in both", gpu(&specpb.Gpu{}, &specpb.Gpu{}), nil},
		{"different GPUs", gpu(&specpb.Gpu{Count: 1}, &specpb.Gpu{Count: 2}), []string{"resource_requests.gpu: differs from resource_limits.gpu"}},
		{"GPUs without sense", gpu(&specpb.Gpu{Type: "A100"}, &specpb.Gpu{Count: -1, Type: "x", MemoryGb: 1}), []string{
			"resource_requests.gpu.gpu_count: a type or a memory size needs", "resource_limits.gpu.gpu_count: -1 is not between", "resource_limits.gpu: gpu_type and gpu_memory_gb exclude"}},
		{"an annotation key", &specpb.Launch{PodAnnotations: map[string]string{"a b": "c"}}, []string{`pod_annotations[a b]: the key "a b" is no`}},
		{"a mode name", &specpb.Launch{IngressMode: "a/b"}, []string{`network.ingress_mode: "a/b" is no mode name`}},
		{"an image", &specpb.Launch{ContainerImage: "-x"}, []string{"container_image: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.launch)
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !fault.Is(err, fault.Invalid) || !fault.HasReason(err, fault.ReasonInvalidRequest) {
				t.Fatalf("got %v, want an invalid request", err)
			}
			got := fault.From(err).Fields
			ok := len(got) == len(tt.want)
			for i := range min(len(got), len(tt.want)) {
				ok = ok && strings.HasPrefix(got[i].Path+": "+got[i].Description, tt.want[i])
			}
			if !ok {
				for _, f := range got {
					t.Logf("got %s: %s", f.Path, f.Description)
				}
				t.Errorf("want %q", tt.want)
			}
		})
	}
}

func TestNewDoesNotChangeTheRequest(t *testing.T) {
	l := &specpb.Launch{ContainerImage: "a", PodAnnotations: map[string]string{"a": "b"}, ResourceLimits: &specpb.ResourceAmounts{Gpu: &specpb.Gpu{Count: 1}}}
	before := proto.CloneOf(l)
	if _, err := New(l); err != nil || !proto.Equal(before, l) {
		t.Errorf("%v, %v became %v", err, before, l)
	}
}
