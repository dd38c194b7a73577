package control

import (
	"context"
	"strconv"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// DrainGrace is what each sandbox of a runner that is deleted gets.
const DrainGrace = 10 * time.Second

// DeleteOptions shape a deletion.
type DeleteOptions struct {
	// Force stops live sandboxes first.
	Force bool
	// Etag, when not empty, is the state that the caller has seen.
	Etag string
	// Reason is kept with the last revision.
	Reason string
}

func (o DeleteOptions) check() error {
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid deletion")
	checkText(e, "reason", o.Reason, MaxReason)
	return orNil(e)
}

// DeleteRunner deletes a runner. One with live sandboxes is refused with their number, unless forced: then it takes no new
// ones, those there are stopped, and it is gone when the last has ended. Its ended sandboxes and its revisions stay.
func (s *Service) DeleteRunner(ctx context.Context, p core.Principal, ref string, opts DeleteOptions) error {
	if err := s.allow(ctx, p, "DeleteRunner", audit.Target{Kind: string(store.KindRunner), Ref: ref}); err != nil {
		return err
	}
	if err := opts.check(); err != nil {
		return err
	}
	var runner *core.Runner
	draining := false
	failpoint.Hit(fpRunnerDelete)
	err := s.edit(ctx, p.OrgID, func(tx store.Tx) error {
		var err error
		if runner, err = readRunner(ctx, tx, p.OrgID, ref); err != nil {
			return err
		}
		if err := checkEtag(opts.Etag, "runner "+runner.RunnerID, runner.Meta); err != nil {
			return err
		}
		draining, err = s.beginDelete(ctx, tx, p, runner, opts)
		return err
	})
	if err != nil {
		return err
	}
	whenMade(ctx, func() { s.deleting(runner, draining) })
	return nil
}

// deleting follows the deletion of a runner, or the mark that says that it is being deleted.
func (s *Service) deleting(runner *core.Runner, draining bool) {
	if !draining {
		s.dropPools(runner.ID)
		s.contacts.forget(runner.ID)
		return
	}
	s.contacts.ensure(runner, s.born)
	s.contacts.setDeleting(runner.ID)
	s.tasks.run(func(ctx context.Context) { s.drain(ctx, runner.OrgID, runner.ID) })
}

// beginDelete deletes a runner on which nothing lives, or marks it as being deleted and reports that.
func (s *Service) beginDelete(ctx context.Context, tx store.Tx, p core.Principal, r *core.Runner, opts DeleteOptions) (draining bool, err error) {
	live, err := tx.CountLive(ctx, r.ID)
	if err != nil {
		return false, err
	}
	if live > 0 && r.DeletingSince != nil {
		return true, nil
	}
	if live > 0 && !opts.Force {
		return false, fault.Preconditionf(fault.ReasonRunnerHasSandboxes, "runner %s has %s that must end first", r.RunnerID, counted(int(live), "sandbox")).
			WithMeta("sandboxes", strconv.FormatInt(live, 10)).
			WithHint("stop what runs there first, or force it: berm runner delete --force")
	}
	s.revise(&r.Meta, p, opts.Reason)
	if live > 0 {
		now := s.now()
		r.DeletingSince = &now
	}
	o, err := runnerObject(r)
	if err != nil {
		return false, err
	}
	if live > 0 {
		return true, tx.Update(ctx, o)
	}
	return false, tx.Delete(ctx, o)
}

// drain stops what lives on a runner that is being deleted. Out of contact it waits for the line, or for the bound after
// which its sandboxes are LOST.
func (s *Service) drain(ctx context.Context, orgID, runnerUUID string) {
	if k, ok := s.contacts.get(runnerUUID); !ok || !k.deleting {
		return
	}
	for _, id := range s.live.on(runnerUUID, func(e *liveSandbox) bool { return !e.stopping }) {
		s.tasks.run(func(ctx context.Context) {
			if err := s.stop(ctx, orgID, id, DrainGrace, core.EndDeleted); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "a sandbox of a runner that is deleted could not be stopped yet", "sandbox", id, "error", err)
			}
		})
	}
	s.drained(ctx, orgID, runnerUUID)
}

// drained deletes a runner that is being deleted once nothing lives on it any more.
func (s *Service) drained(ctx context.Context, orgID, runnerUUID string) {
	if k, ok := s.contacts.get(runnerUUID); !ok || !k.deleting {
		return
	}
	gone := false
	failpoint.Hit(fpRunnerDrained)
	err := s.store.Update(ctx, func(tx store.Tx) error {
		gone = false
		o, err := readRunnerObject(ctx, tx, orgID, runnerUUID)
		if fault.Is(err, fault.NotFound) {
			gone = true
			return nil
		}
		if err != nil {
			return err
		}
		live, err := tx.CountLive(ctx, runnerUUID)
		if err != nil || live > 0 {
			return err
		}
		gone = true
		o.UpdatedAt = s.now()
		return tx.Delete(ctx, o)
	})
	if err != nil {
		s.log.ErrorContext(ctx, "a drained runner could not be deleted", "runner", runnerUUID, "error", err)
		return
	}
	if gone {
		s.configs.invalidate(orgID)
		s.dropPools(runnerUUID)
		s.contacts.forget(runnerUUID)
	}
}
