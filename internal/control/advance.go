package control

import (
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// maxTimeline is how many events a sandbox keeps. A sane backend tells about ten.
const maxTimeline = 64

// maxEventText is the longest message of an event, and the longest reason of an end, in bytes: a backend may quote what a
// program said.
const maxEventText = 1024

// advance returns the row that an observation makes of row, and whether it has to be written. CREATING and TERMINATING are
// never written: they are passed on the way, and memory knows them.
func advance(row *core.Sandbox, o *backend.Observation) (*core.Sandbox, bool) {
	if row.Status.Terminal() {
		return row, false
	}
	next := *row
	next.Timeline = appendEvents(row.Timeline, o.Events)
	if !o.StartedAt.IsZero() && next.StartedAt.IsZero() {
		next.StartedAt = o.StartedAt
	}
	next.Observation = core.ObservationCurrent
	switch o.Phase {
	case backend.PhaseRunning:
		if row.Status != core.StatusPending && row.Status != core.StatusPaused {
			return row, false
		}
		next.Status, next.StatusReason = core.StatusRunning, ""
		return &next, true
	case backend.PhasePaused:
		if row.Status == core.StatusPaused {
			return row, false
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

// end makes the final state. An exit code is reported only if it was observed, and COMPLETED only if the end is known.
func end(next *core.Sandbox, o *backend.Observation) {
	next.EndedAt = o.At
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
		next.StatusReason += ": " + clip(message)
	}
}

// clip cuts a text to what is kept of it, and makes it one that every store keeps.
func clip(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) <= maxEventText {
		return text
	}
	return strings.ToValidUTF8(text[:maxEventText], "") + "…"
}

// appendEvents returns a new timeline. What is there already is not added again: a backend that is observed anew repeats
// the events of its last observation, and says more of one that goes on, as a pull does: then the later counts. When the timeline is full the oldest events stay, and the newest: how it began and
// how it ended matter more than the middle.
func appendEvents(old, more []core.Event) []core.Event {
	all := slices.Clone(old)
	for _, e := range more {
		e.Message = clip(e.Message)
		known := func(k core.Event) bool { return k.Name == e.Name && k.At.Equal(e.At) }
		if i := slices.IndexFunc(all, known); i >= 0 {
			all[i] = e
		} else {
			all = append(all, e)
		}
	}
	if len(all) > maxTimeline {
		all = append(all[:maxTimeline-1], all[len(all)-1])
	}
	return all
}

// merged returns the observation that stands for both: the later one with the events of the earlier, except that an end is
// final. Either may be nil.
func merged(earlier, later *backend.Observation) *backend.Observation {
	if earlier == nil {
		return later
	}
	if earlier.Phase == backend.PhaseEnded {
		return earlier
	}
	out := *later
	out.Events = appendEvents(earlier.Events, later.Events)
	if out.StartedAt.IsZero() {
		out.StartedAt = earlier.StartedAt
	}
	if out.Submitted == nil {
		out.Submitted = earlier.Submitted
	}
	return &out
}
