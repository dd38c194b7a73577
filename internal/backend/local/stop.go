package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// Stop begins a stop. Why is written down first, so that the end is told with its reason whatever happens to the server. A
// later stop can only shorten the grace; the first reason stays.
func (b *Backend) Stop(ctx context.Context, id string, grace time.Duration, why string) error {
	s, err := b.get(id)
	if err != nil {
		return err
	}
	if ended := b.recordStop(s, max(grace, 0), why); ended {
		return nil
	}
	s.mu.Lock()
	client, cancel := s.client, s.cancelStart
	s.mu.Unlock()
	if client == nil {
		// Not handed to a shim yet, or just now: then the start passes the stop on.
		if cancel != nil {
			cancel()
		}
		return nil
	}
	err = client.Stop(ctx, grace)
	failpoint.Hit(failStopAsked)
	if fault.HasReason(err, fault.ReasonSandboxNotRunning) {
		return nil // It ended meanwhile; who watches it will say how.
	}
	return err
}

// passStop gives a stop that was asked for before there was a shim to that shim: until it has taken it, or is gone. How the
// sandbox ends is for whoever watches it.
func (b *Backend) passStop(s *sandbox) {
	s.mu.Lock()
	stop, grace, client := s.stop, s.grace, s.client
	s.mu.Unlock()
	if stop == nil {
		return
	}
	poll := time.NewTicker(startPoll)
	defer poll.Stop()
	for told := false; ; told = true {
		err := client.Stop(b.ctx, grace)
		if err == nil || b.ctx.Err() != nil || fault.HasReason(err, fault.ReasonSandboxNotRunning) {
			return
		}
		if !told {
			b.log.Warn("a stop could not be passed on yet", "sandbox", s.id, "error", err)
		}
		select {
		case <-poll.C:
		case <-b.ctx.Done():
			return
		}
	}
}

// recordStop writes the stop down, once. Nothing happens to a sandbox that has ended. A disk that takes no record does not
// keep a sandbox from being stopped: then the reason is as good as this server's memory.
func (b *Backend) recordStop(s *sandbox, grace time.Duration, why string) (ended bool) {
	s.mu.Lock()
	if s.last.Phase == backend.PhaseEnded {
		s.mu.Unlock()
		return true
	}
	if s.stop != nil {
		s.grace = min(s.grace, grace)
		s.mu.Unlock()
		return false
	}
	s.stop, s.grace = &stopRecord{Version: recordVersion, Why: why, At: b.cfg.Now()}, grace
	err := writeRecord(b.place.sandbox(s.slot), stopName, s.stop)
	o := stopping(s.stop)
	s.mu.Unlock()
	if err != nil {
		b.log.Warn("why a sandbox is being stopped could not be written down", "sandbox", s.id, "error", err)
	}
	failpoint.Hit(failStopRecorded)
	b.publish(s, o)
	return false
}

func stopping(r *stopRecord) backend.Observation {
	return backend.Observation{Phase: backend.PhaseStopping, At: r.At, Events: []core.Event{{Name: "stopping", At: r.At, Message: r.Why}}}
}

// Delete removes an ended sandbox. The records go last, and at once: a deletion that is interrupted is finished by the next
// server.
func (b *Backend) Delete(ctx context.Context, id string) error {
	s, err := b.get(id)
	if err != nil { // Unknown ids succeed.
		return nil //nolint:nilerr // the port says so
	}
	if p := s.phase(); p != backend.PhaseEnded {
		return fault.Preconditionf(fault.ReasonRunnerHasSandboxes, "sandbox %s is %s: it can be deleted once it has ended", id, p).
			WithHint("stop it first")
	}
	select {
	case <-s.released:
	case <-ctx.Done():
		return fault.New(fault.Deadline, "DEADLINE_EXCEEDED", "what sandbox %s held is still being freed", id).WithCause(ctx.Err())
	case <-b.ctx.Done():
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the runner is being stopped")
	}
	if err := b.remove(s); err != nil {
		return fault.New(fault.Unavailable, fault.ReasonStoreUnavailable, "sandbox %s could not be removed: %v", id, err).WithCause(err)
	}
	return nil
}

// remove removes box and records, and forgets the sandbox. Only one caller at a time finds it.
func (b *Backend) remove(s *sandbox) error {
	s.deleting.Lock()
	defer s.deleting.Unlock()
	if _, err := b.get(s.id); err != nil { // Another one was quicker.
		return nil
	}
	if !s.clean {
		if err := errors.Join(b.dismiss(s), b.clearBox(s.slot)); err != nil {
			return err
		}
		b.letGo(s)
		s.clean = true
	}
	if err := b.keepOutput(s); err != nil {
		b.log.Warn("the output of a sandbox could not be kept", "sandbox", s.id, "error", err)
	}
	if err := b.place.discard(s.slot); err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.sandboxes, s.id)
	b.mu.Unlock()
	b.hub.Forget(s.id)
	b.ids.release(s.ids)
	failpoint.Hit(failDeleted)
	return nil
}

// discard removes the records of a slot: out of sight at once, then for good.
func (p places) discard(slot string) error {
	for n := 0; ; n++ {
		hidden := filepath.Join(p.trash(), slot+"."+strconv.Itoa(n))
		if err := os.Mkdir(hidden, 0o700); errors.Is(err, os.ErrExist) {
			continue // Left by an interrupted deletion of the same id; the next server removes it.
		} else if err != nil {
			return err
		}
		if err := os.Rename(p.sandbox(slot), filepath.Join(hidden, "records")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := syncDir(p.sandboxes()); err != nil {
			return err
		}
		failpoint.Hit(failTrashed)
		return os.RemoveAll(hidden)
	}
}
