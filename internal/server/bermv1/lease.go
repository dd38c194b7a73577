package bermv1

import (
	"context"
	"time"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

type leaseService struct {
	bermv1rpc.UnsafeLeaseServiceServer
	*Front
}

var _ bermv1rpc.LeaseServiceServer = (*leaseService)(nil)

// secondsOr returns a number of seconds, or what stands for one that is not given.
func secondsOr(given *int32, otherwise time.Duration) time.Duration {
	if given == nil {
		return otherwise
	}
	return time.Duration(*given) * time.Second
}

func (s *leaseService) CreateLease(ctx context.Context, r *bermv1.CreateLeaseRequest) (*bermv1.Lease, error) {
	return lease(s.control.CreateLease(ctx, edge.Principal(ctx), control.LeaseInput{
		TTL: secondsOr(r.TtlSeconds, core.DefaultLeaseTTL), Grace: secondsOr(r.GraceSeconds, core.DefaultLeaseGrace), Purpose: r.GetPurpose(),
	}))
}

func (s *leaseService) GetLease(ctx context.Context, r *bermv1.GetLeaseRequest) (*bermv1.Lease, error) {
	return lease(s.control.GetLease(ctx, edge.Principal(ctx), r.GetLeaseId()))
}

func (s *leaseService) ListLeases(ctx context.Context, r *bermv1.ListLeasesRequest) (*bermv1.ListLeasesResponse, error) {
	list, next, err := s.control.ListLeases(ctx, edge.Principal(ctx), pageOf(r))
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListLeasesResponse{NextPageToken: next}
	for _, v := range list {
		l, err := lease(v, nil)
		if err != nil {
			return nil, err
		}
		out.Leases = append(out.Leases, l)
	}
	return out, nil
}

func (s *leaseService) RenewLease(ctx context.Context, r *bermv1.RenewLeaseRequest) (*bermv1.Lease, error) {
	return lease(s.control.RenewLease(ctx, edge.Principal(ctx), r.GetLeaseId()))
}

func (s *leaseService) ReleaseLease(ctx context.Context, r *bermv1.ReleaseLeaseRequest) (*bermv1.Lease, error) {
	return lease(s.control.ReleaseLease(ctx, edge.Principal(ctx), r.GetLeaseId(), r.GetKeepSandboxes()))
}

// lease converts a lease, or passes an error on.
func lease(v *control.LeaseView, err error) (*bermv1.Lease, error) {
	if err != nil {
		return nil, err
	}
	l := v.Lease
	return &bermv1.Lease{
		LeaseId: l.ID, State: bermv1.LeaseState(bermv1.LeaseState_value["LEASE_STATE_"+string(l.State)]),
		Purpose: l.Purpose, CreatedBy: l.CreatedBy, CreatedAt: wire.Time(l.CreatedAt),
		TtlSeconds: int32(l.TTL / time.Second), GraceSeconds: int32(l.Grace / time.Second),
		RenewedAt: wire.Time(v.RenewedAt), ExpiresAt: wire.Time(v.ExpiresAt), StopsAt: wire.Time(v.StopsAt), EndedAt: wire.Time(l.EndedAt),
		Sandboxes: int32(v.Sandboxes),
	}, nil
}

func (s *leaseService) ListOrphans(ctx context.Context, r *bermv1.ListOrphansRequest) (*bermv1.ListOrphansResponse, error) {
	list, next, err := s.control.ListOrphans(ctx, edge.Principal(ctx), secondsOr(r.OlderThanSeconds, control.DefaultOrphanAge), pageOf(r))
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListOrphansResponse{NextPageToken: next}
	for _, o := range list {
		sb := o.Sandbox
		m := &bermv1.Orphan{
			SandboxId: sb.ID, Why: o.Why, Status: string(sb.Status), RunnerId: sb.RunnerID, ProfileName: sb.ProfileName,
			CreatedBy: sb.CreatedBy, Purpose: o.Purpose, LeaseId: o.LeaseID, CreatedAt: wire.Time(sb.CreatedAt), LastContactAt: wire.Time(o.Contact), Tags: sb.Tags,
		}
		for _, reason := range o.Reasons {
			m.Reasons = append(m.Reasons, bermv1.OrphanReason(bermv1.OrphanReason_value["ORPHAN_REASON_"+string(reason)]))
		}
		out.Orphans = append(out.Orphans, m)
	}
	return out, nil
}
