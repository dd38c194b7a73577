package bermv1

import (
	"context"
	"errors"

	"github.com/bermhq/berm/internal/core/fault"
)

var errDraining = errors.New("the server is shutting down")

// untilDrain returns a context that also ends when the server has no more time for streams.
func (f *Front) untilDrain(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := f.onDrain(func() { cancel(errDraining) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// drained says of an error that the server caused by shutting down that this is why.
func drained(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errDraining) {
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the server is shutting down").WithCause(err)
	}
	return err
}
