package control

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// Limits of maintenance.
const (
	// MaxCordonReason is the longest reason of a cordon, in bytes.
	MaxCordonReason = 1024
	// MaxDrainGrace is the longest time that a drain leaves each sandbox to end by itself.
	MaxDrainGrace = time.Hour
	// drainParallel is how many sandboxes of a runner are told to end at once.
	drainParallel = 16
	// maxDrainProblems is how many sandboxes that could not be told a drain names; all are counted.
	maxDrainProblems = 20
)

// Maintenance is what an operator decided about a runner besides its configuration, and what still lives there.
type Maintenance struct {
	RunnerID, RunnerUUID string
	// Cordon is nil for a runner that takes sandboxes.
	Cordon *core.Cordon
	// Live is how many sandboxes have not ended, Etag the state of the runner.
	Live int64
	Etag string
}

// Drained says what a drain did.
type Drained struct {
	Maintenance
	// Asked is how many sandboxes were told to end, Failed how many could not be, Problems why, for the first of them.
	Asked, Failed int
	Problems      []string
}

// RunnerMaintenance tells whether a runner takes new sandboxes, and how many it has.
func (s *Service) RunnerMaintenance(ctx context.Context, p core.Principal, ref string) (m *Maintenance, err error) {
	if err := s.allow(ctx, p, "RunnerMaintenance"); err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		run, err := readRunner(ctx, r, p.OrgID, ref)
		if err != nil {
			return err
		}
		m, err = maintenanceOf(ctx, r, run)
		return err
	})
	return m, err
}

// CordonedRunners lists the runners that take no new sandboxes, by runner_id.
func (s *Service) CordonedRunners(ctx context.Context, p core.Principal) (all []*Maintenance, err error) {
	if err := s.allow(ctx, p, "CordonedRunners"); err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(r store.Reader) error {
		all = nil
		return eachObject(ctx, r, store.KindRunner, p.OrgID, func(o *store.Object) error {
			run, err := runnerFrom(o)
			if err != nil || run.Cordon == nil {
				return err
			}
			m, err := maintenanceOf(ctx, r, run)
			all = append(all, m)
			return err
		})
	})
	slices.SortFunc(all, func(a, b *Maintenance) int { return strings.Compare(a.RunnerID, b.RunnerID) })
	return all, err
}

// CordonRunner keeps new sandboxes away from a runner; those that run go on. It is a revision of the runner, so that no launch
// that was planned before gets through after it. A runner that is cordoned stays so, with another reason if one is given.
func (s *Service) CordonRunner(ctx context.Context, p core.Principal, ref string, st EditState) (*Maintenance, error) {
	if err := s.allow(ctx, p, "CordonRunner", audit.Target{Kind: string(store.KindRunner), Ref: ref, Reason: st.Reason}); err != nil {
		return nil, err
	}
	return s.setCordon(ctx, p, ref, st, func(r *core.Runner) string {
		if r.Cordon != nil && (st.Reason == "" || st.Reason == r.Cordon.Reason) {
			return ""
		}
		r.Cordon = &core.Cordon{By: p.Actor, At: s.now(), Reason: st.Reason}
		return reasonOf("cordoned", st.Reason)
	})
}

// UncordonRunner lets a runner take new sandboxes again.
func (s *Service) UncordonRunner(ctx context.Context, p core.Principal, ref string, st EditState) (*Maintenance, error) {
	if err := s.allow(ctx, p, "UncordonRunner", audit.Target{Kind: string(store.KindRunner), Ref: ref, Reason: st.Reason}); err != nil {
		return nil, err
	}
	return s.setCordon(ctx, p, ref, st, func(r *core.Runner) string {
		if r.Cordon == nil {
			return ""
		}
		r.Cordon = nil
		return reasonOf("uncordoned", st.Reason)
	})
}

// reasonOf is what the history says of a change.
func reasonOf(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// setCordon writes what change makes of a runner, with the reason it returns; "" means that nothing changes.
func (s *Service) setCordon(ctx context.Context, p core.Principal, ref string, st EditState, change func(*core.Runner) string) (m *Maintenance, err error) {
	if len(st.Reason) > MaxCordonReason {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid reason").WithField("reason", "has %d bytes, more than %d", len(st.Reason), MaxCordonReason)
	}
	err = s.edit(ctx, p.OrgID, func(tx store.Tx) error {
		r, err := readRunner(ctx, tx, p.OrgID, ref)
		if err != nil {
			return err
		}
		if err := checkEtag(st.Etag, "runner "+r.RunnerID, r.Meta); err != nil {
			return err
		}
		if r.DeletingSince != nil {
			return fault.Preconditionf(fault.ReasonRunnerHasSandboxes, "runner %s is being deleted: it takes no new sandboxes", r.RunnerID)
		}
		if why := change(r); why != "" {
			s.revise(&r.Meta, p, why)
			o, err := runnerObject(r)
			if err != nil {
				return err
			}
			if err := tx.Update(ctx, o); err != nil {
				return err
			}
			r.Meta = metaOf(o)
		}
		m, err = maintenanceOf(ctx, tx, r)
		return err
	})
	return m, err
}

func maintenanceOf(ctx context.Context, r store.Reader, run *core.Runner) (*Maintenance, error) {
	live, err := r.CountLive(ctx, run.ID)
	return &Maintenance{RunnerID: run.RunnerID, RunnerUUID: run.ID, Cordon: run.Cordon, Live: live, Etag: Etag(run.Meta)}, err
}

// DrainRunner cordons a runner and tells every sandbox on it to end within a grace. It returns when they were told, not when they
// have ended: RunnerMaintenance counts those that live. What cannot be told, because the runner is out of contact, is counted and
// told again by another drain.
func (s *Service) DrainRunner(ctx context.Context, p core.Principal, ref string, grace time.Duration, st EditState) (*Drained, error) {
	if err := s.allow(ctx, p, "DrainRunner", audit.Target{Kind: string(store.KindRunner), Ref: ref, Reason: st.Reason}); err != nil {
		return nil, err
	}
	if grace < 0 || grace > MaxDrainGrace {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid grace").WithField("grace_seconds", "%v is not from 0 to %v", grace, MaxDrainGrace)
	}
	m, err := s.CordonRunner(ctx, p, ref, st)
	if err != nil || isPreview(ctx) {
		return &Drained{}, err
	}
	out := s.tellToEnd(ctx, p.OrgID, m.RunnerUUID, grace)
	after, err := s.RunnerMaintenance(ctx, p, m.RunnerUUID)
	if err != nil {
		return nil, err
	}
	out.Maintenance = *after
	return out, nil
}

// tellToEnd tells all sandboxes of a runner to end, some at a time.
func (s *Service) tellToEnd(ctx context.Context, orgID, runnerUUID string, grace time.Duration) *Drained {
	var (
		out  Drained
		mu   sync.Mutex
		all  sync.WaitGroup
		free = make(chan struct{}, drainParallel)
	)
	for _, id := range s.live.on(runnerUUID, func(*liveSandbox) bool { return true }) {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			err := s.stop(ctx, orgID, id, grace, core.EndStopped)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				out.Asked++
				return
			}
			out.Failed++
			if len(out.Problems) < maxDrainProblems {
				out.Problems = append(out.Problems, "sandbox "+id+": "+fault.From(err).Message)
			}
		})
	}
	all.Wait()
	return &out
}
