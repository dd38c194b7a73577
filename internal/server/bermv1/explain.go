package bermv1

import (
	"context"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/startreq"
	"github.com/bermhq/berm/internal/server/wire"
)

type explainService struct {
	bermv1rpc.UnsafeExplainServiceServer
	*Front
}

var _ bermv1rpc.ExplainServiceServer = (*explainService)(nil)

func (s *explainService) GetSandbox(ctx context.Context, r *bermv1.GetSandboxRequest) (*bermv1.Sandbox, error) {
	v, err := s.control.Get(ctx, edge.Principal(ctx), r.GetSandboxId())
	if err != nil {
		return nil, err
	}
	submitted, err := s.control.Submitted(ctx, edge.Principal(ctx), r.GetSandboxId())
	if err != nil {
		return nil, err
	}
	out := sandbox(v.Sandbox)
	out.Request, out.ForkedFrom = startreq.Request(v.Sandbox.Launch), v.Sandbox.Launch.GetForkOf()
	out.Isolation, out.Submitted, out.Network, out.Usage = v.Isolation, wire.Struct(submitted), s.networkState(ctx, r.GetSandboxId()), usage(v.Usage)
	return out, nil
}

func service(s *core.Service) *bermv1.Service {
	if s == nil {
		return nil
	}
	out := &bermv1.Service{Mode: s.Mode, Address: s.Address, Problem: s.Problem}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, &bermv1.ServicePort{Name: p.Name, ContainerPort: p.ContainerPort, Port: p.Port, Protocol: p.Protocol})
	}
	return out
}

func usage(u *core.Usage) *bermv1.Usage {
	if u == nil {
		return nil
	}
	return &bermv1.Usage{
		CpuMillicores: u.CPUMillis, MemoryBytes: u.MemoryBytes, Pids: u.PIDs, Gpus: u.GPUs, DiskBytes: u.DiskBytes, OutputBytes: u.OutputBytes,
		NetworkBytes: u.NetworkBytes,
	}
}

func (s *explainService) ExplainSandbox(ctx context.Context, r *bermv1.ExplainSandboxRequest) (*bermv1.ExplainSandboxResponse, error) {
	e, err := s.control.Explain(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetFieldPath())
	if err != nil {
		return nil, err
	}
	var network *bermv1.NetworkState
	if r.GetFieldPath() == "" {
		network = s.networkState(ctx, r.GetSandboxId())
	}
	return &bermv1.ExplainSandboxResponse{
		SandboxId: e.SandboxID, RunnerId: e.RunnerID, ProfileName: e.ProfileName, ProfileId: e.ProfileID, ProfileRevision: e.ProfileRevision,
		Fields: explained(e.Fields), Candidates: wire.Candidates(e.Candidates), Timeline: timeline(e.Timeline),
		Digest: e.Digest, Observation: string(e.Observation), Isolation: e.Isolation, OmittedCandidates: wire.Count(e.Omitted),
		Submitted: wire.Struct(e.Submitted), Network: network, Groups: wire.Groups(e.Steps, nil),
	}, nil
}

func (s *explainService) ExplainDrift(ctx context.Context, r *bermv1.ExplainDriftRequest) (*bermv1.ExplainDriftResponse, error) {
	d, err := s.control.Drift(ctx, edge.Principal(ctx), r.GetSandboxId())
	if err != nil {
		return nil, err
	}
	out := &bermv1.ExplainDriftResponse{SandboxId: d.SandboxID, RunnerId: d.RunnerID, OmittedFields: wire.Count(d.Omitted)}
	for i := range d.Fields {
		f := &d.Fields[i]
		m := &bermv1.DriftField{Path: f.Path, Kind: f.Kind, Filled: f.Filled, By: f.By, At: wire.Time(f.At)}
		if f.Submitted != nil {
			m.Submitted = wire.Value(f.Submitted)
		}
		if f.Held != nil {
			m.Held = wire.Value(f.Held)
		}
		out.Fields = append(out.Fields, m)
	}
	return out, nil
}

func (s *explainService) PlanSandbox(ctx context.Context, r *bermv1.PlanSandboxRequest) (*bermv1.PlanSandboxResponse, error) {
	if r.GetRequest() == nil {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "invalid plan request").WithField("request", "must be given; {} asks for the default of everything")
	}
	l, err := s.table.Launch(r.GetRequest())
	if err != nil {
		return nil, err
	}
	p := edge.Principal(ctx)
	planned, err := s.control.Plan(ctx, p, l)
	if err != nil {
		return nil, err
	}
	if r.GetNetworkDestination() != "" {
		// Also of a launch that is refused: what is no destination is said at once.
		if _, err := egress.ParseTarget(r.GetNetworkDestination()); err != nil {
			e := fault.From(err).Clone()
			for i := range e.Fields {
				e.Fields[i].Path = "network_destination"
			}
			return nil, e
		}
	}
	if planned.Refusal != nil {
		refusal := wire.Refusal(planned.Refusal)
		return &bermv1.PlanSandboxResponse{Refusal: refusal, Candidates: refusal.GetCandidates(), OmittedCandidates: refusal.GetOmittedCandidates()}, nil
	}
	e := planned.Explanation
	out := &bermv1.PlanSandboxResponse{
		Admitted: true, RunnerId: e.RunnerID, ProfileName: e.ProfileName, ProfileId: e.ProfileID, ProfileRevision: e.ProfileRevision,
		Digest: e.Digest, Spec: wire.Struct(e.Spec), Fields: explained(e.Fields), Candidates: wire.Candidates(e.Candidates),
		OmittedCandidates: wire.Count(e.Omitted), Groups: wire.Groups(e.Steps, planned.Plan.Hold),
	}
	if r.GetNetworkDestination() != "" {
		d, err := s.control.PlanNetwork(ctx, p, planned, r.GetNetworkDestination())
		if err != nil {
			return nil, err
		}
		out.Network = decision(d)
	}
	if !r.GetIncludePod() {
		return out, nil
	}
	out.Pod, err = s.podOf(p, planned)
	return out, err
}

func explained(fields []control.ExplainedField) []*bermv1.ExplainedField {
	out := make([]*bermv1.ExplainedField, len(fields))
	for i, f := range fields {
		out[i] = &bermv1.ExplainedField{
			Path: f.Path, Value: wire.Value(f.Value), Layer: f.Layer, Object: f.Object, Revision: f.Revision, By: f.By, At: wire.Time(f.At),
			Reason: f.Reason, Enforcement: f.Enforcement, EnforcementNote: f.Note, Shadowed: shadowed(f.Shadowed), Combined: shadowed(f.Combined),
		}
	}
	return out
}

func shadowed(list []control.ShadowedValue) []*bermv1.ShadowedValue {
	out := make([]*bermv1.ShadowedValue, len(list))
	for i, s := range list {
		out[i] = &bermv1.ShadowedValue{Value: wire.Value(s.Value), Layer: s.Layer, Object: s.Object, Revision: s.Revision}
	}
	return out
}

func timeline(events []core.Event) []*bermv1.TimelineEvent {
	out := make([]*bermv1.TimelineEvent, len(events))
	for i, e := range events {
		out[i] = &bermv1.TimelineEvent{Name: e.Name, At: wire.Time(e.At), Message: e.Message, Attributes: e.Attrs}
	}
	return out
}
