package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
)

// shownWait bounds how long Pause and Resume wait until what they did shows: it is done by then, and told a moment later.
const shownWait = 5 * time.Second

// Pause makes every process of a running sandbox stand still. Nothing of it is lost; its lifetime goes on counting. While it
// is being created it waits, within ctx. One that is paused is fine; one that ends, or has ended, is refused.
func (s *Service) Pause(ctx context.Context, p core.Principal, id string) error {
	if err := s.allow(ctx, p, "Pause", audit.Target{Kind: store.ChangeSandbox, Ref: id}); err != nil {
		return err
	}
	return s.setPaused(ctx, p, id, core.StatusPaused, func(ctx context.Context, link runner.Link) error {
		failpoint.Hit(fpPause)
		err := link.Pause(ctx, id)
		failpoint.Hit(fpPaused)
		return err
	})
}

// Resume lets a paused sandbox go on. One that runs is fine.
func (s *Service) Resume(ctx context.Context, p core.Principal, id string) error {
	if err := s.allow(ctx, p, "Resume", audit.Target{Kind: store.ChangeSandbox, Ref: id}); err != nil {
		return err
	}
	return s.setPaused(ctx, p, id, core.StatusRunning, func(ctx context.Context, link runner.Link) error {
		failpoint.Hit(fpResume)
		err := link.Resume(ctx, id)
		failpoint.Hit(fpResumed)
		return err
	})
}

func (s *Service) setPaused(ctx context.Context, p core.Principal, id string, want core.Status, call func(context.Context, runner.Link) error) error {
	row, err := s.peek(ctx, p.OrgID, id)
	if err != nil {
		return err
	}
	if now := s.overlay(row); now.Status.Terminal() || now.Status == core.StatusTerminating {
		return notRunning(now)
	}
	if err := s.handedOver(ctx, id); err != nil {
		return err
	}
	link, since := s.contacts.linkOf(row.RunnerUUID)
	if link == nil {
		return s.unreachable(row, since)
	}
	if err := s.linkFault(ctx, p.OrgID, id, call(ctx, link)); err != nil {
		return err
	}
	// The runner tells of it in its own time. A caller who looks right after should see it, unless somebody changed it again.
	ctx, cancel := context.WithTimeout(ctx, shownWait)
	defer cancel()
	_, err = s.wait(ctx, p.OrgID, id, func(sb *core.Sandbox) bool { return sb.Status == want })
	if fault.Is(err, fault.Deadline) {
		return nil
	}
	return err
}
