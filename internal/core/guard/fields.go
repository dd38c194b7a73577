package guard

import (
	"sync"

	"github.com/bermhq/berm/internal/core/spec"
)

// dimension is one of the two resources that have a request, a limit and a default ceiling.
type dimension struct {
	// name is for messages. asked and limited are what the request calls its two fields.
	name, asked, limited string
	request, limit, max  *spec.Field
}

// fieldSet holds the fields that checks look at, found once.
type fieldSet struct {
	dimensions                                    [2]dimension
	image, runtimeClass                           *spec.Field
	egressDefault, egressModes, egressSelected    *spec.Field
	ingressDefault, ingressModes, ingressSelected *spec.Field
	annotations, nodeSelector, pod                *spec.Field
	maxGPU, requireLimits                         *spec.Field
	imagesAllowed, requireDigest, runtimeClasses  *spec.Field
	lifetimeDefault, lifetimeMax                  *spec.Field
	deniedPrefixes, annotationCount, locked       *spec.Field
	mountedBytes, portCount                       *spec.Field
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
			},
			{
				name: "memory", asked: "resource_requests.memory", limited: "resource_limits.memory",
				request: at("resource_defaults.memory_request"), limit: at("resource_defaults.memory_limit"), max: at("guardrails.resources.max_memory"),
			},
		},
		image: at("container_image"), runtimeClass: at("runtime_class"),
		egressDefault: at("network.egress.default"), egressModes: at("network.egress.modes"), egressSelected: at("network.egress.selected"),
		ingressDefault: at("network.ingress.default"), ingressModes: at("network.ingress.modes"), ingressSelected: at("network.ingress.selected"),
		annotations: at("pod.metadata.annotations"), nodeSelector: at("node_selector"), pod: at("pod.spec"),
		maxGPU: at("guardrails.resources.max_gpu"), requireLimits: at("guardrails.resources.require_limits"),
		imagesAllowed: at("guardrails.images.allowed"), requireDigest: at("guardrails.images.require_digest"),
		runtimeClasses:  at("guardrails.runtime_classes"),
		lifetimeDefault: at("guardrails.lifetime.default_seconds"), lifetimeMax: at("guardrails.lifetime.max_seconds"),
		deniedPrefixes: at("guardrails.annotations.denied_prefixes"), annotationCount: at("guardrails.annotations.max_count"),
		locked: at("guardrails.fields.locked"), mountedBytes: at("guardrails.mounted_files.max_bytes"), portCount: at("guardrails.ports.max_count"),
	}
})
