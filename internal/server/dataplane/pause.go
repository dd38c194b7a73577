package dataplane

import (
	"context"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/server/edge"
)

// Pause answers when every process of the sandbox stands still.
func (s *gateway) Pause(ctx context.Context, r *v1beta2pb.PauseSandboxRequest) (*v1beta2pb.PauseSandboxResponse, error) {
	ctx, cancel, err := bounded(ctx, r.GetMaxTimeoutSeconds())
	if err != nil {
		return nil, err
	}
	defer cancel()
	if err := s.control.Pause(ctx, edge.Principal(ctx), r.GetSandboxId()); err != nil {
		return nil, err
	}
	return &v1beta2pb.PauseSandboxResponse{Success: true}, nil
}

// Resume answers when the sandbox goes on.
func (s *gateway) Resume(ctx context.Context, r *v1beta2pb.ResumeSandboxRequest) (*v1beta2pb.ResumeSandboxResponse, error) {
	ctx, cancel, err := bounded(ctx, r.GetMaxTimeoutSeconds())
	if err != nil {
		return nil, err
	}
	defer cancel()
	if err := s.control.Resume(ctx, edge.Principal(ctx), r.GetSandboxId()); err != nil {
		return nil, err
	}
	return &v1beta2pb.ResumeSandboxResponse{Success: true}, nil
}
