package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

const (
	// MaxGrace is the longest time that a stop may leave a sandbox.
	MaxGrace = time.Hour
	// LifetimeGrace is what a sandbox gets when its lifetime or its lease ends.
	LifetimeGrace = 10 * time.Second
	// DeleteWait bounds how long Delete waits for the end that it asked for.
	DeleteWait = 15 * time.Second
	// expiryRetry is when a stop at the end of a lifetime is tried again.
	expiryRetry = 5 * time.Second
	// minExpiry keeps a lifetime that is over from being handled before its row is known.
	minExpiry = time.Millisecond
)

// Stop asks the main process of a sandbox to end and kills it after the grace. It returns once stopping began; Wait tells
// when it is over. One that has ended, or is being stopped, is fine.
func (s *Service) Stop(ctx context.Context, p core.Principal, id string, grace time.Duration) error {
	if err := s.allow(ctx, p, "Stop", audit.Target{Kind: store.ChangeSandbox, Ref: id}); err != nil {
		return err
	}
	if grace < 0 || grace > MaxGrace {
		return fault.Invalidf(fault.ReasonInvalidRequest, "invalid stop").
			WithField("graceful_shutdown_seconds", "must be between 0 and %d", int(MaxGrace/time.Second))
	}
	return s.stop(ctx, p.OrgID, id, grace, core.EndStopped)
}

// Delete kills a sandbox and returns when it has ended. It stays readable. One that has ended is fine.
func (s *Service) Delete(ctx context.Context, p core.Principal, id string) error {
	if err := s.allow(ctx, p, "Delete", audit.Target{Kind: store.ChangeSandbox, Ref: id}); err != nil {
		return err
	}
	if err := s.stop(ctx, p.OrgID, id, 0, core.EndDeleted); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, DeleteWait)
	defer cancel()
	_, err := s.wait(ctx, p.OrgID, id, Ended)
	return err
}

// stop begins to stop a sandbox.
func (s *Service) stop(ctx context.Context, orgID, id string, grace time.Duration, why string) error {
	row, err := s.peek(ctx, orgID, id)
	if err != nil || row.Status.Terminal() {
		return err
	}
	if err := s.handedOver(ctx, id); err != nil {
		return err
	}
	link, since := s.contacts.linkOf(row.RunnerUUID)
	if link == nil {
		return s.unreachable(row, since)
	}
	failpoint.Hit(fpStop)
	err = link.Stop(ctx, id, grace, why)
	failpoint.Hit(fpStopped)
	if err = s.linkFault(ctx, orgID, id, err); fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		return nil // it has ended meanwhile
	}
	if err != nil {
		return err
	}
	s.live.update(id, func(e *liveSandbox) { e.stopping = true })
	return nil
}

// handedOver waits until the first hand-over of a sandbox to its runner returned.
func (s *Service) handedOver(ctx context.Context, id string) error {
	var handed chan struct{}
	if !s.live.look(id, func(e *liveSandbox) { handed = e.handed }) {
		return nil
	}
	select {
	case <-handed:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Deadline, fault.ReasonRunnerUnavailable, "sandbox %s is still being handed over to its runner", id).WithMeta("sandbox_id", id).WithCause(ctx.Err())
	}
}

func (s *Service) unreachable(row *core.Sandbox, since time.Time) error {
	if since.IsZero() {
		since = s.born
	}
	return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "runner %s of sandbox %s is out of contact since %s",
		row.RunnerID, row.ID, since.UTC().Format(time.RFC3339)).WithMeta("sandbox_id", row.ID).WithMeta("runner_id", row.RunnerID).WithRetry(expiryRetry)
}

// armExpiry stops a sandbox after d, and says why. It replaces what was to come.
func (s *Service) armExpiry(id string, d time.Duration, why string) {
	s.live.look(id, func(e *liveSandbox) {
		if e.expire != nil {
			e.expire.Stop()
		}
		e.expire = time.AfterFunc(max(d, minExpiry), func() { s.tasks.run(func(ctx context.Context) { s.expire(ctx, id, why) }) })
	})
}

// expire stops a sandbox whose lifetime is over, or whose lease has ended. Out of contact it waits for the line to come back.
func (s *Service) expire(ctx context.Context, id, why string) {
	var orgID string
	if !s.live.look(id, func(e *liveSandbox) { orgID = e.row.OrgID }) {
		return
	}
	err := s.stop(ctx, orgID, id, LifetimeGrace, why)
	if err == nil || ctx.Err() != nil || fault.Is(err, fault.NotFound) {
		return
	}
	s.log.WarnContext(ctx, "a sandbox could not be stopped when its time was over, trying again", "sandbox", id, "why", why, "error", err)
	s.armExpiry(id, expiryRetry, why)
}
