package control_test

import (
	"testing"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestWhatHasFailedSaysWhy: whoever asks something of a sandbox that could not start is told the reason, not the status alone.
func TestWhatHasFailedSaysWhy(t *testing.T) {
	w := newWorld(t)
	w.fakes["r1"].FailNextStart(core.EndImageFailed, "layer 2 is broken")
	sb := w.ended(w.launch(nil).ID)
	_, err := w.svc.Exec(w.ctx(), w.user, sb.ID, execOf("true"))
	wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning, "FAILED", core.EndImageFailed, "layer 2 is broken")
	_, _, err = w.svc.ReadFile(w.ctx(), w.user, sb.ID, "/x", 1)
	wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning, "layer 2 is broken")
}
