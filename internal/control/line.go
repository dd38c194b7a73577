package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// lineUp makes a runner a candidate again and does what waited for it.
func (s *Service) lineUp(ctx context.Context, k *contact, a *attachment) {
	s.contacts.mu.Lock()
	if k.attached != a {
		s.contacts.mu.Unlock() // detached while the first pass was under way
		return
	}
	if !k.connected {
		k.connected, k.since = true, s.now()
	}
	if k.lost != nil {
		k.lost.Stop()
		k.lost = nil
	}
	s.contacts.mu.Unlock()
	s.pools.forget(k.runnerUUID)
	s.configs.invalidate(k.orgID)
	s.wakeRunner(k.runnerUUID)
	s.log.InfoContext(ctx, "the line to a runner is up", "runner", k.runnerID)
	// Before this moment nobody could ask: a hand-over that was tried again meanwhile waits here.
	for _, id := range s.live.on(k.runnerUUID, func(e *liveSandbox) bool { return e.apply == applyUnknown }) {
		s.tasks.run(func(ctx context.Context) { s.applyAgain(ctx, id) })
	}
	now := s.now()
	overdue := s.live.on(k.runnerUUID, func(e *liveSandbox) bool { return !e.row.ExpiresAt.IsZero() && !now.Before(e.row.ExpiresAt) })
	for _, id := range overdue {
		s.tasks.run(func(ctx context.Context) { s.expire(ctx, id, core.EndLifetimeExceeded) })
	}
	s.tasks.run(func(ctx context.Context) { s.drain(ctx, k.orgID, k.runnerUUID) })
	s.tasks.run(func(ctx context.Context) { s.tellContact(ctx, k.runnerUUID) })
}

// lineDown notes that a runner is out of contact. Its sandboxes keep their status, which readers are told not to trust; when
// the line stays down for too long they are LOST. It reports false, and does nothing, when a is not the present attachment.
func (s *Service) lineDown(runnerUUID string, a *attachment) bool {
	s.contacts.mu.Lock()
	k, ok := s.contacts.byRunner[runnerUUID]
	ok = ok && k.attached == a
	if ok {
		if k.connected {
			k.connected, k.since = false, s.now()
		}
		if k.lost == nil {
			k.lost = s.giveUpIn(runnerUUID, s.lostAfter)
		}
	}
	s.contacts.mu.Unlock()
	if ok {
		s.configs.invalidate(k.orgID)
		s.wakeRunner(runnerUUID)
	}
	return ok
}

func (s *Service) giveUpIn(runnerUUID string, d time.Duration) *time.Timer {
	return time.AfterFunc(d, func() { s.tasks.run(func(ctx context.Context) { s.giveUp(ctx, runnerUUID) }) })
}

// giveUp declares the sandboxes of a runner LOST, unless it came back in the meantime, or is in contact with another server.
func (s *Service) giveUp(ctx context.Context, runnerUUID string) {
	left, heard := s.lostIn(ctx, runnerUUID)
	s.contacts.mu.Lock()
	k, ok := s.contacts.byRunner[runnerUUID]
	gone := ok && !k.connected
	var since time.Time
	switch {
	case gone && left > 0 && ctx.Err() == nil:
		k.lost, gone = s.giveUpIn(runnerUUID, left), false
	case gone:
		since, k.lost = k.since, nil
		if heard.After(since) {
			since = heard
		}
	}
	s.contacts.mu.Unlock()
	if left > 0 && ctx.Err() == nil {
		s.letGo(ctx, runnerUUID)
	}
	if !gone {
		return
	}
	lost := s.live.on(runnerUUID, func(*liveSandbox) bool { return true })
	if len(lost) > 0 {
		s.log.ErrorContext(ctx, "sandboxes are lost with their runner", "runner", k.runnerID, "sandboxes", len(lost), "since", since)
	}
	now := s.now()
	for _, id := range lost {
		s.submit(&backend.Observation{
			SandboxID: id, Phase: backend.PhaseEnded, At: now, Failed: true, Reason: core.EndLost,
			Message: "runner " + k.runnerID + " is unreachable since " + since.UTC().Format(time.RFC3339),
			Events:  []core.Event{{Name: "ended", At: now, Message: core.EndLost}},
		})
	}
}

// wakeRunner wakes those who wait for a sandbox of a runner: what they see of it has changed.
func (s *Service) wakeRunner(runnerUUID string) {
	if k, ok := s.contacts.get(runnerUUID); ok {
		s.feed.touched(changeContact, k.orgID, runnerUUID)
	}
	for _, id := range s.live.on(runnerUUID, func(*liveSandbox) bool { return true }) {
		s.live.update(id, func(*liveSandbox) {})
	}
}
