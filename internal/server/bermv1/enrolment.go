package bermv1

import (
	"context"
	"time"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

type enrolmentService struct {
	bermv1rpc.UnsafeEnrolmentServiceServer
	*Front
}

var _ bermv1rpc.EnrolmentServiceServer = (*enrolmentService)(nil)

func (s *enrolmentService) CreateEnrolment(ctx context.Context, r *bermv1.CreateEnrolmentRequest) (*bermv1.CreateEnrolmentResponse, error) {
	if r.ExpiresInSeconds != nil && r.GetExpiresInSeconds() <= 0 {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid enrolment").WithField("expires_in_seconds", "%d is not positive", r.GetExpiresInSeconds())
	}
	e, err := s.control.JoinRunner(ctx, edge.Principal(ctx), r.GetRunner(), time.Duration(r.GetExpiresInSeconds())*time.Second)
	if err != nil {
		return nil, err
	}
	return &bermv1.CreateEnrolmentResponse{RunnerId: e.RunnerID, RunnerUuid: e.RunnerUUID, Token: e.Secret, ExpiresAt: wire.Time(e.ExpiresAt)}, nil
}
