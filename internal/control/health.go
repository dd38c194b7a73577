package control

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/store"
)

// RunnerHealth is one runner of this process, as of now.
type RunnerHealth struct {
	OrgID, RunnerID string
	Connected       bool
	// LastHeartbeat is zero when no process ever came.
	LastHeartbeat time.Time
	// Capacity may be reserved in total, Reserved is.
	Capacity, Reserved core.Amounts
	// Sandboxes counts those that have not ended, by status.
	Sandboxes map[core.Status]int
}

// RunnerHealth returns how the runners of all organizations are that this process answers for, by organization and runner_id.
func (s *Service) RunnerHealth(ctx context.Context, p core.Principal) ([]RunnerHealth, error) {
	if err := s.allow(ctx, p, "RunnerHealth"); err != nil {
		return nil, err
	}
	known := s.contacts.all()
	byStatus := s.live.count()
	out := make([]RunnerHealth, len(known))
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		for i := range known {
			k := &known[i]
			out[i] = RunnerHealth{OrgID: k.orgID, RunnerID: k.runnerID, Connected: k.connected, LastHeartbeat: k.heard(s.now()), Sandboxes: byStatus[k.runnerUUID]}
			if k.link != nil {
				out[i].Capacity = k.link.Info().Capacity
			}
			if out[i].Reserved, err = r.Reserved(ctx, k.runnerUUID); err != nil {
				return err
			}
		}
		return nil
	})
	slices.SortFunc(out, func(a, b RunnerHealth) int {
		return cmp.Or(cmp.Compare(a.OrgID, b.OrgID), cmp.Compare(a.RunnerID, b.RunnerID))
	})
	return out, err
}

// all returns copies of the states of all lines.
func (c *contacts) all() []contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]contact, 0, len(c.byRunner))
	for _, k := range c.byRunner {
		out = append(out, *k)
	}
	return out
}

// heard returns when the process of a runner was last in contact, zero for never. The line of one in this process is open or is not:
// while it is, it is in contact now.
func (k *contact) heard(now time.Time) time.Time {
	switch l, ok := k.link.(interface{ Heard() time.Time }); {
	case k.link == nil:
		return time.Time{}
	case !k.inContact():
		return k.since
	case ok:
		return l.Heard()
	}
	return now
}

// count counts the sandboxes of each runner, by UUID, by status.
func (t *liveTable) count() map[string]map[core.Status]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]map[core.Status]int{}
	for _, e := range t.byID {
		of := out[e.row.RunnerUUID]
		if of == nil {
			of = map[core.Status]int{}
			out[e.row.RunnerUUID] = of
		}
		of[statusNow(e.row.Status, e)]++
	}
	return out
}
