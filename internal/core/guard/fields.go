package guard

import (
	"sync"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/spec"
)

// dimension is one of the two resources that have a request, a limit and a default ceiling.
type dimension struct {
	// name is for messages. asked and limited are what the request calls its two fields.
	name, asked, limited string
	request, limit, max  *spec.Field
	// get and set are the resource of one half of a request; parse reads its quantities.
	get   func(*specpb.ResourceAmounts) string
	set   func(*specpb.ResourceAmounts, string)
	parse func(string) (int64, error)
}

// fieldSet holds the fields that checks look at, found once.
type fieldSet struct {
	dimensions                                    [2]dimension
	image, runtimeClass                           *spec.Field
	egressDefault, egressModes, egressSelected    *spec.Field
	ingressDefault, ingressModes, ingressSelected *spec.Field
	annotations, nodeSelector, pod                *spec.Field
	maxGPU, requireLimits                         *spec.Field
	storage, maxStorage                           *spec.Field
	imagesAllowed, requireDigest, runtimeClasses  *spec.Field
	lifetimeDefault, lifetimeMax, idleMax         *spec.Field
	deniedPrefixes, annotationCount, locked       *spec.Field
	mountedBytes, portCount                       *spec.Field
}

// checked returns the fields whose values every check looks at, the most frequent ones first.
func (s *fieldSet) checked() []*spec.Field {
	out := []*spec.Field{s.egressDefault, s.ingressDefault, s.annotations, s.image, s.runtimeClass}
	for _, d := range s.dimensions {
		out = append(out, d.limit, d.request)
	}
	return out
}

// fields finds them on first use. A name that the schema does not have is nil; a test looks for that.
var fields = sync.OnceValue(func() *fieldSet {
	at := func(path string) *spec.Field {
		f, _, _ := spec.ByPath(path)
		return f
	}
	return &fieldSet{
		dimensions: [2]dimension{
			{
				name: "CPU", asked: "resource_requests.cpu", limited: "resource_limits.cpu",
				request: at("resource_defaults.cpu_request"), limit: at("resource_defaults.cpu_limit"), max: at("guardrails.resources.max_cpu"),
				get: (*specpb.ResourceAmounts).GetCpu, set: func(a *specpb.ResourceAmounts, to string) { a.Cpu = to }, parse: spec.ParseCPU,
			},
			{
				name: "memory", asked: "resource_requests.memory", limited: "resource_limits.memory",
				request: at("resource_defaults.memory_request"), limit: at("resource_defaults.memory_limit"), max: at("guardrails.resources.max_memory"),
				get: (*specpb.ResourceAmounts).GetMemory, set: func(a *specpb.ResourceAmounts, to string) { a.Memory = to }, parse: spec.ParseMemory,
			},
		},
		image: at("container_image"), runtimeClass: at("runtime_class"),
		egressDefault: at("network.egress.default"), egressModes: at("network.egress.modes"), egressSelected: at("network.egress.selected"),
		ingressDefault: at("network.ingress.default"), ingressModes: at("network.ingress.modes"), ingressSelected: at("network.ingress.selected"),
		annotations: at("pod.metadata.annotations"), nodeSelector: at("node_selector"), pod: at("pod.spec"),
		maxGPU: at("guardrails.resources.max_gpu"), requireLimits: at("guardrails.resources.require_limits"),
		storage: at("resource_defaults.ephemeral_storage_limit"), maxStorage: at("guardrails.resources.max_ephemeral_storage"),
		imagesAllowed: at("guardrails.images.allowed"), requireDigest: at("guardrails.images.require_digest"),
		runtimeClasses:  at("guardrails.runtime_classes"),
		lifetimeDefault: at("guardrails.lifetime.default_seconds"), lifetimeMax: at("guardrails.lifetime.max_seconds"),
		idleMax:        at("guardrails.lifetime.max_idle_seconds"),
		deniedPrefixes: at("guardrails.annotations.denied_prefixes"), annotationCount: at("guardrails.annotations.max_count"),
		locked: at("guardrails.fields.locked"), mountedBytes: at("guardrails.mounted_files.max_bytes"), portCount: at("guardrails.ports.max_count"),
	}
})
