package control

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
)

// RunnerFilter selects runners. Empty fields select all.
type RunnerFilter struct {
	GroupID, ProfileName, GPUType, Architecture string
	// ExcludeShared is accepted and changes nothing: no runner is shared between organizations.
	ExcludeShared bool
	HealthyOnly   bool
}

// AvailableRunner is a runner that the caller may launch on: one that a process came for.
type AvailableRunner struct {
	RunnerID, GroupID string
	// Healthy: in contact, able to run sandboxes and taking new ones.
	Healthy        bool
	Architecture   string
	Capacity, Free core.Amounts
	// Sandboxes counts those that have not ended.
	Sandboxes int64
	// ProfileNames are the names of its bindings, sorted.
	ProfileNames []string
	ConnectedAt  time.Time
}

// ProfileFilter selects bindings. Empty fields select all.
type ProfileFilter struct {
	GPUType, Architecture, RunnerID string
	// ExcludeShared is as in RunnerFilter.
	ExcludeShared bool
}

// AvailableProfile is one binding of one runner.
type AvailableProfile struct {
	ProfileName, RunnerID, Architecture string
	// IngressModes and EgressModes are the names that a launch may choose from, sorted.
	IngressModes, EgressModes []string
}

// AvailableRunners lists runners by runner_id.
func (s *Service) AvailableRunners(ctx context.Context, p core.Principal, f RunnerFilter, page Page) ([]*AvailableRunner, string, error) {
	if err := s.allow(ctx, p, "AvailableRunners"); err != nil {
		return nil, "", err
	}
	all, err := s.available(ctx, p.OrgID)
	if err != nil {
		return nil, "", err
	}
	var out []*AvailableRunner
	for _, r := range all {
		if v := s.availableRunner(r); f.admits(v) {
			out = append(out, v)
		}
	}
	c := scope{orgID: p.OrgID, kind: "available-runner", filter: filterText(f.GroupID, f.ProfileName, f.GPUType, f.Architecture)}
	return paged(c, page, out, func(r *AvailableRunner) string { return r.RunnerID })
}

// AvailableRunner returns one runner by runner_id.
func (s *Service) AvailableRunner(ctx context.Context, p core.Principal, runnerID string) (*AvailableRunner, error) {
	if err := s.allow(ctx, p, "AvailableRunner"); err != nil {
		return nil, err
	}
	all, err := s.available(ctx, p.OrgID)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Runner.RunnerID == runnerID {
			return s.availableRunner(r), nil
		}
	}
	return nil, fault.NotFoundf(fault.ReasonRunnerNotFound, "runner %.80q does not exist, or no process has connected for it", runnerID)
}

// AvailableProfiles lists bindings by runner and name.
func (s *Service) AvailableProfiles(ctx context.Context, p core.Principal, f ProfileFilter, page Page) ([]*AvailableProfile, string, error) {
	if err := s.allow(ctx, p, "AvailableProfiles"); err != nil {
		return nil, "", err
	}
	out, err := s.availableProfiles(ctx, p.OrgID, func(r *plan.Runner, _ *plan.Binding) bool {
		return (f.RunnerID == "" || r.Runner.RunnerID == f.RunnerID) && (f.Architecture == "" || r.Architecture == f.Architecture) && f.GPUType == ""
	})
	if err != nil {
		return nil, "", err
	}
	c := scope{orgID: p.OrgID, kind: "available-profile", filter: filterText(f.GPUType, f.Architecture, f.RunnerID)}
	return paged(c, page, out, func(a *AvailableProfile) string { return a.RunnerID + "\x00" + a.ProfileName })
}

// AvailableProfile returns one binding by name, of the runner given or of the first that has it.
func (s *Service) AvailableProfile(ctx context.Context, p core.Principal, name, runnerID string) (*AvailableProfile, error) {
	if err := s.allow(ctx, p, "AvailableProfile"); err != nil {
		return nil, err
	}
	out, err := s.availableProfiles(ctx, p.OrgID, func(r *plan.Runner, b *plan.Binding) bool {
		return b.Name == name && (runnerID == "" || r.Runner.RunnerID == runnerID)
	})
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fault.NotFoundf(fault.ReasonProfileNotFound, "no connected runner binds a profile as %.80q", name)
	}
	return out[0], nil
}

// available returns the runners of an organization that a process came for and that take new sandboxes.
func (s *Service) available(ctx context.Context, orgID string) ([]*plan.Runner, error) {
	cfg, err := s.config(ctx, orgID, false)
	if err != nil {
		return nil, err
	}
	// What is told to people is what the store says: another gateway may have launched here.
	used, err := s.usedOn(ctx, cfg, true)
	if err != nil {
		return nil, err
	}
	snap := s.snapshotOf(orgID, cfg, used)
	return slices.DeleteFunc(snap.Runners, func(r *plan.Runner) bool { return r.Kind == "" || r.Cordoned }), nil
}

func (s *Service) availableRunner(r *plan.Runner) *AvailableRunner {
	k, _ := s.contacts.get(r.Runner.ID)
	out := &AvailableRunner{
		RunnerID: r.Runner.RunnerID, GroupID: r.Runner.GroupID, Healthy: r.Connected && r.Unable == "", Architecture: r.Architecture,
		Capacity: r.Capacity, Sandboxes: r.Used.Sandboxes, ProfileNames: make([]string, len(r.Bindings)),
		Free: core.Amounts{
			CPUMillis: max(0, r.Capacity.CPUMillis-r.Used.CPUMillis), MemoryBytes: max(0, r.Capacity.MemoryBytes-r.Used.MemoryBytes),
			GPUs: max(0, r.Capacity.GPUs-r.Used.GPUs), Sandboxes: max(0, r.Capacity.Sandboxes-r.Used.Sandboxes),
		},
	}
	if k.connected {
		out.ConnectedAt = k.since
	}
	for i, b := range r.Bindings {
		out.ProfileNames[i] = b.Name
	}
	slices.Sort(out.ProfileNames)
	return out
}

func (f RunnerFilter) admits(r *AvailableRunner) bool {
	switch {
	case f.GroupID != "" && f.GroupID != r.GroupID,
		f.ProfileName != "" && !slices.Contains(r.ProfileNames, f.ProfileName),
		f.GPUType != "", // no backend reports GPUs yet
		f.Architecture != "" && f.Architecture != r.Architecture,
		f.HealthyOnly && !r.Healthy:
		return false
	}
	return true
}

func (s *Service) availableProfiles(ctx context.Context, orgID string, ok func(*plan.Runner, *plan.Binding) bool) ([]*AvailableProfile, error) {
	all, err := s.available(ctx, orgID)
	if err != nil {
		return nil, err
	}
	var out []*AvailableProfile
	for _, r := range all {
		bindings := slices.Clone(r.Bindings)
		slices.SortFunc(bindings, func(a, b *plan.Binding) int { return cmp.Compare(a.Name, b.Name) })
		for _, b := range bindings {
			if ok(r, b) {
				out = append(out, &AvailableProfile{
					ProfileName: b.Name, RunnerID: r.Runner.RunnerID, Architecture: r.Architecture,
					IngressModes: modeNames(b, "network.ingress.modes"), EgressModes: modeNames(b, "network.egress.modes"),
				})
			}
		}
	}
	return out, nil
}

func modeNames(b *plan.Binding, path string) []string {
	v, ok := b.Folded.Lookup(path)
	if !ok {
		return nil
	}
	modes, _ := v.Any().(map[string]any)
	return slices.Sorted(maps.Keys(modes))
}
