//go:build crash

package crash

import (
	"fmt"
	"slices"
	"strings"
)

// failureAt is how a sandbox fails whose shim was killed at a failpoint; "" when its end was recorded, or no shim was killed. What
// may have run is lost. Before there was a record, nothing had.
func failureAt(failpoint string) string {
	switch {
	case !strings.HasPrefix(failpoint, atShim), failpoint == "shim.after-exit-record", failpoint == "shim.after-remove",
		// What was prepared and died is replaced, whether it was nobody's yet or had not begun.
		strings.HasSuffix(failpoint, "-prepared-record"), failpoint == "shim.before-begin-record":
		return ""
	case failpoint == "shim.before-created-record":
		return "START_FAILED"
	}
	return "LOST"
}

// truth checks what is told of every sandbox.
func (w *work) truth() {
	w.m.t.Helper()
	failure, failed := failureAt(w.m.failpoint), 0
	for _, l := range w.lives {
		v := w.m.get(l.id)
		if v == nil {
			w.m.t.Errorf("sandbox %s (%s) is not told of any more", l.id, l.tag)
			continue
		}
		if wrong := l.wrong(v, failure); wrong != "" {
			w.m.t.Errorf("sandbox %s (%s, end asked for: %v): %s: %+v", l.id, l.tag, l.endAsked, wrong, *v)
		}
		if v.Status == "FAILED" && v.reason() == failure {
			failed++
		}
	}
	if failure != "" && failed == 0 {
		w.m.t.Errorf("a shim was killed, and no sandbox is FAILED as %s", failure)
	}
}

// wrong says what cannot be true of a sandbox, "" for nothing.
func (l *life) wrong(v *view, failure string) string {
	ends := 0
	if v.ended() {
		ends = 1
	}
	switch {
	case l.told != nil && (l.told.Status != v.Status || l.told.Reason != v.Reason || show(l.told.ExitCode) != show(v.ExitCode)):
		return fmt.Sprintf("it was said to be %s (%s) with code %s", l.told.Status, l.told.Reason, show(l.told.ExitCode))
	case v.times("ended") != ends || v.times("started") > 1 || v.times("created") > 1:
		return "its timeline has an event too often, or no end"
	case v.Status == "RUNNING" || !v.ended():
		if l.kind == missing {
			return "its command does not exist"
		}
		return ""
	case v.Status == "FAILED":
		return l.wrongFailure(v, failure)
	case v.ExitCode == nil && (l.endAsked || l.kind == expires) && v.times("started") == 0:
		return "" // stopped before it ran: a machine with much to do may take longer to start one than it may live
	case v.ExitCode == nil:
		return "it completed without a code"
	case l.endAsked && slices.Contains(l.stopped, *v.ExitCode), slices.Contains(l.codes, *v.ExitCode):
		return ""
	}
	return "it cannot have had that code"
}

func (l *life) wrongFailure(v *view, failure string) string {
	switch {
	case v.ExitCode != nil:
		return "it failed with a code"
	case v.reason() == failure:
		return ""
	case v.reason() == "LOST" && l.kind == missing && strings.HasPrefix(l.failpoint, "shim-cleanup."):
		return "" // Its shim passed the failpoint too: what did not start is removed before that is recorded.
	case v.reason() == "START_FAILED" && (l.kind == missing || !l.confirmed) && v.times("started") == 0:
		return ""
	}
	return "nothing that was done can have made it fail so"
}

func show(code *int) string {
	if code == nil {
		return "none"
	}
	return fmt.Sprint(*code)
}
