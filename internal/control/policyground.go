package control

import (
	"context"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/store"
)

// ground reads what tests are decided from in one consistent state, as it would be with the objects of edits in it: the runners that
// bind profiles which are tested, with those bindings and their default one. It is not for concurrent use.
type ground struct {
	s     *Service
	r     store.Reader
	orgID string
	edits []*store.Object
	// old is what was folded before: what has the same revisions is taken from there.
	old *orgConfig

	zones    map[string]*core.Zone
	profiles map[string]*core.Profile
}

func (s *Service) ground(r store.Reader, orgID string, edits []*store.Object) *ground {
	old, _ := s.configs.get(orgID)
	return &ground{s: s, r: r, orgID: orgID, edits: edits, old: old, zones: map[string]*core.Zone{}, profiles: map[string]*core.Profile{}}
}

// edited returns what the edits make of an object.
func (g *ground) edited(is func(*store.Object) bool) *store.Object {
	if i := slices.IndexFunc(g.edits, is); i >= 0 {
		return g.edits[i]
	}
	return nil
}

// zone returns a zone by name, nil when there is none.
func (g *ground) zone(ctx context.Context, name string) (*core.Zone, error) {
	if z, known := g.zones[name]; known {
		return z, nil
	}
	var (
		z   *core.Zone
		err error
	)
	if o := g.edited(func(o *store.Object) bool { return o.Kind == store.KindZone && o.Name == name }); o == nil {
		z, err = findZone(ctx, g.r, g.orgID, name)
	} else if !o.Deleted {
		z, err = zoneFrom(o)
	}
	if err == nil {
		g.zones[name] = z
	}
	return z, err
}

// profile returns a profile by UUID, nil when there is none.
func (g *ground) profile(ctx context.Context, id string) (*core.Profile, error) {
	if p, known := g.profiles[id]; known {
		return p, nil
	}
	o := g.edited(func(o *store.Object) bool { return o.Kind == store.KindProfile && o.ID == id })
	var err error
	if o == nil {
		if o, err = g.r.Object(ctx, store.KindProfile, g.orgID, id); fault.Is(err, fault.NotFound) {
			o, err = nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	var p *core.Profile
	if o != nil && !o.Deleted {
		if p, err = profileFrom(o); err != nil {
			return nil, err
		}
	}
	g.profiles[id] = p
	return p, nil
}

// runners calls fn for every runner.
func (g *ground) runners(ctx context.Context, fn func(*core.Runner) error) error {
	return eachEdited(ctx, g.r, store.KindRunner, g.orgID, g.edits, func(o *store.Object) error {
		if old := g.old.find(o.ID); old != nil && old.runner.Revision == o.Revision {
			return fn(old.runner) // Read before; a revision never changes.
		}
		r, err := runnerFrom(o)
		if err != nil {
			return err
		}
		return fn(r)
	})
}

// snapshot folds what tests of profiles are decided from.
func (g *ground) snapshot(ctx context.Context, tested map[string]*PolicyTests) (*plan.Snapshot, error) {
	cfg := &orgConfig{}
	err := g.runners(ctx, func(r *core.Runner) error {
		if !slices.ContainsFunc(r.Bindings, func(b core.Binding) bool { return tested[b.ProfileID] != nil }) {
			return nil
		}
		zone, err := g.zone(ctx, r.Zone)
		if err != nil {
			return err
		}
		c := &runnerConfig{runner: r, zone: zone, owner: g.s.guardrailsOf(r.ID)}
		for i, b := range r.Bindings {
			if tested[b.ProfileID] == nil && !b.Default {
				continue
			}
			if err := g.bind(ctx, c, i, b); err != nil {
				return err
			}
		}
		cfg.runners = append(cfg.runners, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return g.s.snapshotOf(g.orgID, cfg, make([]core.Amounts, len(cfg.runners))), nil
}

func (g *ground) bind(ctx context.Context, c *runnerConfig, i int, b core.Binding) error {
	profile, err := g.profile(ctx, b.ProfileID)
	if err != nil {
		return err
	}
	if same := g.old.find(c.runner.ID).binding(i, c.runner, c.zone, profile, c.owner); same != nil {
		c.bindings = append(c.bindings, same)
		return nil
	}
	folded, err := plan.NewBinding(c.runner, c.zone, profile, b, c.owner)
	if err == nil {
		c.bindings = append(c.bindings, folded)
	}
	return err
}

// runCases decides cases on all cores. The results are in their order.
func runCases(ctx context.Context, fleet *policy.Fleet, cases []policy.Case) ([]policy.Result, error) {
	out := make([]policy.Result, len(cases))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	const chunk = 64
	for from := 0; from < len(cases); from += chunk {
		group.Go(func() error {
			for i := from; i < min(from+chunk, len(cases)); i++ {
				out[i] = fleet.Run(&cases[i])
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}
