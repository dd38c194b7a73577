package control

import (
	"context"
	"slices"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

const (
	// DefaultRetention is how long a sandbox that has ended is kept unless told otherwise.
	DefaultRetention = 7 * 24 * time.Hour
	// MinRetention is the least: usage guardrails count what ran in the last day.
	MinRetention = 24 * time.Hour
	// collectEvery is how often what was kept for long enough is removed. An end is kept for longer by this much at most.
	collectEvery = time.Hour
	// collectBatch is how many sandboxes one transaction removes: others wait for it.
	collectBatch = 100
)

// collect removes sandboxes that ended longer ago than they are kept: now, and then every so often. Revisions of what they
// were made from, and the change log, stay.
func (s *Service) collect(ctx context.Context) {
	for {
		failpoint.Hit(fpCollect)
		n, err := s.collectAll(ctx)
		if err == nil {
			err = s.store.Update(ctx, func(tx store.Tx) error { return tx.ForgetLeases(ctx, s.now().Add(-s.retention)) })
		}
		if err == nil && s.shares() {
			err = s.store.Update(ctx, func(tx store.Tx) error { return tx.ForgetContacts(ctx) })
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "what ended long ago could not all be removed, trying again later", "error", err)
		}
		if n > 0 {
			s.log.InfoContext(ctx, "sandboxes that ended long ago were removed", "sandboxes", n, "kept", s.retention)
		}
		if err := s.pruneAudit(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "old rows of the audit could not be dropped, trying again later", "error", err)
		}
		if !sleep(ctx, collectEvery) {
			return
		}
	}
}

func (s *Service) collectAll(ctx context.Context) (n int, err error) {
	var orgs []*core.Org
	if err := s.store.View(ctx, func(r store.Reader) (err error) {
		orgs, err = r.Orgs(ctx)
		return err
	}); err != nil {
		return 0, err
	}
	before := s.now().Add(-s.retention)
	for _, org := range orgs {
		for {
			var old []*core.Sandbox
			err := s.store.View(ctx, func(r store.Reader) (err error) {
				old, err = r.EndedBefore(ctx, org.ID, before)
				return err
			})
			if err != nil {
				return n, err
			}
			for batch := range slices.Chunk(old, collectBatch) {
				if err := s.collectSome(ctx, batch); err != nil {
					return n, err
				}
				n += len(batch)
			}
			if len(old) < store.MaxPage {
				break
			}
		}
	}
	return n, nil
}

// collectSome removes sandboxes, and what their runners may still keep of them. A runner out of contact shows that when it
// comes back, and is then told to remove it.
func (s *Service) collectSome(ctx context.Context, old []*core.Sandbox) error {
	err := s.store.Update(ctx, func(tx store.Tx) error {
		for _, sb := range old {
			// Another gateway may have been quicker.
			if err := tx.DeleteSandbox(ctx, sb.OrgID, sb.ID); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, sb := range old {
		if link, _ := s.contacts.linkOf(sb.RunnerUUID); link != nil {
			s.cleanUp(ctx, link, sb.ID)
		}
	}
	return nil
}
