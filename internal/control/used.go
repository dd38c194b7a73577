package control

import (
	"context"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// usedFor is how long what was read is believed where other servers launch on the same runners.
const usedFor = time.Second

// usedAmounts remembers what is reserved on runners, so that a plan need not ask. It is a hint: the reservation in the launch
// transaction decides, and a plan that met a full runner is made again from what the store says.
type usedAmounts struct {
	mu       sync.Mutex
	byRunner map[string]core.Amounts
	// readAt is when the amounts of a runner were read.
	readAt map[string]time.Time
	// changing counts the transactions under way that change what is reserved, changes those that ever began. What was read
	// beside one of them may have it in or not, so that it must not be remembered: it would be counted twice, or not at all.
	changing, changes int
	// freed is closed when there may be room that was not there before.
	freed chan struct{}
}

func newUsedAmounts() *usedAmounts {
	return &usedAmounts{byRunner: map[string]core.Amounts{}, readAt: map[string]time.Time{}, freed: make(chan struct{})}
}

// room returns a channel that is closed when something ends, or must be asked for anew, after the call.
func (u *usedAmounts) room() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.freed
}

// tellRoom wakes whoever waits for room. The lock is held.
func (u *usedAmounts) tellRoom() {
	close(u.freed)
	u.freed = make(chan struct{})
}

// get returns what is remembered of a runner, unless it was read before a time.
func (u *usedAmounts) get(runnerUUID string, since time.Time) (core.Amounts, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	a, ok := u.byRunner[runnerUUID]
	return a, ok && !u.readAt[runnerUUID].Before(since)
}

// change runs a transaction that changes what is reserved, together with the calls of add that tell of it.
func (u *usedAmounts) change(fn func() error) error {
	u.mu.Lock()
	u.changing++
	u.changes++
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		u.changing--
		u.mu.Unlock()
	}()
	return fn()
}

// epoch is to be passed to set with what is read after it.
func (u *usedAmounts) epoch() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.changing > 0 {
		return -1
	}
	return u.changes
}

// set remembers what was read, unless it was read beside a change.
func (u *usedAmounts) set(epoch int, runnerUUID string, a core.Amounts, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if epoch == u.changes {
		u.byRunner[runnerUUID], u.readAt[runnerUUID] = a, at
	}
}

func (u *usedAmounts) forget(runnerUUID string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.byRunner, runnerUUID)
	u.tellRoom()
}

// reread has what is reserved on a runner asked of the store by the next plan.
func (u *usedAmounts) reread(runnerUUID string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.byRunner, runnerUUID)
}

// add counts a sandbox in (sign 1) or out (sign -1).
func (u *usedAmounts) add(runnerUUID string, a core.Amounts, sign int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if sign < 0 {
		u.tellRoom()
	}
	if have, ok := u.byRunner[runnerUUID]; ok {
		u.byRunner[runnerUUID] = plus(have, a, sign)
	}
}

// plus returns a and sign times b.
func plus(a, b core.Amounts, sign int64) core.Amounts {
	return core.Amounts{
		CPUMillis: a.CPUMillis + sign*b.CPUMillis, MemoryBytes: a.MemoryBytes + sign*b.MemoryBytes,
		GPUs: a.GPUs + sign*b.GPUs, Sandboxes: a.Sandboxes + sign*b.Sandboxes,
	}
}

// usedOn returns what is reserved on the runners of a configuration, in their order; fresh asks the store for all.
func (s *Service) usedOn(ctx context.Context, cfg *orgConfig, fresh bool) ([]core.Amounts, error) {
	out := make([]core.Amounts, len(cfg.runners))
	var ask []int
	var since time.Time
	at := s.now()
	if s.shares() {
		since = at.Add(-usedFor)
	}
	for i, r := range cfg.runners {
		a, ok := s.used.get(r.runner.ID, since)
		if out[i] = a; !ok || fresh {
			ask = append(ask, i)
		}
	}
	if len(ask) == 0 {
		return out, nil
	}
	epoch := s.used.epoch()
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
		s.used.set(epoch, cfg.runners[i].runner.ID, out[i], at)
	}
	return out, nil
}
