package control

import (
	"context"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// maxShownID is how much of an unknown id is repeated to the caller.
const maxShownID = 80

// reasonWaitTimeout: the caller's deadline came before the state that it waits for.
const reasonWaitTimeout = "WAIT_TIMEOUT"

// Ended is a condition for Wait: the sandbox has ended.
func Ended(sb *core.Sandbox) bool { return sb.Status.Terminal() }

// Settled is a condition for Wait: the sandbox runs, is being stopped or has ended.
func Settled(sb *core.Sandbox) bool {
	return sb.Status != core.StatusPending && sb.Status != core.StatusCreating
}

// Wait returns the sandbox as soon as until holds for it, or it has ended. When ctx ends first: Deadline, and the sandbox as
// it was. It does not poll.
func (s *Service) Wait(ctx context.Context, p core.Principal, id string, until func(*core.Sandbox) bool) (*core.Sandbox, error) {
	if err := s.allow(ctx, p, "Wait"); err != nil {
		return nil, err
	}
	return s.wait(ctx, p.OrgID, id, until)
}

func (s *Service) wait(ctx context.Context, orgID, id string, until func(*core.Sandbox) bool) (*core.Sandbox, error) {
	for {
		// The channel is taken before the state is read, so that no change falls between the two.
		var changed chan struct{}
		known := s.live.look(id, func(e *liveSandbox) { changed = e.changed })
		seq, err := s.lastChange(ctx, known)
		if err != nil {
			return nil, err
		}
		read := s.peek
		if !known { // Memory may know it by now, as it was before seq.
			read = s.row
		}
		row, err := read(ctx, orgID, id)
		if err != nil {
			return nil, err
		}
		now := s.overlay(row)
		if now.Status.Terminal() || until(now) {
			full, err := s.row(ctx, orgID, id)
			if err != nil {
				return nil, err
			}
			return s.overlay(full), nil
		}
		if !known {
			err = s.changedInStore(ctx, id, seq)
		} else {
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return now, fault.New(fault.Deadline, reasonWaitTimeout, "sandbox %s is still %s", id, now.Status).WithCause(ctx.Err())
		}
		if err != nil {
			return nil, err
		}
	}
}

// lastChange returns where to read the change log from; it is not needed for a sandbox that memory knows.
func (s *Service) lastChange(ctx context.Context, known bool) (seq int64, err error) {
	if known {
		return 0, nil
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		seq, err = r.LastChange(ctx)
		return err
	})
	return seq, err
}

// changedInStore returns when the store tells of a change of a sandbox that another process is responsible for.
func (s *Service) changedInStore(ctx context.Context, id string, after int64) error {
	for c, err := range s.store.Changes(ctx, after) {
		if err != nil {
			return err
		}
		if c.ID == id {
			return nil
		}
	}
	return ctx.Err()
}

// peek returns a sandbox of an organization as written, without decision and request: from memory while it lives.
func (s *Service) peek(ctx context.Context, orgID, id string) (*core.Sandbox, error) {
	var row *core.Sandbox
	s.live.look(id, func(e *liveSandbox) { row = e.row })
	if row == nil {
		return s.row(ctx, orgID, id)
	}
	if row.OrgID != orgID {
		return nil, noSandbox(id)
	}
	return row, nil
}

// row reads a sandbox of an organization with everything, as written.
func (s *Service) row(ctx context.Context, orgID, id string) (*core.Sandbox, error) {
	var row *core.Sandbox
	err := s.store.View(ctx, func(r store.Reader) error {
		var err error
		row, err = readSandbox(ctx, r, orgID, id)
		return err
	})
	return row, err
}

func readSandbox(ctx context.Context, r store.Reader, orgID, id string) (*core.Sandbox, error) {
	row, err := r.Sandbox(ctx, orgID, id)
	if fault.Is(err, fault.NotFound) {
		return nil, noSandbox(id)
	}
	return row, err
}

func noSandbox(id string) error {
	return fault.NotFoundf(fault.ReasonSandboxNotFound, "sandbox %.80q does not exist", id).WithMeta("sandbox_id", id[:min(len(id), maxShownID)])
}
