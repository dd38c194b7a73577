package control

import (
	"context"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
)

// Fork launches a sandbox that begins as a running one is: with its memory, processes and files. It is a launch in every other
// respect, by the request that the other was launched with, so that the profile of today decides: what that does not admit is
// refused, and the fork has a record, a reservation and a lifetime of its own. It runs on the other's runner, under the same
// binding. Commands that run in the other one are ended.
//
// lifetimeSeconds and tags, where not zero, replace those of the request.
func (s *Service) Fork(ctx context.Context, p core.Principal, id string, lifetimeSeconds int32, tags []string) (*core.Sandbox, *plan.Plan, error) {
	if err := s.allow(ctx, p, "Fork", audit.Target{Kind: store.ChangeSandbox, Ref: id}); err != nil {
		return nil, nil, err
	}
	row, err := s.row(ctx, p.OrgID, id)
	if err != nil {
		return nil, nil, err
	}
	now := s.overlay(row)
	if now.Status == core.StatusPending || now.Status == core.StatusCreating {
		if now, err = s.wait(ctx, p.OrgID, id, func(sb *core.Sandbox) bool {
			return sb.Status != core.StatusPending && sb.Status != core.StatusCreating
		}); err != nil {
			return nil, nil, err
		}
	}
	if now.Status != core.StatusRunning {
		return nil, nil, fault.Preconditionf(fault.ReasonSandboxNotRunning, "sandbox %s is %s: only one that runs can be forked", id, now.Status).
			WithMeta("status", string(now.Status))
	}
	l, ok := proto.Clone(row.Launch).(*specpb.Launch)
	if !ok || l == nil {
		return nil, nil, fault.Internalf(nil, "sandbox %s has no request", id)
	}
	l.ForkOf, l.RunnerIds, l.ProfileIds, l.ProfileNames = id, []string{row.RunnerID}, nil, []string{row.ProfileName}
	l.LeaseId = s.forkLease(ctx, p, l.GetLeaseId())
	if lifetimeSeconds != 0 {
		l.MaxLifetimeSeconds = lifetimeSeconds
	}
	if tags != nil {
		l.Tags = tags
	}
	return s.Launch(ctx, p, l)
}

// Suspend saves a running sandbox on its runner's disk and ends its processes, until Resume brings them back where they were. It
// is PAUSED meanwhile, uses no memory of the machine, and keeps its reservation; its lifetime goes on counting. Commands that run
// in it are ended.
func (s *Service) Suspend(ctx context.Context, p core.Principal, id string) error {
	if err := s.allow(ctx, p, "Suspend", audit.Target{Kind: store.ChangeSandbox, Ref: id}); err != nil {
		return err
	}
	return s.setPaused(ctx, p, id, core.StatusPaused, func(ctx context.Context, link runner.Link) error {
		failpoint.Hit(fpSuspend)
		err := link.Suspend(ctx, id)
		failpoint.Hit(fpSuspended)
		return err
	})
}
