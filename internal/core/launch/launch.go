// Package launch knows what a launch request is: its shape and limits, the part of it that is layer 4, its stored form, and
// the single changes by which one request becomes another.
//
// Request paths are those that callers write: a request in its published form has resource_limits.cpu and
// network.egress_mode. The paths of the spec that such fields touch, resource_defaults.cpu_limit and
// network.egress.selected, are those of the layers. SpecPath and RequestPath lead from one to the other.
package launch

import (
	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

// Request is a launch whose shape was checked, with what was parsed on the way. It is immutable.
type Request struct {
	Launch *specpb.Launch
	// Layer is layer 4: the fields of the spec that the request names, and no other.
	Layer *spec.Layer
	// GPU is what is asked for, nil without GPUs.
	GPU *specpb.Gpu
	// MountedBytes is the sum of the contents of all mounted files.
	MountedBytes int64
}

// New checks the shape of a launch. The error is an Invalid fault, CWSANDBOX_INVALID_REQUEST, with every violation, or an
// Unimplemented one, CWSANDBOX_NOT_IMPLEMENTED, when the request is well formed but asks for what this build cannot serve.
func New(l *specpb.Launch) (*Request, error) {
	if l == nil {
		l = &specpb.Launch{}
	}
	r := &Request{Launch: l}
	var p problems
	p.shape(l)
	r.GPU = p.gpu(l)
	for _, f := range l.GetMountedFiles() {
		r.MountedBytes += int64(len(f.GetContent()))
	}
	r.Layer = p.layer(l, r.GPU)
	if err := p.err(); err != nil {
		return nil, err
	}
	if len(l.GetUnsupported()) > 0 {
		return nil, unsupported(l.GetUnsupported())
	}
	return r, nil
}

// Validate is New for its error alone.
func Validate(l *specpb.Launch) error {
	_, err := New(l)
	return err
}

// Layer returns layer 4 of a launch. The error is that of New.
func Layer(l *specpb.Launch) (*spec.Layer, error) {
	r, err := New(l)
	if err != nil {
		return nil, err
	}
	return r.Layer, nil
}

func unsupported(paths []string) error {
	e := fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "the request uses what this server cannot serve yet")
	for _, path := range paths[:min(len(paths), MaxUnsupported)] {
		e.WithField(path, "not implemented by this server")
	}
	return e.WithHint("leave these fields out")
}

// layer makes layer 4. What is wrong with a value is reported under the name that the caller used for it.
func (p *problems) layer(l *specpb.Launch, gpu *specpb.Gpu) *spec.Layer {
	s := &specpb.ProfileSpec{}
	text := func(v string) *string {
		if v == "" {
			return nil
		}
		return &v
	}
	s.ContainerImage = text(l.GetContainerImage())
	d := &specpb.ResourceDefaults{
		CpuRequest: text(l.GetResourceRequests().GetCpu()), MemoryRequest: text(l.GetResourceRequests().GetMemory()),
		CpuLimit: text(l.GetResourceLimits().GetCpu()), MemoryLimit: text(l.GetResourceLimits().GetMemory()),
		Gpu: gpu,
	}
	if d.CpuRequest != nil || d.MemoryRequest != nil || d.CpuLimit != nil || d.MemoryLimit != nil || gpu != nil {
		s.ResourceDefaults = d
	}
	if m := text(l.GetEgressMode()); m != nil {
		s.Network = &specpb.Network{Egress: &specpb.Egress{Selected: m}}
	}
	if m := text(l.GetIngressMode()); m != nil {
		if s.Network == nil {
			s.Network = &specpb.Network{}
		}
		s.Network.Ingress = &specpb.Ingress{Selected: m}
	}
	if len(l.GetPodAnnotations()) > 0 {
		s.Pod = &specpb.Pod{Metadata: &specpb.PodMetadata{Annotations: l.GetPodAnnotations()}}
	}
	layer, err := spec.FromMessage(s)
	if err != nil {
		for _, f := range fault.From(err).Fields {
			p.add(RequestPath(f.Path), "%s", f.Description)
		}
		if len(fault.From(err).Fields) == 0 {
			p.add("", "%s", fault.From(err).Message)
		}
	}
	return layer
}

// gpu returns the one amount of GPUs that the request asks for. Clients repeat it as request and as limit: GPUs are not
// overcommitted, so both must say the same.
func (p *problems) gpu(l *specpb.Launch) *specpb.Gpu {
	asked, limit := l.GetResourceRequests().GetGpu(), l.GetResourceLimits().GetGpu()
	before := p.Len()
	for _, g := range []struct {
		at  string
		gpu *specpb.Gpu
	}{{"resource_requests.gpu", asked}, {"resource_limits.gpu", limit}} {
		if g.gpu != nil {
			p.oneGPU(g.at, g.gpu)
		}
	}
	if p.Len() > before {
		return nil
	}
	if asked.GetCount() == 0 {
		asked = nil
	}
	if limit.GetCount() == 0 {
		limit = nil
	}
	switch {
	case asked == nil && limit == nil:
		return nil
	case asked == nil || limit == nil:
		// One of the two stands for both, as in Kubernetes.
		if asked == nil {
			return limit
		}
		return asked
	case asked.GetCount() != limit.GetCount() || asked.GetType() != limit.GetType() || asked.GetMemoryGb() != limit.GetMemoryGb():
		p.add("resource_requests.gpu", "differs from resource_limits.gpu: GPUs cannot be overcommitted, ask for the same in both")
	}
	return limit
}

func (p *problems) oneGPU(at string, g *specpb.Gpu) {
	switch {
	case g.GetCount() < 0 || g.GetCount() > MaxGPUs:
		p.add(at+".gpu_count", "%d is not between 0 and %d", g.GetCount(), MaxGPUs)
	case g.GetCount() == 0 && (g.GetType() != "" || g.GetMemoryGb() != 0):
		p.add(at+".gpu_count", "a type or a memory size needs a count of at least 1")
	}
	if g.GetType() != "" && g.GetMemoryGb() != 0 {
		p.add(at, "gpu_type and gpu_memory_gb exclude each other")
	}
	if g.GetMemoryGb() < 0 {
		p.add(at+".gpu_memory_gb", "%d is negative", g.GetMemoryGb())
	}
}
