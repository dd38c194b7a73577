package fake

import (
	"context"
	"iter"

	"github.com/bermhq/berm/internal/backend"
)

// publish completes o, makes it the sandbox's last observation and hands it to the observers.
func (b *Backend) publish(s *sandbox, o backend.Observation) {
	o.SandboxID = s.work.SandboxID
	o.At = b.cfg.Now()
	if o.StartedAt.IsZero() {
		o.StartedAt = s.last.StartedAt
	}
	o.Submitted = s.submitted
	o.Service, _ = backend.Expose(s.work.Spec.GetNetwork(), s.work.Launch)
	s.last = o
	b.observers.Publish(o)
}

// Observe yields the last observation of every sandbox, nil, and then what happens, until ctx ends, Close is called or
// the backend becomes unreachable.
func (b *Backend) Observe(ctx context.Context) iter.Seq[*backend.Observation] {
	return b.observers.Observe(ctx)
}
