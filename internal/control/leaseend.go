package control

import (
	"context"
	"fmt"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

const (
	// maxLeaseEnds is how many ends of leases are written at a time: thousands may be over at once, and the store may hang.
	maxLeaseEnds = 8
	// leaseEndTime is how long the end of a lease may take to be written, from when it was decided. What comes later may be older than a
	// renewal that the same store kept waiting.
	leaseEndTime = 5 * time.Second
)

// queueEnd has the end of a lease written soon. The table is locked.
func (s *Service) queueEnd(h *heldLease) {
	t := s.leases
	h.queued = true
	t.over = append(t.over, h)
	if t.enders < maxLeaseEnds && s.tasks.run(s.writeEnds) {
		t.enders++
	}
}

// writeEnds ends the leases that are over, one after the other.
func (s *Service) writeEnds(ctx context.Context) {
	for h := s.nextEnd(); h != nil; h = s.nextEnd() {
		s.expireLease(ctx, h)
	}
}

// nextEnd returns a lease that is still over, nil for none.
func (s *Service) nextEnd() *heldLease {
	t := s.leases
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.over) > 0 {
		h := t.over[0]
		t.over[0], t.over = nil, t.over[1:]
		h.queued = false
		if _, over := s.silence(h, s.now()); over && !h.row.State.Ended() {
			h.ending = true
			h.ends++
			return h
		}
	}
	t.enders--
	return nil
}

// expireLease ends a lease that was not renewed for too long. Where that cannot be written, renewals could not be heard either.
func (s *Service) expireLease(ctx context.Context, h *heldLease) {
	s.leases.mu.Lock()
	l := h.row
	s.leases.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, leaseEndTime)
	defer cancel()
	err := s.endLease(limited, l, core.LeaseExpired)
	if err != nil && ctx.Err() == nil {
		s.servers.failed(s.now())
		s.log.WarnContext(ctx, "the end of a lease could not be written; its time begins anew", "lease", l.ID, "error", err)
	}
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	if h.ending = false; err != nil && !h.row.State.Ended() {
		h.last, h.over = s.now(), false
		s.lookAtLeaseIn(h, minLeaseLook)
	}
}

// endLease writes the end of a lease, unless somebody else was quicker, or another server heard of it meanwhile, and does what that
// means for its sandboxes.
func (s *Service) endLease(ctx context.Context, l *core.Lease, state core.LeaseState) error {
	failpoint.Hit(fpLeaseEnd)
	row, began, ended := *l, s.now(), false
	err := s.store.Update(ctx, func(tx store.Tx) (err error) {
		row.State, row.EndedAt = state, s.now()
		if waited := row.EndedAt.Sub(began); waited >= leaseEndTime && state == core.LeaseExpired {
			return fmt.Errorf("the store took %s to begin with it", waited)
		}
		ended, err = tx.EndLease(ctx, l, state, row.EndedAt)
		return err
	})
	failpoint.Hit(fpLeaseEnded)
	if err != nil {
		return err
	}
	if ended { // Known without the store, which may be away by now.
		s.watchLease(&row)
		return nil
	}
	return s.rereadLease(ctx, l.OrgID, l.ID)
}

// rereadLease makes memory know of a lease what the store has.
func (s *Service) rereadLease(ctx context.Context, orgID, id string) error {
	l, err := s.lease(ctx, orgID, id)
	if fault.Is(err, fault.NotFound) {
		s.leases.drop(id)
		return nil
	}
	if err == nil {
		s.watchLease(l)
	}
	return err
}

// stopLeased stops the sandboxes of a lease that has ended, unless they go on without it.
func (s *Service) stopLeased(l *core.Lease) {
	for _, id := range s.live.under(l.ID) {
		s.endUnder(id, l)
	}
}

// endUnder does to a sandbox what the end of its lease means. One that cannot be stopped now is stopped later, as at the end of its lifetime.
func (s *Service) endUnder(id string, l *core.Lease) {
	why := core.EndLeaseExpired
	switch l.State {
	case core.LeaseReleased:
		why = core.EndLeaseReleased
	case core.LeaseActive, core.LeaseLost, core.LeaseDropped:
		return
	case core.LeaseExpired:
	}
	s.armExpiry(id, 0, why)
}

// holdUnder has a sandbox that was just entered end with its lease, which may have ended already: while it was launched, or while no server
// was there.
func (s *Service) holdUnder(row *core.Sandbox) {
	id := leaseOf(row)
	if id == "" {
		return
	}
	if l := s.leases.get(id); l != nil {
		s.endUnder(row.ID, l)
		return
	}
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	if s.leases.reading[id] {
		return // all of its sandboxes are seen to when it has been read
	}
	s.leases.reading[id] = s.tasks.run(func(ctx context.Context) { s.readLease(ctx, row.OrgID, id) })
}
