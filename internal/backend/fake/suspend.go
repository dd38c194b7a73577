package fake

import (
	"context"

	"github.com/bermhq/berm/internal/core/fault"
)

// Suspend is a pause where Config.Saves says that sandboxes can be saved. There is no memory to save.
func (b *Backend) Suspend(ctx context.Context, id string) error {
	if !b.cfg.Saves {
		return errNoCheckpoint()
	}
	return b.Pause(ctx, id)
}

func errNoCheckpoint() *fault.Error {
	return fault.Preconditionf(fault.ReasonBackendUnsupported, "the fake backend cannot save sandboxes").
		WithField("fork_of", "this runner cannot save and restore sandboxes")
}
