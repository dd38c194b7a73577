package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// Leases that are not renewed end. Silence is measured by the clock of this process alone, from when it last heard of a renewal; and it is
// counted anew whenever renewals could not have been heard: after a start, an outage of the store, or a time in which this process did
// not run.

const (
	// leaseMemory is how long a lease that has ended is remembered, for launches and recovered sandboxes that still name it.
	leaseMemory = 10 * time.Minute
	// minLeaseLook bounds how often silence is looked at.
	minLeaseLook = time.Second
	// leaseRetry is when the end of a lease that could not be written is tried again.
	leaseRetry = 5 * time.Second
)

// heldLease is a lease in memory. It is guarded by leaseTable.mu.
type heldLease struct {
	// row is what was read or written last. It is replaced, never changed.
	row *core.Lease
	// last is when it was renewed last as far as is known, looked when that was looked at.
	last, looked time.Time
	lost         bool
	// ending: its end is being written. Whoever renews it meanwhile finds out in the store who was quicker.
	ending bool
	timer  *time.Timer
}

// leaseTable holds the leases that have not ended, and for a while those that have.
type leaseTable struct {
	mu   sync.Mutex
	byID map[string]*heldLease
	// readAt is when those of all servers were read last.
	readAt time.Time
	// reading are leases that are being read because a sandbox names them.
	reading map[string]bool
}

func newLeaseTable() *leaseTable {
	return &leaseTable{byID: map[string]*heldLease{}, reading: map[string]bool{}}
}

func (t *leaseTable) get(id string) *core.Lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.byID[id]; h != nil {
		return h.row
	}
	return nil
}

// stands returns when a lease was renewed last, and whether it is lost.
func (t *leaseTable) stands(id string) (last time.Time, lost bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.byID[id]; h != nil {
		return h.last, h.lost
	}
	return time.Time{}, false
}

// note says of a lost lease what its sandboxes say meanwhile, "" for any other.
func (t *leaseTable) note(id string) string {
	if id == "" {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.byID[id]
	if h == nil || !h.lost || h.row.State.Ended() {
		return ""
	}
	return fmt.Sprintf("%s: lease %s was not renewed since %s; the sandbox is stopped at %s", core.ReasonLeaseLostNote, id,
		h.last.UTC().Format(time.RFC3339), h.last.Add(h.row.TTL+h.row.Grace).UTC().Format(time.RFC3339))
}

// renewed notes a renewal, and reports whether the lease has not ended. One that was lost is not any more, which its sandboxes tell.
func (t *leaseTable) renewed(id string, now time.Time, touched func(kind, orgID, id string), under func(string) []string) bool {
	t.mu.Lock()
	h := t.byID[id]
	if h == nil || h.row.State.Ended() {
		t.mu.Unlock()
		return false
	}
	wasLost, orgID := h.lost, h.row.OrgID
	h.last, h.lost = now, false
	t.mu.Unlock()
	if wasLost {
		tellAll(touched, orgID, under(id))
	}
	return true
}

// read notes that the leases of all servers were read. If that is the first time for longer than most, what was said meanwhile is not
// known, and silence is counted anew.
func (t *leaseTable) read(now time.Time, most time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	blind := now.Sub(t.readAt) > most
	if t.readAt = now; !blind {
		return
	}
	for _, h := range t.byID {
		h.last = now
	}
}

func (t *leaseTable) stopTimers() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.byID {
		h.timer.Stop()
	}
}

func tellAll(touched func(kind, orgID, id string), orgID string, sandboxes []string) {
	for _, id := range sandboxes {
		touched(store.ChangeSandbox, orgID, id)
	}
}

// watchLease takes in a lease as it was read or written. What ended elsewhere ends here.
func (s *Service) watchLease(l *core.Lease) {
	now := s.now()
	t := s.leases
	t.mu.Lock()
	h := t.byID[l.ID]
	switch {
	case h == nil:
		h = &heldLease{row: l, last: now, looked: now}
		t.byID[l.ID] = h
		s.lookAtLeaseIn(h, l.TTL)
	case h.row.State.Ended():
		t.mu.Unlock()
		return
	case l.Renewals > h.row.Renewals:
		h.last = now
		h.row = l
	case l.Renewals == h.row.Renewals:
		h.row = l
	}
	revived := h.lost && now.Sub(h.last) < l.TTL
	if revived {
		h.lost = false
	}
	if l.State.Ended() {
		h.timer.Stop()
		h.timer = time.AfterFunc(leaseMemory, func() { t.drop(l.ID) })
	}
	t.mu.Unlock()
	switch {
	case l.State.Ended():
		s.stopLeased(l)
	case revived:
		tellAll(s.feed.touched, l.OrgID, s.live.under(l.ID))
	}
}

func (t *leaseTable) drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
}

