package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core"
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
	// lateLook is how late a look may come on a busy machine. What is beyond that, this process stood still.
	lateLook = time.Second
	// leaseRetry is when a lease that could not be read is read again.
	leaseRetry = 5 * time.Second
	// notWritten stands for the ends that a renewal knows of which was not written: none.
	notWritten int64 = -1
)

// heldLease is a lease in memory. It is guarded by leaseTable.mu.
type heldLease struct {
	// row is what was read or written last. It is replaced, never changed.
	row *core.Lease
	// last is when it was renewed last as far as is known, due when that is looked at next.
	last, due time.Time
	// lost and over are what the last look said: silent for the TTL, and for the grace, too.
	lost, over bool
	// queued: it is in leaseTable.over. ending: its end is being written, for the time that ends counts. Whoever renews it meanwhile finds
	// out in the store who was quicker.
	queued, ending bool
	ends           int64
	timer          *time.Timer
}

// leaseTable holds the leases that have not ended, and for a while those that have.
type leaseTable struct {
	mu   sync.Mutex
	byID map[string]*heldLease
	// readAt is when those of all servers were read last.
	readAt time.Time
	// reading are leases that are being read because a sandbox names them.
	reading map[string]bool
	// over are those whose end is to be written, enders counts who does that.
	over   []*heldLease
	enders int
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

// renewed notes a renewal, and reports whether that counts: not for a lease that has ended, nor for one whose end is being written, unless
// the renewal was written after that began, which ends tells. One that was lost is not any more, which its sandboxes tell.
func (t *leaseTable) renewed(id string, ends int64, now time.Time, touched func(kind, orgID, id string), under func(string) []string) bool {
	t.mu.Lock()
	h := t.byID[id]
	if h == nil || h.row.State.Ended() || h.ending && h.ends != ends {
		t.mu.Unlock()
		return false
	}
	wasLost, orgID := h.lost, h.row.OrgID
	h.last, h.lost, h.over = now, false, false
	t.mu.Unlock()
	if wasLost {
		tellAll(touched, orgID, under(id))
	}
	return true
}

// endsOf returns how often the end of a lease was about to be written.
func (t *leaseTable) endsOf(id string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.byID[id]; h != nil {
		return h.ends
	}
	return 0
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
		h = &heldLease{row: l, last: now}
		t.byID[l.ID] = h
		s.lookAtLeaseIn(h, l.TTL)
	case h.row.State.Ended():
		t.mu.Unlock()
		return
	case l.Renewals > h.row.Renewals:
		h.last = now
		h.row = l
	case l.State.Ended() || l.Renewals == h.row.Renewals:
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
	if h := t.byID[id]; h != nil {
		h.timer.Stop()
		delete(t.byID, id)
	}
}

// lookAtLeaseIn looks at a lease after d, or sooner, so that a time in which this process did not run is noticed. The table is locked.
func (s *Service) lookAtLeaseIn(h *heldLease, d time.Duration) {
	d = max(min(d, max(h.row.TTL/idleLooks, minLeaseLook)), minExpiry)
	id := h.row.ID
	if h.timer != nil {
		h.timer.Stop()
	}
	h.due = s.now().Add(d)
	h.timer = time.AfterFunc(d, func() { s.tasks.run(func(ctx context.Context) { s.lookAtLease(ctx, id) }) })
}

// lookAtLease sees whether a lease was not renewed for too long, and looks again later. It is ended after a second look that says so:
// between the two, renewals are heard that waited while this process stood still.
func (s *Service) lookAtLease(ctx context.Context, id string) {
	t := s.leases
	t.mu.Lock()
	h := t.byID[id]
	if h == nil || h.row.State.Ended() {
		t.mu.Unlock()
		return
	}
	now, l := s.now(), h.row
	late := now.Sub(h.due)
	if late > lateLook && h.last.Before(h.due) {
		h.last = h.last.Add(late)
	}
	silent, over := s.silence(h, now)
	again := over && h.over && late <= lateLook
	turned := h.lost != (silent >= l.TTL)
	h.lost, h.over = silent >= l.TTL, over
	switch {
	case again && !h.ending && !h.queued:
		s.queueEnd(h)
		s.lookAtLeaseIn(h, leaseRetry)
	case silent >= l.TTL+l.Grace:
		s.lookAtLeaseIn(h, minLeaseLook)
	case h.lost:
		s.lookAtLeaseIn(h, l.TTL+l.Grace-silent)
	default:
		s.lookAtLeaseIn(h, l.TTL-silent)
	}
	lost := h.lost
	t.mu.Unlock()
	if turned {
		sandboxes := s.live.under(id)
		s.log.WarnContext(ctx, "a lease was not renewed in time", "lease", id, "lost", lost, "sandboxes", len(sandboxes), "by", l.CreatedBy, "purpose", l.Purpose)
		tellAll(s.feed.touched, l.OrgID, sandboxes)
	}
}

// silence returns for how long a lease was not renewed, as far as that could be heard, and whether that is too long. A server that does
// not read what others hear does not know. The table is locked.
func (s *Service) silence(h *heldLease, now time.Time) (silent time.Duration, over bool) {
	if away := s.servers.awayAt(); away.After(h.last) {
		h.last = away
	}
	silent = now.Sub(h.last)
	blind := s.shares() && now.Sub(s.leases.readAt) > 2*s.serverBeat
	return silent, silent >= h.row.TTL+h.row.Grace && !blind
}
