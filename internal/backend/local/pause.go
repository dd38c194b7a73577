package local

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim"
)

// Pause freezes the control group of a sandbox. Its shim does it and remembers it, so that it stays paused whatever becomes of
// this server.
func (b *Backend) Pause(ctx context.Context, id string) error {
	if !b.machine.freezer {
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "runner %s cannot pause sandboxes: %s", b.cfg.RunnerName, b.machine.lacks[featurePause])
	}
	return b.setPaused(ctx, id, backend.PhasePaused)
}

// Resume thaws it.
func (b *Backend) Resume(ctx context.Context, id string) error {
	return b.setPaused(ctx, id, backend.PhaseRunning)
}

func (b *Backend) setPaused(ctx context.Context, id string, want backend.Phase) error {
	client, err := b.await(ctx, id)
	if err != nil {
		return err
	}
	s, err := b.get(id)
	if err != nil {
		return err
	}
	s.pausing.Lock()
	defer s.pausing.Unlock()
	if s.phase() == want {
		return nil
	}
	call, point, o := client.Resume, failResumed, backend.Observation{Phase: backend.PhaseRunning, Events: []core.Event{b.event("resumed", "")}}
	if want == backend.PhasePaused {
		call, point, o = client.Pause, failPaused, paused(b.cfg.Now())
	}
	if err := call(ctx); err != nil {
		b.askPaused(s, client)
		return b.explain(id, err)
	}
	failpoint.Hit(point)
	b.publish(s, o)
	return nil
}

// askPaused finds out what became of a pause or resume that nobody answered: the caller may have gone away in the middle.
func (b *Backend) askPaused(s *sandbox, client *shim.Client) {
	r, err := client.Info(b.ctx)
	switch {
	case err != nil:
	case !r.PausedAt.IsZero() && s.phase() == backend.PhaseRunning:
		b.publish(s, paused(r.PausedAt))
	case r.PausedAt.IsZero() && s.phase() == backend.PhasePaused:
		b.publish(s, backend.Observation{Phase: backend.PhaseRunning, Events: []core.Event{b.event("resumed", "")}})
	}
}

func paused(at time.Time) backend.Observation {
	return backend.Observation{Phase: backend.PhasePaused, At: at, Events: []core.Event{{Name: "paused", At: at}}}
}
