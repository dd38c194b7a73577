package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// What this server remembers, another one may change: configuration, tokens, and sandboxes of runners that both are in contact with. The
// change log tells. A launch does not depend on that, because its transaction asserts what it was planned from; warm pools, tokens
// and those who wait for a sandbox do.

// followRetry is when the change log is read again after that failed.
const followRetry = time.Second

// followChanges keeps memory in step with the store, from what the change log had when nothing was remembered yet, until ctx ends.
func (s *Service) followChanges(ctx context.Context, after int64) {
	for {
		for c, err := range s.store.Changes(ctx, after) {
			if err != nil {
				s.log.WarnContext(ctx, "it cannot be read what other servers change, trying again", "error", err, "retry", followRetry)
				break
			}
			s.changedElsewhere(ctx, c)
			after = c.Seq
		}
		if !sleep(ctx, followRetry) {
			return
		}
	}
}

// changedElsewhere takes in one change, which this server may have made itself.
func (s *Service) changedElsewhere(ctx context.Context, c store.Change) {
	switch c.Kind {
	case store.ChangeToken:
		s.tokens.forget(c.ID)
	case store.ChangeSandbox:
		s.sandboxChanged(ctx, c)
	case store.ChangeLease:
		s.leaseChanged(ctx, c)
	case string(store.KindRunner):
		s.configs.invalidate(c.OrgID)
		s.runnerChanged(ctx, c)
	case string(store.KindZone), string(store.KindProfile):
		s.configs.invalidate(c.OrgID)
	}
}

// sandboxChanged takes in what another server wrote of a sandbox that this one knows.
func (s *Service) sandboxChanged(ctx context.Context, c store.Change) {
	if s.live.behind(c.ID, c.Revision) {
		s.reread(ctx, c.OrgID, c.ID)
	}
}

// reread makes memory know of a sandbox what the store has.
func (s *Service) reread(ctx context.Context, orgID, id string) {
	row, err := s.row(ctx, orgID, id)
	switch {
	case fault.Is(err, fault.NotFound):
		s.live.remove(id)
	case err != nil:
		s.log.WarnContext(ctx, "it cannot be read what another server wrote of a sandbox", "sandbox", id, "error", err)
	case row.Status.Terminal():
		s.live.remove(id)
		s.used.forget(row.RunnerUUID)
		s.drained(ctx, row.OrgID, row.RunnerUUID)
	default:
		s.live.update(id, func(e *liveSandbox) {
			if e.row.Revision < row.Revision {
				e.written(row)
			}
		})
	}
}

// written makes row the last state written. What was observed before and is in it waits for no write any more.
func (e *liveSandbox) written(row *core.Sandbox) {
	slim := *row
	slim.Decision, slim.Launch = nil, nil
	e.row = &slim
	if e.unwritten != nil {
		if _, changes := advance(&slim, e.unwritten); !changes {
			e.unwritten = nil
		}
	}
}

// runnerChanged takes in that a runner was deleted through another server, or is being deleted.
func (s *Service) runnerChanged(ctx context.Context, c store.Change) {
	k, known := s.contacts.get(c.ID)
	switch {
	case !known:
		return
	case c.Deleted:
		s.dropPools(c.ID)
		s.contacts.forget(c.ID)
		return
	case k.deleting:
		return
	}
	r, err := s.findRunner(ctx, c.ID)
	if err != nil {
		if !fault.Is(err, fault.NotFound) {
			s.log.WarnContext(ctx, "it cannot be read what became of a runner", "runner", k.runnerID, "error", err)
		}
		return
	}
	if r.DeletingSince != nil {
		s.contacts.setDeleting(r.ID)
		s.tasks.run(func(ctx context.Context) { s.drain(ctx, r.OrgID, r.ID) })
	}
}
