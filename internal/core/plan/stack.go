package plan

import (
	"slices"
	"sync"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/place"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// stack is layers 1 to 3 of a binding, folded, with everything that can be worked out before a request is known.
type stack struct {
	inputs []resolve.Input
	folded *resolve.Folded
	limits *guard.Limits
	// recorded, extra and bounds are the stored form of the layers, of what the runner adds to the guardrails, and of the
	// guardrails as they hold, which is the same for every sandbox.
	recorded, extra, bounds []byte

	cpuRequest, cpuLimit, memoryRequest, memoryLimit quantity
	image, runtimeClass                              string
	egress, ingress                                  string
	// features are what a runner must offer for each egress mode, without and with the image "host".
	features      map[string][2][]string
	selector      map[string]string
	instanceTypes []string
	order         order
}

// quantity is an amount that may not be there.
type quantity struct {
	amount int64
	known  bool
}

// needFields are the fields that decide where a sandbox can run.
type needFields struct {
	cpuRequest, cpuLimit, memoryRequest, memoryLimit *spec.Field
}

var fields = sync.OnceValue(func() *needFields {
	at := func(path string) *spec.Field {
		f, _, _ := spec.ByPath(path)
		return f
	}
	return &needFields{
		cpuRequest: at("resource_defaults.cpu_request"), cpuLimit: at("resource_defaults.cpu_limit"),
		memoryRequest: at("resource_defaults.memory_request"), memoryLimit: at("resource_defaults.memory_limit"),
	}
})

func newStack(inputs, extra []resolve.Input) *stack {
	s := &stack{inputs: inputs, folded: resolve.Fold(inputs)}
	s.limits = guard.Compile(s.folded, extra...)
	s.recorded = appendLayers(nil, s.folded.Inputs())
	s.extra = appendLayers(nil, extra)
	s.bounds = appendBounds(nil, s.limits, len(inputs), len(extra))
	value := func(path string) any {
		if v, ok := s.folded.Lookup(path); ok {
			return v.Any()
		}
		return nil
	}
	text := func(path string) string {
		t, _ := value(path).(string)
		return t
	}
	amount := func(f *spec.Field) quantity {
		v, ok := s.folded.At(f, "")
		if !ok {
			return quantity{}
		}
		a, known := v.Amount()
		return quantity{a, known}
	}
	set := fields()
	s.cpuRequest, s.cpuLimit = amount(set.cpuRequest), amount(set.cpuLimit)
	s.memoryRequest, s.memoryLimit = amount(set.memoryRequest), amount(set.memoryLimit)
	s.image, s.runtimeClass = text("container_image"), text("runtime_class")
	s.egress, s.ingress = text("network.egress.default"), text("network.ingress.default")
	s.instanceTypes, _ = value("instance_types").([]string)
	s.order = orderOf(value)
	s.selector, _ = guard.NodeSelector(s.folded)
	sure := text("network.egress.require") == "proven"
	s.features = map[string][2][]string{"": {nil, {featureHost}}}
	if sure {
		s.features[""] = withHost([]string{place.FeatureProven + kindNone})
	}
	modes, _ := value("network.egress.modes").(map[string]any)
	for name, m := range modes {
		mode, _ := m.(map[string]any)
		kind, _ := mode["type"].(string)
		features := []string{featureEgress + kind}
		if sure {
			features = append(features, place.FeatureProven+kind)
		}
		s.features[name] = withHost(features)
	}
	return s
}

// withHost returns features for any image, and for the image of the machine itself.
func withHost(features []string) [2][]string {
	return [2][]string{features, append([]string{featureHost}, features...)}
}

// Features that runners report, as in backend.Info.
const (
	featureHost   = "image:host"
	featureEgress = "egress:"
	featureGPU    = "gpu:"
	kindNone      = "none"
	imageHost     = "host"
)

// need returns what the request, over these layers, asks of a runner.
func (s *stack) need(r *launch.Request) place.Need {
	image, host := s.image, 0
	if asked := r.Launch.GetContainerImage(); asked != "" {
		image = asked
	}
	if image == imageHost {
		host = 1
	}
	n := place.Need{
		Reserve: s.reserve(r), RuntimeClass: s.runtimeClass, NodeSelector: s.selector, InstanceTypes: s.instanceTypes,
		Features: s.features[s.egressMode(r.Launch)][host],
	}
	if model := r.GPU.GetType(); model != "" {
		n.Features = slices.Concat(n.Features, []string{featureGPU + model})
	}
	return n
}

// reserve counts what is requested; a request that is not given is as large as its limit, as in Kubernetes.
func (s *stack) reserve(r *launch.Request) core.Amounts {
	set := fields()
	amount := func(asked, limit *spec.Field, ownAsked, ownLimit quantity) int64 {
		for _, q := range [...]quantity{over(r, asked, ownAsked), over(r, limit, ownLimit)} {
			if q.known {
				return q.amount
			}
		}
		return 0
	}
	return core.Amounts{
		CPUMillis:   amount(set.cpuRequest, set.cpuLimit, s.cpuRequest, s.cpuLimit),
		MemoryBytes: amount(set.memoryRequest, set.memoryLimit, s.memoryRequest, s.memoryLimit),
		GPUs:        r.GPU.GetCount(),
		Sandboxes:   1,
	}
}

// over returns the request's amount, else what is below it.
func over(r *launch.Request, f *spec.Field, below quantity) quantity {
	if leaf, ok := r.Layer.At(f, ""); ok {
		a, known := leaf.Amount()
		return quantity{a, known}
	}
	return below
}

func (s *stack) egressMode(l *specpb.Launch) string {
	if l.GetEgressMode() != "" {
		return l.GetEgressMode()
	}
	return s.egress
}

func (s *stack) ingressMode(l *specpb.Launch) string {
	if l.GetIngressMode() != "" {
		return l.GetIngressMode()
	}
	return s.ingress
}
