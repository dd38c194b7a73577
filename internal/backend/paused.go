package backend

import "github.com/bermhq/berm/internal/core/fault"

// ErrPaused refuses what a paused sandbox cannot do.
func ErrPaused(id string) *fault.Error {
	return fault.Preconditionf(fault.ReasonSandboxNotRunning, "sandbox %s is paused: it does nothing until it is resumed", id).
		WithMeta("sandbox_id", id).WithMeta("status", string(PhasePaused)).WithHint("resume it first: berm resume %s", id)
}
