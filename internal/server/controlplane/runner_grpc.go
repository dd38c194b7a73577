package controlplane

import (
	"context"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/rest"
)

// runnerService is the gRPC form of managed runners.
type runnerService struct {
	v1beta2rpc.UnsafeManagedRunnerServiceServer
	front *Front
}

var _ v1beta2rpc.ManagedRunnerServiceServer = (*runnerService)(nil)

func (s *runnerService) CreateManagedRunner(ctx context.Context, r *v1beta2pb.CreateManagedRunnerRequest) (*v1beta2pb.Runner, error) {
	wrong := &rest.Problems{}
	m := r.GetRunner()
	rest.EnvelopeOf("runner", m, wrong).OutputOnly(m.ProtoReflect().Descriptor(), wrong)
	if m.GetEtag() != "" {
		wrong.Refuse(nil, "runner.etag", "belongs to updates: a new runner has no state yet")
	}
	in := runnerInput(m, wrong)
	identify(&in, r.GetRunnerId(), wrong)
	if err := wrong.Fault(); err != nil {
		return nil, err
	}
	in.Reason = rest.ReasonOf(ctx)
	v, warnings, err := s.front.control.CreateRunner(ctx, edge.Principal(ctx), in)
	if err != nil {
		return nil, err
	}
	return s.front.RunnerMessage(v, warnings)
}

func (s *runnerService) GetRunner(ctx context.Context, r *v1beta2pb.GetRunnerRequest) (*v1beta2pb.Runner, error) {
	return s.front.messageOr(s.front.control.GetRunner(ctx, edge.Principal(ctx), r.GetId()))
}

func (s *runnerService) ListRunners(ctx context.Context, r *v1beta2pb.ListRunnersRequest) (*v1beta2pb.ListRunnersResponse, error) {
	filter, err := runnerSelection(r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.front.control.ListRunners(ctx, edge.Principal(ctx), filter, pageFrom(r))
	if err != nil {
		return nil, err
	}
	out := &v1beta2pb.ListRunnersResponse{NextPageToken: next}
	for _, v := range list {
		m, err := s.front.RunnerMessage(v, nil)
		if err != nil {
			return nil, err
		}
		out.Runners = append(out.Runners, m)
	}
	return out, nil
}

func (s *runnerService) UpdateManagedRunner(ctx context.Context, r *v1beta2pb.UpdateManagedRunnerRequest) (*v1beta2pb.Runner, error) {
	wrong := &rest.Problems{}
	m := r.GetRunner()
	e := rest.EnvelopeOf("runner", m, wrong)
	mask := MaskFrom(r.GetUpdateMask(), control.RunnerPaths(), e, m, func() []string {
		return PresentPaths(rest.Without(e.Object, "etag"), m.ProtoReflect().Descriptor(), "", runnerLeaf)
	}, wrong)
	in := runnerInput(m, wrong)
	if err := wrong.Fault(); err != nil {
		return nil, err
	}
	in.Reason = rest.ReasonOf(ctx)
	v, warnings, err := s.front.control.UpdateRunner(ctx, edge.Principal(ctx), r.GetId(), control.RunnerPatch{Mask: mask, Runner: in, Etag: m.GetEtag()})
	if err != nil {
		return nil, err
	}
	return s.front.RunnerMessage(v, warnings)
}

func (s *runnerService) DeleteManagedRunner(ctx context.Context, r *v1beta2pb.DeleteManagedRunnerRequest) (*v1beta2pb.DeleteManagedRunnerResponse, error) {
	if err := s.front.control.DeleteRunner(ctx, edge.Principal(ctx), r.GetId(),
		control.DeleteOptions{Etag: r.GetEtag(), Force: r.GetForce(), Reason: rest.ReasonOf(ctx)}); err != nil {
		return nil, err
	}
	return &v1beta2pb.DeleteManagedRunnerResponse{}, nil
}

func (s *runnerService) ApplyManagedRunnerUpdate(ctx context.Context, r *v1beta2pb.ApplyManagedRunnerUpdateRequest) (*v1beta2pb.Runner, error) {
	return s.front.messageOr(s.front.control.ApplyRunnerUpdate(ctx, edge.Principal(ctx), r.GetId()))
}
