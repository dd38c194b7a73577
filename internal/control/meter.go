package control

import (
	"cmp"
	"context"
	"slices"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
)

// Meter counts what happens. Its methods are safe for concurrent use and return at once.
type Meter interface {
	// Launched counts an answer to a launch. reason is that of the fault, "" for a launch that was accepted.
	Launched(result LaunchResult, reason string)
	// Warm counts the verdict on a launch on a runner that keeps sandboxes prepared. reason is "" for one that got one.
	Warm(reason core.WarmReason)
	// Took says how long a phase of a launch took.
	Took(phase LaunchPhase, d time.Duration)
}

// LaunchResult is how a launch was answered.
type LaunchResult string

// The results.
const (
	// LaunchAccepted: there is a sandbox, which may still fail to start.
	LaunchAccepted LaunchResult = "accepted"
	// LaunchRefused: policy, capacity or the request itself forbid it.
	LaunchRefused LaunchResult = "refused"
	// LaunchFailed: something is wrong on this side.
	LaunchFailed LaunchResult = "failed"
)

type noMeter struct{}

func (noMeter) Launched(LaunchResult, string)   {}
func (noMeter) Warm(core.WarmReason)            {}
func (noMeter) Took(LaunchPhase, time.Duration) {}

// Launch starts a sandbox: a plan, one transaction and a start. It returns once the runner has taken it over; the sandbox may
// still be starting. A refusal leaves nothing behind, and its Detail is a *plan.Refusal. When the runner turns the sandbox
// down after the commit, the sandbox is returned as FAILED, with the reason.
func (s *Service) Launch(ctx context.Context, p core.Principal, l *specpb.Launch) (*core.Sandbox, *plan.Plan, error) {
	sb, pl, err := s.launch(ctx, p, l)
	s.meter.Launched(resultOf(err))
	return sb, pl, err
}

func resultOf(err error) (LaunchResult, string) {
	if err == nil {
		return LaunchAccepted, ""
	}
	f := fault.From(err)
	switch f.Code {
	case fault.Internal, fault.Unavailable, fault.Deadline, fault.Canceled:
		return LaunchFailed, f.Reason
	default:
		return LaunchRefused, f.Reason
	}
}

// countWarm counts the verdicts in an observation that were not heard of before: observations are repeated.
func (s *Service) countWarm(e *liveSandbox, o *backend.Observation) {
	for _, event := range o.Events {
		if event.Name != core.EventWarm || !event.At.After(e.warmAt) {
			continue
		}
		e.warmAt = event.At
		written := func(w core.Event) bool { return w.Name == event.Name && w.At.Equal(event.At) }
		if !slices.ContainsFunc(e.row.Timeline, written) {
			s.countVerdict(&event)
		}
	}
}

// countVerdict counts one. It is what a runner says: what is none of the reasons that there are would be a series of its own for ever.
func (s *Service) countVerdict(event *core.Event) {
	reason := core.WarmReason(event.Attrs[core.AttrWarmReason])
	if reason == "" && event.Attrs[core.AttrWarmResult] == core.WarmHit || slices.Contains(core.WarmReasons(), reason) {
		s.meter.Warm(reason)
	}
}

// RunnerPool is the warm pool of a binding of a runner, as of now.
type RunnerPool struct {
	RunnerID string
	backend.PoolStatus
}

// WarmPools returns the pools of all runners of all organizations that are in contact with this process, ordered. A runner speaks for
// bindings of its own that have one, and for nothing else.
func (s *Service) WarmPools(ctx context.Context, p core.Principal) ([]RunnerPool, error) {
	if err := s.allow(ctx, p, "WarmPools"); err != nil {
		return nil, err
	}
	var out []RunnerPool
	for _, k := range s.contacts.up(func(*contact) bool { return true }) {
		cfg, err := s.config(ctx, k.orgID, false)
		if err != nil {
			return nil, err
		}
		bound := cfg.find(k.runnerUUID)
		for _, pool := range k.link.Pools() {
			if bound != nil && pool.OrgID == k.orgID && slices.ContainsFunc(bound.bindings, func(b *plan.Binding) bool { return b.Name == pool.ProfileName && b.Spec.Warm > 0 }) {
				out = append(out, RunnerPool{RunnerID: k.runnerID, PoolStatus: pool})
			}
		}
	}
	slices.SortFunc(out, func(a, b RunnerPool) int {
		return cmp.Or(cmp.Compare(a.OrgID, b.OrgID), cmp.Compare(a.RunnerID, b.RunnerID), cmp.Compare(a.ProfileName, b.ProfileName))
	})
	return out, nil
}
