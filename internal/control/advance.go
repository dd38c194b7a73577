package control

import (
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// advance returns the row that an observation makes of row, and whether it has to be written. CREATING and TERMINATING are
// never written: they are passed on the way, and memory knows them. Where a sandbox is reached goes into the write that finds it running, or into one of its
// own when it becomes known later.
func advance(row *core.Sandbox, o *backend.Observation) (*core.Sandbox, bool) {
	if row.Status.Terminal() {
		return row, false
	}
	next := *row
	next.Timeline = core.AppendEvents(row.Timeline, o.Events)
	if !o.StartedAt.IsZero() && next.StartedAt.IsZero() {
		next.StartedAt = o.StartedAt
	}
	next.Observation = core.ObservationCurrent
	moved := o.Service != nil && !o.Service.Equal(row.Service)
	if moved {
		next.Service = o.Service
	}
	switch o.Phase {
	case backend.PhaseRunning:
		if row.Status != core.StatusPending && row.Status != core.StatusPaused {
			return kept(row, &next, moved)
		}
		next.Status, next.StatusReason = core.StatusRunning, ""
		return &next, true
	case backend.PhasePaused:
		if row.Status == core.StatusPaused {
			return kept(row, &next, moved)
		}
		next.Status, next.StatusReason = core.StatusPaused, ""
		return &next, true
	case backend.PhaseEnded:
		end(&next, o)
		return &next, true
	case backend.PhaseCreating, backend.PhaseStopping:
	}
	return row, false
}

// kept returns next if it has to be written for what moved in it, and else row.
func kept(row, next *core.Sandbox, moved bool) (*core.Sandbox, bool) {
	if moved {
		return next, true
	}
	return row, false
}

// end makes the final state. An exit code is reported only if it was observed, and COMPLETED only if the end is known.
func end(next *core.Sandbox, o *backend.Observation) {
	next.EndedAt, next.Service = o.At, nil
	next.ExitCode = o.ExitCode
	next.Status = core.StatusCompleted
	reason, message := o.Reason, o.Message
	switch {
	case o.Failed:
		next.Status = core.StatusFailed
	case o.ExitCode == nil && (reason == core.EndExited || reason == ""):
		// A backend that claims an exit without having seen its code has not seen it.
		next.Status, reason, message = core.StatusFailed, core.EndLost, "the end was not observed"
	case reason == "":
		reason = core.EndExited
	}
	if reason == "" {
		reason = core.EndLost
	}
	next.StatusReason = reason
	if message != "" {
		next.StatusReason += ": " + core.ClipText(message)
	}
}
