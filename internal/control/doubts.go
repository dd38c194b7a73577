package control

import (
	"context"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

const (
	// doubtLook is how often the store is asked whether a launch took effect that was said to have failed, doubtFor how long: for longer
	// than a connection to a store goes on to deliver what it was given.
	doubtLook = 5 * time.Second
	doubtFor  = 30 * time.Minute
	// maxDoubts is how many are looked for at a time; of more, those in doubt for longest are left to the next line of their runner.
	maxDoubts = 10_000
)

// doubts are launches that failed for their callers, and may take effect yet.
type doubts struct {
	mu    sync.Mutex
	since map[string]time.Time
	// order has them by when they came.
	order []string
}

// put adds one and reports whether nobody looks for any yet.
func (d *doubts) put(id string, now time.Time) (first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since == nil {
		d.since = map[string]time.Time{}
	}
	first = len(d.order) == 0
	if len(d.order) == maxDoubts {
		delete(d.since, d.order[0])
		d.order = d.order[1:]
	}
	d.since[id] = now
	d.order = append(d.order, id)
	return first
}

// has reports whether a sandbox is one of them.
func (d *doubts) has(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.since[id]
	return ok
}

// forget drops what is in doubt for long enough, and reports whether nothing is left.
func (d *doubts) forget(before time.Time) (none bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.order) > 0 && d.since[d.order[0]].Before(before) {
		delete(d.since, d.order[0])
		d.order = d.order[1:]
	}
	return len(d.order) == 0
}

// settleDoubts ends launches that took effect after their callers were told that they had failed, for as long as any may.
func (s *Service) settleDoubts(ctx context.Context) {
	for sleep(ctx, doubtLook) {
		var pending []*core.Sandbox
		err := s.store.View(ctx, func(r store.Reader) (err error) {
			pending, err = r.Pending(ctx)
			return err
		})
		if err != nil {
			continue // The status writer says that the store is away. What is late is still looked for when it is back.
		}
		for _, row := range pending {
			if s.doubts.has(row.ID) && !s.live.look(row.ID, func(*liveSandbox) {}) {
				s.log.WarnContext(ctx, "a launch took effect after it was said to have failed, ending it", "sandbox", row.ID, "runner", row.RunnerID)
				s.used.forget(row.RunnerUUID)
				s.disown(row)
			}
		}
		if s.doubts.forget(s.now().Add(-doubtFor)) {
			return
		}
	}
}
