package control

import (
	"context"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// Drift is in what the object that is held of a sandbox differs from the one that was submitted.
type Drift struct {
	backend.Drift
	SandboxID, RunnerID string
}

// Drift compares the object that was submitted for a sandbox, as it was stored then, with what its runner's cluster holds now.
// Precondition when nothing was submitted yet, Unavailable when the runner is out of contact, Unimplemented where only Berm holds an
// object.
func (s *Service) Drift(ctx context.Context, p core.Principal, id string) (*Drift, error) {
	if err := s.allow(ctx, p, "Drift"); err != nil {
		return nil, err
	}
	row, err := s.row(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	submitted, err := s.submitted(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	if submitted == nil {
		return nil, fault.Preconditionf(reasonNotSubmitted, "nothing is known to have been submitted for sandbox %s", id).
			WithHint("berm get %s says how far it got.", id)
	}
	link, _ := s.contacts.linkOf(row.RunnerUUID)
	if link == nil {
		return nil, runnerAway(row.RunnerID)
	}
	d, err := link.Drift(ctx, row.ID, submitted)
	if err != nil {
		return nil, err
	}
	return &Drift{Drift: *d, SandboxID: row.ID, RunnerID: row.RunnerID}, nil
}

// reasonNotSubmitted is of what is asked about an object before there is one.
const reasonNotSubmitted = "NOT_SUBMITTED"
