package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// Recover takes over what an earlier process was responsible for: the sandboxes that had not ended, the ends of their
// lifetimes, and runners that were being deleted. It also begins to remove what ended long ago. Call it once, before Attach.
// Nothing is decided about a sandbox until its runner has said what it has; one whose runner does not come back is LOST after the
// bound. Call it after Bootstrap, which knows the place: runners of other places are left alone.
func (s *Service) Recover(ctx context.Context) error {
	follow, err := s.joinServers(ctx)
	if err != nil {
		return err
	}
	var rows []*core.Sandbox
	var runners []*core.Runner
	err = s.store.View(ctx, func(r store.Reader) error {
		rows, runners = nil, nil
		orgs, err := r.Orgs(ctx)
		if err != nil {
			return err
		}
		for _, org := range orgs {
			err := eachRunner(ctx, r, org.ID, func(run *core.Runner) error {
				if elsewhere(run, s.place()) {
					return nil // its own server answers for what it has
				}
				unfinished, err := r.Unfinished(ctx, run.ID)
				rows = append(rows, unfinished...)
				if len(unfinished) > 0 || run.DeletingSince != nil {
					runners = append(runners, run)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.leasesElsewhere(ctx); err != nil {
		return err
	}
	failpoint.Hit(fpRecovered)
	s.tasks.run(s.collect)
	s.tasks.run(s.tendDeployments)
	if s.shares() {
		s.tasks.run(s.tellContacts)
	}
	for _, row := range rows {
		s.enter(row, recovered)
	}
	for _, run := range runners {
		s.expectRunner(run, s.born)
	}
	s.lookAround(ctx)
	follow()
	if len(rows) > 0 {
		s.log.InfoContext(ctx, "sandboxes of an earlier process taken over", "sandboxes", len(rows), "runners", len(runners))
	}
	return nil
}

// expectRunner has a runner come within the bound after which its sandboxes are LOST.
func (s *Service) expectRunner(run *core.Runner, since time.Time) {
	s.contacts.ensure(run, since)
	if run.DeletingSince != nil {
		s.contacts.setDeleting(run.ID)
		s.tasks.run(func(ctx context.Context) { s.drained(ctx, run.OrgID, run.ID) })
	}
	s.lineDown(run.ID, nil)
}

// takeUp has this server wait for the runners that only a server reached which is no more: their sandboxes end as they would with one
// server. Each server that is left does so; what one of them reaches counts for all.
func (s *Service) takeUp(ctx context.Context) error {
	var runners []*core.Runner
	err := s.store.View(ctx, func(r store.Reader) error {
		runners = nil
		orgs, err := r.Orgs(ctx)
		if err != nil {
			return err
		}
		for _, org := range orgs {
			err := eachRunner(ctx, r, org.ID, func(run *core.Runner) error {
				if elsewhere(run, s.place()) {
					return nil
				}
				live, err := r.CountLive(ctx, run.ID)
				if live > 0 || run.DeletingSince != nil {
					runners = append(runners, run)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	for _, run := range runners {
		if k, known := s.contacts.get(run.ID); !known || k.attached == nil {
			s.expectRunner(run, s.now())
		}
	}
	s.lookAround(ctx)
	return err
}

// ensure makes an entry for a runner that something is expected of.
func (c *contacts) ensure(r *core.Runner, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byRunner[r.ID]; !ok {
		c.byRunner[r.ID] = newContact(r, since)
	}
}

// setDeleting notes that a runner is being deleted.
func (c *contacts) setDeleting(runnerUUID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.byRunner[runnerUUID]; ok {
		k.deleting = true
	}
}

// forget drops a runner that is gone and ends its line.
func (c *contacts) forget(runnerUUID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.byRunner[runnerUUID]
	if !ok {
		return
	}
	if k.lost != nil {
		k.lost.Stop()
	}
	if k.attached != nil {
		k.attached.cancel()
	}
	delete(c.byRunner, runnerUUID)
}
