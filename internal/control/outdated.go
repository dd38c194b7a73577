package control

import (
	"context"
	"slices"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/impact"
	"github.com/bermhq/berm/internal/core/plan"
)

// Outdated is a live sandbox whose launch would come to something else now.
type Outdated struct {
	Sandbox *core.Sandbox
	// Message says why it could not be launched in its place any more; Fields what would differ if it were. Old is what the sandbox has.
	Message string
	Fields  []impact.Field
}

// Outdated lists the live sandboxes whose launch, on the same runner and under the same binding, would come to something else with
// the configuration of now: they themselves never change. A page may be short, even empty, and not be the last.
func (s *Service) Outdated(ctx context.Context, p core.Principal, q SandboxQuery) ([]Outdated, string, error) {
	if err := s.allow(ctx, p, "Outdated"); err != nil {
		return nil, "", err
	}
	q.IncludeEnded = false
	rows, next, err := s.List(ctx, p, q)
	if err != nil {
		return nil, "", err
	}
	cfg, err := s.config(ctx, p.OrgID, false)
	if err != nil {
		return nil, "", err
	}
	now := s.snapshotOf(p.OrgID, cfg, make([]core.Amounts, len(cfg.runners)))
	var out []Outdated
	for _, row := range slices.DeleteFunc(rows, Ended) {
		o, err := s.outdated(ctx, now, row)
		if err != nil {
			return nil, "", err
		}
		if o != nil {
			out = append(out, *o)
		}
	}
	return out, next, ctx.Err()
}

// outdated compares one sandbox with what its launch would come to, nil when that is the same.
func (s *Service) outdated(ctx context.Context, now *plan.Snapshot, row *core.Sandbox) (*Outdated, error) {
	full, err := s.row(ctx, row.OrgID, row.ID)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	is, err := plan.Make(now, pinned(full.Launch, row), plan.Options{Terse: true, Actor: row.CreatedBy})
	if err != nil {
		return &Outdated{Sandbox: row, Message: fault.From(err).Message}, nil
	}
	if is.Digest == row.Digest {
		return nil, nil
	}
	record, err := plan.ParseRecord(full.Decision)
	if err != nil {
		return nil, err
	}
	fields := impact.CompareValues(record.Resolved(), is.Resolved.Fields())
	if len(fields) == 0 { // Guardrails alone differ.
		return nil, nil
	}
	return &Outdated{Sandbox: row, Fields: fields}, nil
}
