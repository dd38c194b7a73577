package bermv1

import (
	"context"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/server/edge"
)

type checkpointService struct {
	bermv1rpc.UnsafeCheckpointServiceServer
	*Front
}

var _ bermv1rpc.CheckpointServiceServer = (*checkpointService)(nil)

func (s *checkpointService) ForkSandbox(ctx context.Context, r *bermv1.ForkSandboxRequest) (*bermv1.ForkSandboxResponse, error) {
	sb, _, err := s.control.Fork(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetMaxLifetimeSeconds(), r.GetTags())
	if err != nil {
		return nil, err
	}
	return &bermv1.ForkSandboxResponse{
		SandboxId: sb.ID, ForkedFrom: r.GetSandboxId(), Status: string(sb.Status), StatusReason: sb.StatusReason,
		RunnerId: sb.RunnerID, ProfileName: sb.ProfileName, ProfileRevision: sb.ProfileRevision,
	}, nil
}

func (s *checkpointService) SuspendSandbox(ctx context.Context, r *bermv1.SuspendSandboxRequest) (*bermv1.SuspendSandboxResponse, error) {
	if err := s.control.Suspend(ctx, edge.Principal(ctx), r.GetSandboxId()); err != nil {
		return nil, err
	}
	return &bermv1.SuspendSandboxResponse{}, nil
}
