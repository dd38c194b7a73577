package kube_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/kube"
)

// elsewhere marks leaves that hold on Kubernetes, but not by anything in a sandbox's namespace, secret and pod.
const elsewhere = "elsewhere: "

// TestEveryEnforcedLeafReachesThePod walks the schema: every leaf that claims to be enforced on Kubernetes must change the
// objects, or say here what else makes it hold. A field that is added to the schema fails until it has a row.
func TestEveryEnforcedLeafReachesThePod(t *testing.T) {
	rows := map[string][2]string{ // without and with a value
		"container_image":                           {"container_image: a", "container_image: b"},
		"runtime_class":                             {"{}", "runtime_class: gvisor"},
		"resource_defaults.cpu_request":             {"{}", "resource_defaults: {cpu_request: 1m}"},
		"resource_defaults.memory_request":          {"{}", "resource_defaults: {memory_request: 1Mi}"},
		"resource_defaults.cpu_limit":               {"{}", "resource_defaults: {cpu_limit: 1m}"},
		"resource_defaults.memory_limit":            {"{}", "resource_defaults: {memory_limit: 1Mi}"},
		"resource_defaults.ephemeral_storage_limit": {"{}", "resource_defaults: {ephemeral_storage_limit: 1Gi}"},
		"resource_defaults.gpu":                     {"{}", "resource_defaults: {gpu: {count: 1}}"},
		"instance_types":                            {"{}", "instance_types: [a]"},
		"node_selector":                             {"{}", "node_selector: {a: b}"},
		"namespace.strategy":                        {"{}", "namespace: {strategy: per-user}"},
		"namespace.namespace_prefix":                {"namespace: {strategy: per-user}", "namespace: {strategy: per-user, namespace_prefix: a-}"},
		"namespace.static_namespace":                {"namespace: {strategy: static, static_namespace: a}", "namespace: {strategy: static, static_namespace: b}"},
		"namespace.auto_create":                     {"{}", "namespace: {auto_create: false}"},
		"namespace.labels":                          {"{}", "namespace: {labels: {a: b}}"},
		"namespace.pod_security":                    {"{}", "namespace: {pod_security: baseline}"},
		"namespace.quota.pods":                      {"{}", "namespace: {quota: {pods: 1}}"},
		"namespace.quota.cpu_request":               {"resource_defaults: {cpu_limit: 1m}", "{resource_defaults: {cpu_limit: 1m}, namespace: {quota: {cpu_request: 1m}}}"},
		"namespace.quota.memory_request":            {"resource_defaults: {memory_limit: 1Mi}", "{resource_defaults: {memory_limit: 1Mi}, namespace: {quota: {memory_request: 1Mi}}}"},
		"namespace.quota.cpu_limit":                 {"resource_defaults: {cpu_limit: 1m}", "{resource_defaults: {cpu_limit: 1m}, namespace: {quota: {cpu_limit: 1m}}}"},
		"namespace.quota.memory_limit":              {"resource_defaults: {memory_limit: 1Mi}", "{resource_defaults: {memory_limit: 1Mi}, namespace: {quota: {memory_limit: 1Mi}}}"},
		"namespace.quota.gpus":                      {"{}", "namespace: {quota: {gpus: 1}}"},
		"network.egress.default":                    {"{}", "network: {egress: {default: a}}"},
		"network.egress.selected":                   {"{}", "network: {egress: {selected: a}}"},
		"network.egress.modes":                      {elsewhere + "the mode in force becomes a NetworkPolicy", ""},
		"network.egress.require":                    {elsewhere + "a runner that has not proven the mode is refused", ""},
		"network.ingress.default":                   {"{}", "network: {ingress: {default: a, modes: {a: {scope: any}}}}"},
		"network.ingress.selected":                  {"{}", "network: {ingress: {selected: a, modes: {a: {scope: any}}}}"},
		"network.ingress.modes":                     {elsewhere + "the mode in force becomes a Service", ""},
		"placement.runner_groups":                   {elsewhere + "the gateway chooses the runner", ""},
		"placement.max_wait_seconds":                {elsewhere + "the gateway chooses the runner", ""},
		"pod.spec":                                  {"{}", "pod: {spec: {hostname: a}}"},
		"pod.metadata.annotations":                  {"{}", "pod: {metadata: {annotations: {a: b}}}"},
		"pod.metadata.labels":                       {"{}", "pod: {metadata: {labels: {a: b}}}"},
	}
	for _, path := range enforced((&specpb.ProfileSpec{}).ProtoReflect().Descriptor(), "") {
		row, ok := rows[path]
		delete(rows, path)
		switch {
		case !ok:
			t.Errorf("%s claims to be enforced on Kubernetes and has no row", path)
		case strings.HasPrefix(row[0], elsewhere):
		case objects(t, row[0]) == objects(t, row[1]):
			t.Errorf("%s claims to be enforced on Kubernetes, and %q makes the same objects as %q", path, row[1], row[0])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(rows)) {
		t.Errorf("%s is no leaf that is enforced on Kubernetes", path)
	}
}

// enforced lists the leaves below md that claim to be enforced on Kubernetes. Guardrails bound requests before a pod is made.
func enforced(md protoreflect.MessageDescriptor, at string) []string {
	var out []string
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		rules, _ := proto.GetExtension(fd.Options(), specpb.E_Field).(*specpb.FieldRules)
		path := strings.TrimPrefix(at+"."+string(fd.Name()), ".")
		switch {
		case rules.GetGuardrail():
		case fd.Message() == nil || fd.IsMap() || rules.GetAtomic() || rules.GetOpen():
			if slices.ContainsFunc(rules.GetEnforcement(), func(e *specpb.Enforcement) bool {
				return e.GetBackend() == "kube" && e.GetVerdict() == specpb.Verdict_VERDICT_ENFORCED
			}) {
				out = append(out, path)
			}
		default:
			out = append(out, enforced(fd.Message(), path)...)
		}
	}
	return out
}

// objects returns what a spec becomes.
func objects(t *testing.T, spec string) string {
	t.Helper()
	in := plain()
	decode(t, []byte(spec), in.Spec)
	if in.Spec.ContainerImage == nil {
		in.Spec.ContainerImage = new("python:3.11")
	}
	o, err := kube.ObjectsFor(in)
	if err != nil {
		t.Fatal(err)
	}
	text, err := o.YAML()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
