package dataplane

import (
	"context"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

// discovery shows callers what they may launch on.
type discovery struct {
	v1beta2rpc.UnsafeDiscoveryServiceServer
	*Front
}

var _ v1beta2rpc.DiscoveryServiceServer = (*discovery)(nil)

func (s *discovery) ListAvailableRunners(ctx context.Context, r *v1beta2pb.ListAvailableRunnersRequest) (*v1beta2pb.ListAvailableRunnersResponse, error) {
	list, next, err := s.control.AvailableRunners(ctx, edge.Principal(ctx), control.RunnerFilter{
		GroupID: r.GetRunnerGroupId(), ProfileName: r.GetProfileName(), GPUType: r.GetGpuType(), Architecture: r.GetArchitecture(),
		ExcludeShared: r.GetExcludeShared(), HealthyOnly: r.GetHealthyOnly(),
	}, control.Page{Size: int(r.GetPageSize()), Token: r.GetPageToken()})
	if err != nil {
		return nil, err
	}
	out := &v1beta2pb.ListAvailableRunnersResponse{NextPageToken: next}
	for _, a := range list {
		out.Runners = append(out.Runners, runnerMessage(a, r.GetView() == v1beta2pb.RunnerView_RUNNER_VIEW_FULL))
	}
	return out, nil
}

func (s *discovery) GetAvailableRunner(ctx context.Context, r *v1beta2pb.GetAvailableRunnerRequest) (*v1beta2pb.AvailableRunner, error) {
	a, err := s.control.AvailableRunner(ctx, edge.Principal(ctx), r.GetRunnerId())
	if err != nil {
		return nil, err
	}
	return runnerMessage(a, r.GetView() != v1beta2pb.RunnerView_RUNNER_VIEW_BASIC), nil
}

func (s *discovery) ListProfiles(ctx context.Context, r *v1beta2pb.ListProfilesRequest) (*v1beta2pb.ListProfilesResponse, error) {
	list, next, err := s.control.AvailableProfiles(ctx, edge.Principal(ctx), control.ProfileFilter{
		GPUType: r.GetGpuType(), Architecture: r.GetArchitecture(), RunnerID: r.GetRunnerId(), ExcludeShared: r.GetExcludeShared(),
	}, control.Page{Size: int(r.GetPageSize()), Token: r.GetPageToken()})
	if err != nil {
		return nil, err
	}
	out := &v1beta2pb.ListProfilesResponse{NextPageToken: next}
	for _, a := range list {
		out.Profiles = append(out.Profiles, profileMessage(a))
	}
	return out, nil
}

func (s *discovery) GetProfile(ctx context.Context, r *v1beta2pb.GetProfileRequest) (*v1beta2pb.ProfileSummary, error) {
	a, err := s.control.AvailableProfile(ctx, edge.Principal(ctx), r.GetProfileName(), r.GetRunnerId())
	if err != nil {
		return nil, err
	}
	return profileMessage(a), nil
}

func runnerMessage(a *control.AvailableRunner, full bool) *v1beta2pb.AvailableRunner {
	m := &v1beta2pb.AvailableRunner{
		RunnerId: a.RunnerID, RunnerGroupId: a.GroupID, Healthy: a.Healthy, ProfileNames: a.ProfileNames, ConnectedAt: wire.Time(a.ConnectedAt),
		Capabilities: &v1beta2pb.RunnerCapabilitySummary{
			MaxCpuMillicores: a.Capacity.CPUMillis, MaxMemoryBytes: a.Capacity.MemoryBytes, MaxGpuCount: a.Capacity.GPUs,
			SupportedArchitectures: architectures(a.Architecture),
		},
	}
	if full {
		m.Resources = &v1beta2pb.RunnerResourceSummary{
			AvailableCpuMillicores: a.Free.CPUMillis, AvailableMemoryBytes: a.Free.MemoryBytes, AvailableGpuCount: a.Free.GPUs,
			RunningSandboxes: int32(min(a.Sandboxes, 1<<31-1)), //nolint:gosec // bounded
		}
	}
	return m
}

func profileMessage(a *control.AvailableProfile) *v1beta2pb.ProfileSummary {
	m := &v1beta2pb.ProfileSummary{ProfileName: a.ProfileName, RunnerId: a.RunnerID, SupportedArchitectures: architectures(a.Architecture)}
	for _, name := range a.IngressModes {
		m.ServiceExposureModes = append(m.ServiceExposureModes, &v1beta2pb.ServiceExposureMode{Name: name})
	}
	for _, name := range a.EgressModes {
		m.EgressModes = append(m.EgressModes, &v1beta2pb.EgressMode{Name: name})
	}
	return m
}

func architectures(one string) []string {
	if one == "" {
		return nil
	}
	return []string{one}
}
