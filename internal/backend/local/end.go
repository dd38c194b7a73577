package local

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
)

// watch waits for the end of a running sandbox. It returns without one when the server is being stopped.
func (b *Backend) watch(s *sandbox) {
	exit, err := s.client.Wait(b.ctx)
	switch {
	case b.ctx.Err() != nil:
	case err == nil:
		b.endExited(s, exit)
	default:
		b.endLost(s, unseen)
	}
}

// endExited publishes an end that a shim recorded, and removes what is left of the sandbox.
func (b *Backend) endExited(s *sandbox, e shim.Exit) {
	failpoint.Hit(failEndSeen)
	o := exitObservation(e, s.stopping())
	o.Events = b.withDenials(s.slot, s.endEvents(o))
	b.publish(s, o)
	b.release(s)
}

// endEvents are the events up to the end that were not told yet: all, when an earlier server watched. Times come from the
// records, so that whoever heard of one already can tell that it is the same.
func (s *sandbox) endEvents(o backend.Observation) []core.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	var events []core.Event
	add := func(name string, at time.Time, message string) {
		told := func(e core.Event) bool { return e.Name == name }
		if !at.IsZero() && !slices.ContainsFunc(s.told, told) {
			events = append(events, core.Event{Name: name, At: at, Message: message})
		}
	}
	add("started", o.StartedAt, "")
	if s.stop != nil {
		add("stopping", s.stop.At, s.stop.Why)
	}
	add("ended", o.At, o.Reason)
	return events
}

// exitObservation says in the port's words what a shim recorded. The code is the one that was observed, or none.
func exitObservation(e shim.Exit, stop *stopRecord) backend.Observation {
	o := backend.Observation{Phase: backend.PhaseEnded, At: e.EndedAt, StartedAt: e.StartedAt, ExitCode: e.ExitCode, Message: e.Message}
	switch e.Reason {
	case shim.ReasonExited:
		o.Reason = core.EndExited
		if stop != nil {
			// It went by itself while it was being asked to.
			o.Reason = stop.Why
		}
	case shim.ReasonStopped:
		o.Reason = core.EndStopped
		if stop != nil {
			o.Reason = stop.Why
		}
	case shim.ReasonOutOfMemory:
		o.Failed, o.Reason = true, core.EndOutOfMemory
		if o.Message == "" {
			o.Message = "the kernel ended it at its memory limit"
		}
	case shim.ReasonStartFailed:
		o.Failed, o.Reason = true, core.EndStartFailed
	case shim.ReasonKilled:
		o.Failed, o.Reason = true, core.EndKilled
		if o.Message == "" {
			o.Message = "something on the machine killed its process 1"
		}
	default:
		o.Failed, o.Reason, o.ExitCode = true, core.EndLost, nil
	}
	return o
}

// Why nobody saw the end of a sandbox.
var unseen = "its end was not observed: " + shim.ErrLost.Error()

const restarted = "the machine was restarted, and its end was not observed"

// endLost ends a sandbox whose end nobody saw, and says why. What is left of it is ended and removed first; if a record of the end
// turns up meanwhile, that counts.
func (b *Backend) endLost(s *sandbox, why string) {
	exit, err := b.clean(s.slot)
	switch {
	case b.ctx.Err() != nil:
		return
	case err != nil:
		b.log.Error("what is left of a lost sandbox cannot be removed", "sandbox", s.id, "error", err)
	case exit.Reason != shim.ReasonLost && exit.Reason != "":
		b.endExited(s, exit)
		return
	}
	b.endRecorded(s, endRecord{
		Version: recordVersion, Failed: true, Reason: core.EndLost, Message: why, At: b.cfg.Now(), StartedAt: exit.StartedAt,
	})
}

// clean removes what a dead shim left, and returns the end if one was recorded.
func (b *Backend) clean(slot string) (shim.Exit, error) {
	ctx, cancel := context.WithTimeout(b.ctx, cleanTimeout)
	defer cancel()
	return shim.Cleanup(ctx, b.place.shimState(slot))
}

// endRecorded writes an end of our own finding down, then publishes it. An end that cannot be written is published all the
// same: it is true, and will be found again.
func (b *Backend) endRecorded(s *sandbox, end endRecord) {
	failpoint.Hit(failEndSeen)
	if err := writeRecord(b.place.sandbox(s.slot), endName, end); err != nil {
		b.log.Error("the end of a sandbox could not be written down", "sandbox", s.id, "error", err)
	}
	failpoint.Hit(failEndRecorded)
	b.publishEnd(s, end)
	b.release(s)
}

func (b *Backend) publishEnd(s *sandbox, end endRecord) {
	o := backend.Observation{Phase: backend.PhaseEnded, At: end.At, StartedAt: end.StartedAt, Failed: end.Failed, Reason: end.Reason, Message: end.Message}
	o.Events = b.withDenials(s.slot, s.endEvents(o))
	b.publish(s, o)
}

// release frees what an ended sandbox held; its records stay until Delete. What cannot be removed now is tried again by
// Delete and by the next server.
func (b *Backend) release(s *sandbox) {
	defer close(s.released)
	err := errors.Join(b.dismiss(s), b.clearBox(s.slot))
	if err == nil {
		b.letGo(s)
	}
	failpoint.Hit(failReleased)
	s.clean = err == nil
	if err != nil && b.releases.Err() == nil {
		b.log.Error("what an ended sandbox held could not all be removed", "sandbox", s.id, "error", err)
	}
}

// dismiss lets the shim go, which removes container and control groups, and makes sure that they are gone.
//
// Close does not interrupt it, for a while: the sandbox has ended, and what is left of it would stay until the next server.
func (b *Backend) dismiss(s *sandbox) error {
	ctx, cancel := context.WithTimeout(b.releases, cleanTimeout)
	defer cancel()
	client := s.client
	if client == nil {
		// Of an earlier server: it lingers for a while, unless told that it may go.
		client, _ = shim.Connect(ctx, b.place.shimState(s.slot))
	}
	if client != nil {
		if err := client.Forget(ctx); err != nil {
			b.log.Debug("the shim of an ended sandbox went by itself", "sandbox", s.id, "error", err)
		}
	}
	_, err := shim.Cleanup(ctx, b.place.shimState(s.slot))
	return err
}
