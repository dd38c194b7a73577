package control

import (
	"context"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// Logs reads what the main process of a sandbox printed, running or ended, for as long as its runner keeps it. While the
// sandbox starts it waits, within ctx; it ends with ctx.
func (s *Service) Logs(ctx context.Context, p core.Principal, id string, q backend.LogQuery) (backend.LogReader, error) {
	if err := s.allow(ctx, p, "Logs"); err != nil {
		return nil, err
	}
	if err := checkLogs(q); err != nil {
		return nil, err
	}
	row, err := s.peek(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	if err := s.handedOver(ctx, id); err != nil {
		return nil, err
	}
	link, since := s.contacts.linkOf(row.RunnerUUID)
	if link == nil {
		return nil, s.unreachable(row, since)
	}
	failpoint.Hit(fpLogs)
	over := s.busy(id)
	r, err := link.Logs(ctx, id, q)
	if err != nil {
		over()
	}
	if fault.Is(err, fault.NotFound) && fault.HasReason(err, fault.ReasonSandboxNotFound) {
		return nil, s.noOutput(ctx, p.OrgID, id, err)
	}
	if err != nil {
		return nil, err
	}
	return &busyLogs{LogReader: r, over: over, stop: context.AfterFunc(ctx, over)}, nil
}

func checkLogs(q backend.LogQuery) error {
	f := fault.Invalidf(fault.ReasonInvalidRequest, "invalid request for logs")
	if q.Tail != nil && *q.Tail < 0 {
		f.WithField("tail_lines", "%d is negative", *q.Tail)
	}
	if q.Session != "" && (q.Tail != nil || !q.Since.IsZero()) {
		f.WithField("session", "excludes tail_lines and since")
	}
	if q.Session == "" && q.Offset != 0 {
		f.WithField("offset", "needs the session that it belongs to")
	}
	return orNil(f)
}

// noOutput says of a sandbox whose runner has no output of it why: its time is over, or the runner does not have it yet.
func (s *Service) noOutput(ctx context.Context, orgID, id string, err error) error {
	row, again := s.peek(ctx, orgID, id)
	switch {
	case again != nil:
		return again
	case !row.Status.Terminal():
		return s.linkFault(ctx, orgID, id, err)
	}
	return fault.New(fault.OutOfRange, fault.ReasonOutputNotKept, "the output of sandbox %s, which ended at %s, is not kept any more", id, row.EndedAt.UTC().Format(time.RFC3339)).
		WithMeta("sandbox_id", id).WithCause(err)
}
