package control

import (
	"context"
	"math"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
)

// A clean-up that fails is tried again, at first after the shorter of these, until the longer one is passed.
const (
	minCleanUpRetry = 200 * time.Millisecond
	maxCleanUpRetry = 10 * time.Second
)

// cleanUpTimeout is how long a runner may take to remove one sandbox.
const cleanUpTimeout = time.Minute

// maxCleanUps is how many sandboxes are cleaned up at the same time: an end of many must not starve the start of others.
const maxCleanUps = 16

// adopt decides about a sandbox that a runner has and memory does not know: the store knows better. One that has ended
// there, or that nobody ever heard of, is ended on the runner too: nothing is left behind.
func (s *Service) adopt(ctx context.Context, k *contact, link runner.Link, o *backend.Observation) {
	arrived := s.live.expect(o.SandboxID)
	read := int64(math.MaxInt64)
	defer func() {
		if arrived(read) { // The end of it may be all that the runner is never heard to say.
			s.reread(ctx, k.orgID, o.SandboxID)
		}
	}()
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
	case err == nil && row.RunnerUUID != k.runnerUUID:
		s.log.WarnContext(ctx, "a runner spoke of a sandbox that is another's", "runner", k.runnerID, "sandbox", o.SandboxID)
	case err == nil && !row.Status.Terminal():
		s.enter(row, applied)
		read = row.Revision
		s.observedAdopted(k, o)
	case o.Phase == backend.PhaseEnded:
		s.cleanUp(ctx, link, o.SandboxID)
	case o.Phase != backend.PhaseStopping:
		s.log.WarnContext(ctx, "a runner has a sandbox that should not be there, ending it", "sandbox", o.SandboxID, "runner", k.runnerID)
		s.endStray(ctx, link, o.SandboxID)
	}
}

// observedAdopted takes in the observation of a sandbox that was just entered.
func (s *Service) observedAdopted(k *contact, o *backend.Observation) {
	if s.note(k, o) == ours {
		s.observedHere(o)
	}
}

// endStray kills a sandbox that no row stands for any more. Its end is observed, and then cleaned up.
func (s *Service) endStray(ctx context.Context, link runner.Link, id string) {
	if err := link.Stop(ctx, id, 0, core.EndDeleted); err != nil && !fault.Is(err, fault.NotFound) && ctx.Err() == nil {
		s.log.WarnContext(ctx, "a stray sandbox could not be ended", "sandbox", id, "error", err)
	}
}

// cleanUp removes what a sandbox that has ended left on its runner. What fails again and again is left to the next first
// pass of the runner, which shows it again.
func (s *Service) cleanUp(ctx context.Context, link runner.Link, id string) {
	select {
	case s.cleanUps <- struct{}{}:
		defer func() { <-s.cleanUps }()
	case <-ctx.Done():
		return
	}
	for retry := minCleanUpRetry; ; retry *= 2 {
		failpoint.Hit(fpCleanup)
		err := deleteOn(ctx, link, id)
		failpoint.Hit(fpCleaned)
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case fault.Is(err, fault.Precondition):
			// It was declared ended while it still runs: after a loss of contact, say.
			s.endStray(ctx, link, id)
			return
		case retry > maxCleanUpRetry || !sleep(ctx, retry):
			s.log.WarnContext(ctx, "a sandbox that ended could not be cleaned up yet", "sandbox", id, "error", err)
			return
		}
	}
}

// deleteOn bounds how long a runner may take: clean-ups of others wait.
func deleteOn(ctx context.Context, link runner.Link, id string) error {
	ctx, cancel := context.WithTimeout(ctx, cleanUpTimeout)
	defer cancel()
	return link.Delete(ctx, id)
}

// enter puts a row that was committed into memory, with the end of its lifetime, the watch for traffic and its lease.
func (s *Service) enter(row *core.Sandbox, state applyState) {
	s.live.add(row, state)
	s.watchIdle(row)
	if !row.ExpiresAt.IsZero() {
		// A clock that was set back since it was written makes no lifetime longer than it was to be.
		left := min(row.ExpiresAt.Sub(s.now()), row.ExpiresAt.Sub(row.CreatedAt))
		s.armExpiry(row.ID, left, core.EndLifetimeExceeded)
	}
	s.holdUnder(row)
}
