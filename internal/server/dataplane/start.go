package dataplane

import (
	"context"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

// gateway is the unary service of sandboxes.
type gateway struct {
	v1beta2rpc.UnsafeGatewayServiceServer
	*Front
}

var _ v1beta2rpc.GatewayServiceServer = (*gateway)(nil)

// Start launches a sandbox and answers when its runner took it over; the main process may still be starting.
func (s *gateway) Start(ctx context.Context, r *v1beta2pb.StartSandboxRequest) (*v1beta2pb.StartSandboxResponse, error) {
	ctx, cancel, err := bounded(ctx, r.GetMaxTimeoutSeconds())
	if err != nil {
		return nil, err
	}
	defer cancel()
	l, err := s.table.Launch(r)
	if err != nil {
		return nil, err
	}
	sb, plan, err := s.control.Launch(ctx, edge.Principal(ctx), l)
	if err != nil {
		return nil, err
	}
	return &v1beta2pb.StartSandboxResponse{
		SandboxId: sb.ID, StartedAtTime: wire.Time(sb.StartedAt), SandboxStatus: status(sb.Status),
		RunnerId: sb.RunnerID, ProfileId: sb.ProfileName,
		AppliedEgressMode: plan.EgressMode, AppliedIngressMode: plan.IngressMode,
		ServiceAddress: address(sb.Service), ExposedPorts: exposed(sb.Service),
		// What was asked for comes back as it was written.
		RequestedResources: r.GetResources(), RequestedResourceLimits: r.GetResourceLimits(), RequestedResourceRequests: r.GetResourceRequests(),
	}, nil
}
