package fake

import (
	"context"

	"github.com/bermhq/berm/internal/core/fault"
)

// Suspend is refused: there is no memory to save.
func (b *Backend) Suspend(context.Context, string) error { return errNoCheckpoint() }

func errNoCheckpoint() *fault.Error {
	return fault.Preconditionf(fault.ReasonBackendUnsupported, "the fake backend cannot save sandboxes").
		WithField("fork_of", "this runner cannot save and restore sandboxes")
}
