package control

import (
	"context"
	"sync"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// usedAmounts remembers what is reserved on runners, so that a plan need not ask. It is a hint: the reservation in the launch
// transaction decides, and a plan that met a full runner is made again from what the store says.
type usedAmounts struct {
	mu       sync.Mutex
	byRunner map[string]core.Amounts
}

func newUsedAmounts() *usedAmounts { return &usedAmounts{byRunner: map[string]core.Amounts{}} }

func (u *usedAmounts) get(runnerUUID string) (core.Amounts, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	a, ok := u.byRunner[runnerUUID]
	return a, ok
}

func (u *usedAmounts) set(runnerUUID string, a core.Amounts) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.byRunner[runnerUUID] = a
}

func (u *usedAmounts) forget(runnerUUID string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.byRunner, runnerUUID)
}

// add counts a sandbox in (sign 1) or out (sign -1).
func (u *usedAmounts) add(runnerUUID string, a core.Amounts, sign int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if have, ok := u.byRunner[runnerUUID]; ok {
		have.CPUMillis += sign * a.CPUMillis
		have.MemoryBytes += sign * a.MemoryBytes
		have.GPUs += sign * a.GPUs
		have.Sandboxes += sign * a.Sandboxes
		u.byRunner[runnerUUID] = have
	}
}

// usedOn returns what is reserved on the runners of a configuration, in their order; fresh asks the store for all.
func (s *Service) usedOn(ctx context.Context, cfg *orgConfig, fresh bool) ([]core.Amounts, error) {
	out := make([]core.Amounts, len(cfg.runners))
	var ask []int
	for i, r := range cfg.runners {
		a, ok := s.used.get(r.runner.ID)
		if out[i] = a; !ok || fresh {
			ask = append(ask, i)
		}
	}
	if len(ask) == 0 {
		return out, nil
	}
	err := s.store.View(ctx, func(r store.Reader) error {
		for _, i := range ask {
			var err error
			if out[i], err = r.Reserved(ctx, cfg.runners[i].runner.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, i := range ask {
		s.used.set(cfg.runners[i].runner.ID, out[i])
	}
	return out, nil
}
