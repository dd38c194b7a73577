package edge

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// RecheckEvery is how often the token of a running stream is looked at again: a revoked or expired one ends what it began.
const RecheckEvery = 15 * time.Second

// whileValid runs a stream with a context that ends when whoever began it may not any more. The cause of the context is then the fault
// that says so. A store that cannot be asked ends nothing.
func whileValid(ctx context.Context, who func(context.Context) (core.Principal, error), run func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var timer *time.Timer
	armed := make(chan struct{})
	timer = time.AfterFunc(RecheckEvery, func() {
		<-armed // timer is written before it is read
		if _, err := who(ctx); fault.Is(err, fault.Unauthenticated) {
			cancel(err)
			return
		}
		if ctx.Err() == nil {
			timer.Reset(RecheckEvery)
		}
	})
	close(armed)
	defer timer.Stop()
	err := run(ctx)
	if cause := context.Cause(ctx); fault.Is(cause, fault.Unauthenticated) {
		return cause
	}
	return err
}
