package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// capacityPause is how often the capacity of a runner is written at most: a cluster that grows says so node by node.
const capacityPause = time.Second

// followInfo keeps the capacity that launches are counted against at what the runner says, from the one that was written when it came,
// until ctx ends. What else the runner says is read where it is needed.
func (s *Service) followInfo(ctx context.Context, k *contact, a *attachment, written core.Amounts) {
	for first := true; ; first = false {
		changed := a.link.InfoChanged()
		now := a.link.Info().Capacity
		late := now != written
		if late {
			if err := s.writeCapacity(ctx, k, a, now); err != nil {
				s.log.WarnContext(ctx, "the capacity of a runner could not be written; it is tried again", "runner", k.runnerID, "error", err)
			} else {
				written, late = now, false
			}
		}
		if !first {
			s.configs.invalidate(k.orgID) // Who waits for room or for a runtime class looks again.
			if !sleep(ctx, capacityPause) {
				return
			}
		}
		if late {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// writeCapacity writes a capacity, unless the runner has another process by then.
func (s *Service) writeCapacity(ctx context.Context, k *contact, a *attachment, capacity core.Amounts) error {
	err := s.store.Update(ctx, func(tx store.Tx) error {
		if now, _ := s.contacts.get(k.runnerUUID); now.attached != a {
			return nil
		}
		return tx.SetCapacity(ctx, k.runnerUUID, capacity)
	})
	s.used.forget(k.runnerUUID) // the store has just counted anew
	if err == nil {
		s.contacts.mu.Lock()
		if k.attached == a {
			k.capacity = capacity
		}
		s.contacts.mu.Unlock()
		s.log.InfoContext(ctx, "the capacity of a runner has changed", "runner", k.runnerID, "cpu_millis", capacity.CPUMillis,
			"memory_bytes", capacity.MemoryBytes, "gpus", capacity.GPUs, "sandboxes", capacity.Sandboxes)
	}
	return err
}
