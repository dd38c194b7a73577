package bermv1

import (
	"context"
	"time"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

type maintenanceService struct {
	bermv1rpc.UnsafeMaintenanceServiceServer
	*Front
}

var _ bermv1rpc.MaintenanceServiceServer = (*maintenanceService)(nil)

func (s *maintenanceService) GetRunnerMaintenance(ctx context.Context, r *bermv1.GetRunnerMaintenanceRequest) (*bermv1.RunnerMaintenance, error) {
	return maintained(s.control.RunnerMaintenance(ctx, edge.Principal(ctx), r.GetId()))
}

func (s *maintenanceService) ListCordonedRunners(ctx context.Context, _ *bermv1.ListCordonedRunnersRequest) (*bermv1.ListCordonedRunnersResponse, error) {
	all, err := s.control.CordonedRunners(ctx, edge.Principal(ctx))
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListCordonedRunnersResponse{}
	for _, m := range all {
		out.Runners = append(out.Runners, maintenance(m))
	}
	return out, nil
}

func (s *maintenanceService) CordonRunner(ctx context.Context, r *bermv1.CordonRunnerRequest) (*bermv1.RunnerMaintenance, error) {
	return maintained(s.control.CordonRunner(ctx, edge.Principal(ctx), r.GetId(), stateWhy(ctx, r)))
}

func (s *maintenanceService) UncordonRunner(ctx context.Context, r *bermv1.UncordonRunnerRequest) (*bermv1.RunnerMaintenance, error) {
	return maintained(s.control.UncordonRunner(ctx, edge.Principal(ctx), r.GetId(), stateWhy(ctx, r)))
}

func (s *maintenanceService) DrainRunner(ctx context.Context, r *bermv1.DrainRunnerRequest) (*bermv1.DrainRunnerResponse, error) {
	grace := control.DrainGrace
	if r.GraceSeconds != nil {
		grace = time.Duration(r.GetGraceSeconds()) * time.Second
	}
	d, err := s.control.DrainRunner(ctx, edge.Principal(ctx), r.GetId(), grace, stateWhy(ctx, r))
	if err != nil {
		return nil, err
	}
	return &bermv1.DrainRunnerResponse{Runner: maintenance(&d.Maintenance), Asked: int32(d.Asked), Failed: int32(d.Failed), Problems: d.Problems}, nil
}

// stateWhy is stateOf for a request that can say why itself.
func stateWhy(ctx context.Context, r interface {
	GetEtag() string
	GetReason() string
}) control.EditState {
	st := stateOf(ctx, r)
	if why := r.GetReason(); why != "" {
		st.Reason = why
	}
	return st
}

func maintained(m *control.Maintenance, err error) (*bermv1.RunnerMaintenance, error) {
	if err != nil {
		return nil, err
	}
	return maintenance(m), nil
}

func maintenance(m *control.Maintenance) *bermv1.RunnerMaintenance {
	out := &bermv1.RunnerMaintenance{RunnerId: m.RunnerID, RunnerUuid: m.RunnerUUID, LiveSandboxes: m.Live, Etag: m.Etag}
	if c := m.Cordon; c != nil {
		out.Cordoned, out.CordonedBy, out.CordonedAt, out.Reason = true, c.By, wire.Time(c.At), c.Reason
	}
	return out
}
