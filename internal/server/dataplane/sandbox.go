package dataplane

import (
	"context"
	"encoding/json"
	"time"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

// Get returns a sandbox, running or ended.
func (s *gateway) Get(ctx context.Context, r *v1beta2pb.GetSandboxRequest) (*v1beta2pb.GetSandboxResponse, error) {
	ctx, cancel, err := bounded(ctx, r.GetMaxTimeoutSeconds())
	if err != nil {
		return nil, err
	}
	defer cancel()
	v, err := s.control.GetStarted(ctx, edge.Principal(ctx), r.GetSandboxId())
	if err != nil {
		return nil, err
	}
	sb := v.Sandbox
	egress, ingress := modes(sb.Decision)
	return &v1beta2pb.GetSandboxResponse{
		SandboxId: sb.ID, StartedAtTime: wire.Time(sb.StartedAt), SandboxStatus: status(sb.Status), StatusReason: sb.StatusReason,
		RunnerId: sb.RunnerID, RunnerGroupId: v.GroupID, ProfileId: sb.ProfileName, ExitCode: sb.ExitCode,
		CurrentResourceUsage: usage(v.Usage), AppliedEgressMode: egress, AppliedIngressMode: ingress,
		ServiceAddress: address(sb.Service), ExposedPorts: exposed(sb.Service),
	}, nil
}

// modes returns the network modes of a stored decision (plan.Record). Clients poll Get, so the rest of it is not parsed.
func modes(decision json.RawMessage) (egress, ingress string) {
	var d struct {
		EgressMode  string `json:"egressMode"`
		IngressMode string `json:"ingressMode"`
	}
	if json.Unmarshal(decision, &d) != nil {
		return "", ""
	}
	return d.EgressMode, d.IngressMode
}

// address is where a sandbox is reached, "" while none is assigned.
func address(s *core.Service) string {
	if s == nil {
		return ""
	}
	return s.Address
}

// exposed are the ports of the sandbox that are reached there.
func exposed(s *core.Service) []*v1beta2pb.Port {
	if s == nil {
		return nil
	}
	var out []*v1beta2pb.Port
	for _, p := range s.Ports {
		out = append(out, &v1beta2pb.Port{ContainerPort: p.ContainerPort, Name: p.Name, Protocol: p.Protocol})
	}
	return out
}

func usage(u *core.Usage) *v1beta2pb.ResourceUsage {
	if u == nil {
		return nil
	}
	return &v1beta2pb.ResourceUsage{CpuMillicoresUsed: u.CPUMillis, MemoryMbUsed: u.MemoryBytes >> 20, GpuCountUsed: u.GPUs}
}

// List lists sandboxes, newest first. Usage, group and the egress mode are left to Get; the ingress mode is told with what came of it.
func (s *gateway) List(ctx context.Context, r *v1beta2pb.ListSandboxesRequest) (*v1beta2pb.ListSandboxesResponse, error) {
	ctx, cancel, err := bounded(ctx, r.GetMaxTimeoutSeconds())
	if err != nil {
		return nil, err
	}
	defer cancel()
	if len(r.GetVolumeIds()) > 0 {
		return nil, later("volumes").WithField("volume_ids", "no sandbox has volumes yet; leave it out")
	}
	statuses, none, err := statusFilter(r.GetStatus())
	if err != nil {
		return nil, err
	}
	if none {
		return &v1beta2pb.ListSandboxesResponse{}, nil
	}
	list, next, err := s.control.List(ctx, edge.Principal(ctx), control.SandboxQuery{
		Tags: r.GetTags(), Statuses: statuses, Profiles: append(r.GetProfileNames(), r.GetProfileIds()...), RunnerIDs: r.GetRunnerIds(),
		IncludeEnded: r.GetIncludeStopped(), Page: control.Page{Size: int(r.GetPageSize()), Token: r.GetPageToken()},
	})
	if err != nil {
		return nil, err
	}
	out := &v1beta2pb.ListSandboxesResponse{NextPageToken: next}
	for _, sb := range list {
		info := &v1beta2pb.SandboxInfo{
			SandboxId: sb.ID, StartedAtTime: wire.Time(sb.StartedAt), SandboxStatus: status(sb.Status), RunnerId: sb.RunnerID, ProfileId: sb.ProfileName,
			ServiceAddress: address(sb.Service), ExposedPorts: exposed(sb.Service),
		}
		if sb.Service != nil {
			info.AppliedIngressMode = sb.Service.Mode
		}
		out.Sandboxes = append(out.Sandboxes, info)
	}
	return out, nil
}

// Stop answers when stopping began: TERMINATING, and then COMPLETED, are seen with Get. A grace of 0 kills at once.
func (s *gateway) Stop(ctx context.Context, r *v1beta2pb.StopSandboxRequest) (*v1beta2pb.StopSandboxResponse, error) {
	ctx, cancel, err := bounded(ctx, r.GetMaxTimeoutSeconds())
	if err != nil {
		return nil, err
	}
	defer cancel()
	if r.GetFileSystemSnapshotOnStop() {
		return nil, later("file system snapshots").WithField("file_system_snapshot_on_stop", "the sandbox was not stopped; leave it out to stop without a snapshot")
	}
	grace := time.Duration(r.GetGracefulShutdownSeconds()) * time.Second
	if err := s.control.Stop(ctx, edge.Principal(ctx), r.GetSandboxId(), grace); err != nil {
		return nil, err
	}
	return &v1beta2pb.StopSandboxResponse{Success: true}, nil
}

// Delete answers when the sandbox has ended. It stays readable.
func (s *gateway) Delete(ctx context.Context, r *v1beta2pb.DeleteSandboxRequest) (*v1beta2pb.DeleteSandboxResponse, error) {
	ctx, cancel, err := bounded(ctx, r.GetMaxTimeoutSeconds())
	if err != nil {
		return nil, err
	}
	defer cancel()
	if err := s.control.Delete(ctx, edge.Principal(ctx), r.GetSandboxId()); err != nil {
		return nil, err
	}
	return &v1beta2pb.DeleteSandboxResponse{Success: true}, nil
}

// notServed refuses what there is nothing for that this server could ask.
func notServed(what string) *fault.Error {
	return fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "%s: not served by this server", what).WithMeta("feature", what)
}

// later refuses what this build has no backend for, by name.
func later(what string) *fault.Error {
	return fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "%s: not implemented by this server yet; it comes in a later release", what).
		WithMeta("feature", what)
}