// lookAtLeaseIn looks at a lease after d, or sooner, so that a time in which this process did not run is noticed. The table is locked.
func (s *Service) lookAtLeaseIn(h *heldLease, d time.Duration) {
	d = max(min(d, max(h.row.TTL/idleLooks, minLeaseLook)), minExpiry)
	id := h.row.ID
	if h.timer != nil {
		h.timer.Stop()
	}
	h.timer = time.AfterFunc(d, func() { s.tasks.run(func(ctx context.Context) { s.lookAtLease(ctx, id) }) })
}

// lookAtLease ends a lease that was not renewed for too long, and else looks again later.
func (s *Service) lookAtLease(ctx context.Context, id string) {
	away, now := s.servers.awayAt(), s.now()
	t := s.leases
	t.mu.Lock()
	h := t.byID[id]
	if h == nil || h.row.State.Ended() {
		t.mu.Unlock()
		return
	}
	l := h.row
	if away.After(h.last) {
		h.last = away
	}
	if now.Sub(h.looked) > l.TTL { // It was to be looked at several times: this process stood still.
		h.last = now
	}
	h.looked = now
	silent, lostBefore := now.Sub(h.last), h.lost
	h.lost = silent >= l.TTL
	turned := h.lost != lostBefore
	over := silent >= l.TTL+l.Grace
	h.ending = over
	switch {
	case over:
		s.lookAtLeaseIn(h, leaseRetry) // in case its end cannot be written
	case h.lost:
		s.lookAtLeaseIn(h, l.TTL+l.Grace-silent)
	default:
		s.lookAtLeaseIn(h, l.TTL-silent)
	}
	t.mu.Unlock()
	if turned {
		sandboxes := s.live.under(id)
		s.log.WarnContext(ctx, "a lease was not renewed in time", "lease", id, "lost", h.lost, "sandboxes", len(sandboxes), "by", l.CreatedBy, "purpose", l.Purpose)
		tellAll(s.feed.touched, l.OrgID, sandboxes)
	}
	if !over {
		return
	}
	err := s.endLease(ctx, l, core.LeaseExpired)
	t.mu.Lock()
	h.ending = false
	t.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "the end of a lease could not be written, trying again", "lease", id, "error", err)
	}
}

// isEnding reports whether the end of a lease is being written.
func (t *leaseTable) isEnding(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.byID[id]
	return h != nil && h.ending
}

// endLease writes the end of a lease, unless somebody else was quicker, or another server heard of it meanwhile, and does what that
// means for its sandboxes.
func (s *Service) endLease(ctx context.Context, l *core.Lease, state core.LeaseState) error {
	failpoint.Hit(fpLeaseEnd)
	err := s.store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.EndLease(ctx, l, state, s.now())
		return err
	})
	failpoint.Hit(fpLeaseEnded)
	if err != nil {
		return err
	}
	now, err := s.lease(ctx, l.OrgID, l.ID)
	if fault.Is(err, fault.NotFound) {
		s.leases.drop(l.ID)
		return nil
	}
	if err == nil {
		s.watchLease(now)
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

// readLease reads a lease that sandboxes name, until that works.
func (s *Service) readLease(ctx context.Context, orgID, id string) {
	for {
		s.leases.mu.Lock()
		delete(s.leases.reading, id)
		s.leases.mu.Unlock()
		l, err := s.lease(ctx, orgID, id)
		if err == nil {
			s.watchLease(l)
			s.stopLeased(l)
			return
		}
		if fault.Is(err, fault.NotFound) {
			return // it ended so long ago that nobody knows; what ended with it was stopped then
		}
		s.log.WarnContext(ctx, "the lease of a sandbox cannot be read, trying again", "lease", id, "error", err)
		if !sleep(ctx, leaseRetry) {
			return
		}
	}
}

// recoverLeases takes over the leases that have not ended, all as if they had been renewed just now.
func (s *Service) recoverLeases(ctx context.Context) error {
	var all []*core.Lease
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		all, err = r.Leases(ctx, "")
		return err
	})
	for _, l := range all {
		s.watchLease(l)
	}
	return err
}

// leasesElsewhere takes in what other servers wrote of leases.
func (s *Service) leasesElsewhere(ctx context.Context) error {
	err := s.recoverLeases(ctx)
	if err == nil {
		s.leases.read(s.now(), 2*s.serverBeat)
	}
	return err
}

// leaseChanged takes in that a lease was made or has ended, here or elsewhere.
func (s *Service) leaseChanged(ctx context.Context, c store.Change) {
	l, err := s.lease(ctx, c.OrgID, c.ID)
	switch {
	case err == nil:
		s.watchLease(l)
	case !fault.Is(err, fault.NotFound):
		s.log.WarnContext(ctx, "it cannot be read what became of a lease", "lease", c.ID, "error", err)
	}
}

// leaseOf returns the lease of a sandbox, "" for none.
func leaseOf(row *core.Sandbox) string { return rememberedAttrs(row)[attrLease] }
