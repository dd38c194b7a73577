package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/tracing"
)

// applyRetry is when a hand-over whose outcome is not known is tried again.
const applyRetry = time.Second

// applyAgain repeats a hand-over whose outcome is not known, from what is stored. Out of contact it does nothing: lineUp calls
// it, unless the first pass showed that the runner has the sandbox.
func (s *Service) applyAgain(ctx context.Context, id string) {
	var row *core.Sandbox
	var trace string
	s.live.look(id, func(e *liveSandbox) {
		if e.apply == applyUnknown && e.phase == "" && !e.stopping {
			row, trace = e.row, e.trace
		}
	})
	if row == nil {
		return
	}
	if link, _ := s.contacts.linkOf(row.RunnerUUID); link == nil {
		return
	}
	full, err := s.row(ctx, row.OrgID, id)
	if err != nil {
		s.log.ErrorContext(ctx, "a sandbox could not be read to hand it over again", "sandbox", id, "error", err)
		return
	}
	record, err := plan.ParseRecord(full.Decision)
	if err != nil {
		s.handed(ctx, full, err)
		return
	}
	n := len(record.Layers) - 1
	resolved := resolve.Fold(record.Layers[:n]).Overlay(record.Layers[n]).Message()
	ctx, cancel := context.WithTimeout(tracing.From(ctx, trace), ApplyTimeout)
	defer cancel()
	cfg, err := s.config(ctx, row.OrgID, false)
	if err != nil {
		s.handed(ctx, full, fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "what runner %s allows could not be read", row.RunnerID).WithCause(err))
		return
	}
	secrets, err := s.secretsAgain(ctx, full)
	if err != nil {
		s.handed(ctx, full, err)
		return
	}
	r := cfg.find(row.RunnerUUID)
	s.hand(ctx, full, resolved, record.Layers, secrets, r != nil && r.runner.Managed.AllowPrivilegedProfileAnnotation)
}

// doubt follows a launch whose commit failed in a way that leaves open whether it took effect. If it did, the sandbox is one
// that nobody was told about: it is ended. The status writer keeps trying until the store answers; a commit that is later still is looked
// for again and again.
func (s *Service) doubt(sb *core.Sandbox, err error) {
	if !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Internal) {
		return
	}
	s.used.forget(sb.RunnerUUID) // It may be reserved or not.
	s.disown(sb)
	if s.doubts.put(sb.ID, s.now()) {
		s.tasks.run(s.settleDoubts)
	}
}

// disown ends a sandbox that nobody was told about.
func (s *Service) disown(sb *core.Sandbox) {
	s.live.add(sb, applied)
	now := s.now()
	s.submit(&backend.Observation{
		SandboxID: sb.ID, Phase: backend.PhaseEnded, At: now, Failed: true, Reason: core.EndStartFailed,
		Message: "the launch could not be confirmed", Events: []core.Event{{Name: "ended", At: now, Message: core.EndStartFailed}},
	})
}
