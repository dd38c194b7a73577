package control

import (
	"context"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// maxMissing is how many leases that others may have ended are read with one beat.
const maxMissing = 500

// readLease reads a lease that sandboxes name, until that works.
func (s *Service) readLease(ctx context.Context, orgID, id string) {
	l, err := s.lease(ctx, orgID, id)
	for err != nil && !fault.Is(err, fault.NotFound) {
		s.log.WarnContext(ctx, "the lease of a sandbox cannot be read, trying again", "lease", id, "error", err)
		if !sleep(ctx, leaseRetry) {
			return
		}
		l, err = s.lease(ctx, orgID, id)
	}
	if err == nil {
		s.watchLease(l)
	}
	s.leases.mu.Lock()
	delete(s.leases.reading, id)
	s.leases.mu.Unlock()
	if err == nil { // One that it does not find ended so long ago that nobody knows; what ended with it was stopped then.
		s.stopLeased(l) // also those that were entered while it was read
	}
}

// leasesElsewhere takes in what other servers wrote of leases, at the start all that have not ended, as if they had been renewed just now.
func (s *Service) leasesElsewhere(ctx context.Context) error {
	var all []*core.Lease
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		all, err = r.Leases(ctx, "")
		return err
	})
	if err != nil {
		return err
	}
	for _, l := range all {
		s.watchLease(l)
	}
	for _, l := range s.leases.missing(all) {
		if err := s.rereadLease(ctx, l.OrgID, l.ID); err != nil {
			return err
		}
	}
	s.leases.read(s.now(), 2*s.serverBeat)
	return nil
}

// missing returns leases that have not ended as far as is known, and are not among those of the store: it was not heard what became of them.
func (t *leaseTable) missing(all []*core.Lease) (out []*core.Lease) {
	there := make(map[string]bool, len(all))
	for _, l := range all {
		there[l.ID] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, h := range t.byID {
		if !there[id] && !h.row.State.Ended() && len(out) < maxMissing {
			out = append(out, h.row)
		}
	}
	return out
}

// leaseChanged takes in that a lease was made or has ended, here or elsewhere.
func (s *Service) leaseChanged(ctx context.Context, c store.Change) {
	if err := s.rereadLease(ctx, c.OrgID, c.ID); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "it cannot be read what became of a lease, trying again with the next beat", "lease", c.ID, "error", err)
	}
}

// leaseOf returns the lease of a sandbox, "" for none.
func leaseOf(row *core.Sandbox) string { return rememberedAttrs(row)[attrLease] }
