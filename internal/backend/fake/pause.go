package fake

import (
	"context"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// Pause makes a running sandbox refuse commands and files. Programs that run already go on: nothing here stands still, and
// nothing that they would do in between can be told from what they do after.
func (b *Backend) Pause(_ context.Context, id string) error {
	return b.setPaused(id, backend.PhaseRunning, backend.PhasePaused, "paused")
}

// Resume ends a pause.
func (b *Backend) Resume(_ context.Context, id string) error {
	return b.setPaused(id, backend.PhasePaused, backend.PhaseRunning, "resumed")
}

func (b *Backend) setPaused(id string, from, to backend.Phase, event string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.alive(id)
	if err != nil || s.last.Phase != from {
		return err
	}
	b.publish(s, backend.Observation{Phase: to, Events: []core.Event{{Name: event, At: b.cfg.Now()}}})
	return nil
}
