package control

import (
	"context"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// adopt decides about a sandbox that a runner has and memory does not know: the store knows better. One that has ended
// there, or that nobody ever heard of, is ended on the runner too: nothing is left behind.
func (s *Service) adopt(ctx context.Context, k *contact, o *backend.Observation) {
	var row *core.Sandbox
	err := s.store.View(ctx, func(r store.Reader) error {
		var err error
		row, err = r.Sandbox(ctx, k.orgID, o.SandboxID)
		return err
	})
	switch {
	case err != nil && !fault.Is(err, fault.NotFound):
		// The runner repeats what it has when the line is opened again.
		s.log.ErrorContext(ctx, "a sandbox on a runner could not be looked up", "sandbox", o.SandboxID, "runner", k.runnerID, "error", err)
	case err == nil && !row.Status.Terminal():
		s.enter(row, applied)
		s.observed(k, o)
	case o.Phase == backend.PhaseEnded:
		s.cleanUp(ctx, k.runnerUUID, o.SandboxID)
	case o.Phase != backend.PhaseStopping:
		s.log.WarnContext(ctx, "a runner has a sandbox that should not be there, ending it", "sandbox", o.SandboxID, "runner", k.runnerID)
		s.endStray(ctx, k.runnerUUID, o.SandboxID)
	}
}

// endStray kills a sandbox that no row stands for any more. Its end is observed, and then cleaned up.
func (s *Service) endStray(ctx context.Context, runnerUUID, id string) {
	link, _ := s.contacts.linkOf(runnerUUID)
	if link == nil {
		return
	}
	if err := link.Stop(ctx, id, 0, core.EndDeleted); err != nil && !fault.Is(err, fault.NotFound) {
		s.log.WarnContext(ctx, "a stray sandbox could not be ended", "sandbox", id, "error", err)
	}
}

// cleanUp removes what a sandbox that has ended left on its runner. What fails is tried again with the next first pass.
func (s *Service) cleanUp(ctx context.Context, runnerUUID, id string) {
	link, _ := s.contacts.linkOf(runnerUUID)
	if link == nil {
		return
	}
	failpoint.Hit(fpCleanup)
	err := link.Delete(ctx, id)
	failpoint.Hit(fpCleaned)
	if fault.Is(err, fault.Precondition) {
		// It was declared ended while it still runs: after a loss of contact, say.
		s.endStray(ctx, runnerUUID, id)
		return
	}
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "a sandbox that ended could not be cleaned up yet", "sandbox", id, "error", err)
	}
}

// enter puts a row that was committed into memory, with the end of its lifetime.
func (s *Service) enter(row *core.Sandbox, state applyState) {
	s.live.add(row, state)
	if row.ExpiresAt.IsZero() {
		return
	}
	s.armExpiry(row.ID, row.ExpiresAt.Sub(s.now()))
}
