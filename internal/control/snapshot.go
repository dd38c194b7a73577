package control

import (
	"context"
	"slices"
	"sync"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
)

// orgConfig is the configuration of one organization at one moment, folded. It is immutable.
type orgConfig struct {
	runners []*runnerConfig
}

// runnerConfig is one runner with its bindings folded.
type runnerConfig struct {
	runner   *core.Runner
	zone     *core.Zone
	owner    *resolve.Input
	bindings []*plan.Binding
}

// configCache holds the folded configuration of organizations. A write here drops what it concerns before the write is
// acknowledged, so a launch that follows sees it; a write by another gateway is found by the assertion in the launch
// transaction, or by the second look that every refusal takes.
type configCache struct {
	mu     sync.Mutex
	byOrg  map[string]*orgConfig
	epochs map[string]uint64
	// changed is called, without the lock, when the configuration of an organization is or may be another.
	changed func(orgID string)
}

func newConfigCache() *configCache {
	return &configCache{byOrg: map[string]*orgConfig{}, epochs: map[string]uint64{}, changed: func(string) {}}
}

func (c *configCache) get(orgID string) (cfg *orgConfig, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byOrg[orgID], c.epochs[orgID]
}

// put keeps what was read, unless something was written since the epoch was taken.
func (c *configCache) put(orgID string, cfg *orgConfig, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epochs[orgID] == epoch {
		c.byOrg[orgID] = cfg
	}
}

func (c *configCache) invalidate(orgID string) {
	defer c.changed(orgID)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epochs[orgID]++
	delete(c.byOrg, orgID)
}

// invalidateAll drops the configuration of every organization.
func (c *configCache) invalidateAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for orgID := range c.byOrg {
		c.epochs[orgID]++
		delete(c.byOrg, orgID)
	}
}

// config returns the configuration of an organization; fresh reads it again. Bindings whose revisions are the same are not
// folded again.
func (s *Service) config(ctx context.Context, orgID string, fresh bool) (*orgConfig, error) {
	old, epoch := s.configs.get(orgID)
	if old != nil && !fresh {
		return old, nil
	}
	cfg, err := s.readConfig(ctx, orgID, old, nil)
	if err != nil {
		return nil, err
	}
	s.configs.put(orgID, cfg, epoch)
	if old != nil { // Another gateway may have written.
		s.configs.changed(orgID)
	}
	return cfg, nil
}

// readConfig reads and folds the configuration of an organization as it would be with the objects of edits in it. What old has
// folded from the same revisions is taken from there.
func (s *Service) readConfig(ctx context.Context, orgID string, old *orgConfig, edits []*store.Object) (*orgConfig, error) {
	var cfg *orgConfig
	err := s.store.View(ctx, func(r store.Reader) error {
		cfg = &orgConfig{}
		zones := map[string]*core.Zone{}
		profiles := map[string]*core.Profile{}
		err := eachEdited(ctx, r, store.KindZone, orgID, edits, func(o *store.Object) error {
			z, err := zoneFrom(o)
			zones[o.Name] = z
			return err
		})
		if err != nil {
			return err
		}
		err = eachEdited(ctx, r, store.KindProfile, orgID, edits, func(o *store.Object) error {
			p, err := profileFrom(o)
			profiles[o.ID] = p
			return err
		})
		if err != nil {
			return err
		}
		return eachEdited(ctx, r, store.KindRunner, orgID, edits, func(o *store.Object) error {
			run, err := runnerFrom(o)
			if err != nil {
				return err
			}
			cfg.runners = append(cfg.runners, s.foldRunner(ctx, run, zones[run.Zone], profiles, old.find(run.ID)))
			return nil
		})
	})
	return cfg, err
}

// eachEdited is eachObject as it would be with edits: objects that they change or delete are as they say, new ones come last.
func eachEdited(ctx context.Context, r store.Reader, kind store.Kind, orgID string, edits []*store.Object, fn func(*store.Object) error) error {
	by := map[string]*store.Object{}
	for _, o := range edits {
		if o.Kind == kind {
			by[o.ID] = o
		}
	}
	visit := func(o *store.Object) error {
		if o.Deleted {
			return nil
		}
		return fn(o)
	}
	err := eachObject(ctx, r, kind, orgID, func(o *store.Object) error {
		if edited, ok := by[o.ID]; ok {
			delete(by, o.ID)
			o = edited
		}
		return visit(o)
	})
	for _, o := range by {
		if err == nil {
			err = visit(o)
		}
	}
	return err
}

func (c *orgConfig) find(runnerUUID string) *runnerConfig {
	if c == nil {
		return nil
	}
	for _, r := range c.runners {
		if r.runner.ID == runnerUUID {
			return r
		}
	}
	return nil
}

// foldRunner folds the bindings of a runner, or takes them from old where nothing changed.
func (s *Service) foldRunner(ctx context.Context, r *core.Runner, zone *core.Zone, profiles map[string]*core.Profile, old *runnerConfig) *runnerConfig {
	cfg := &runnerConfig{runner: r, zone: zone, owner: s.guardrailsOf(r.ID)}
	for i, b := range r.Bindings {
		profile := profiles[b.ProfileID]
		if same := old.binding(i, r, zone, profile, cfg.owner); same != nil {
			cfg.bindings = append(cfg.bindings, same)
			continue
		}
		folded, err := plan.NewBinding(r, zone, profile, b, cfg.owner)
		if err != nil {
			// Writes check this; what is stored none the less must not take the other bindings with it.
			s.log.ErrorContext(ctx, "a binding cannot be folded and is left out", "runner", r.RunnerID, "binding", i, "error", err)
			continue
		}
		cfg.bindings = append(cfg.bindings, folded)
	}
	return cfg
}

// binding returns binding i if it was folded from the same revisions.
func (c *runnerConfig) binding(i int, r *core.Runner, zone *core.Zone, p *core.Profile, owner *resolve.Input) *plan.Binding {
	if c == nil || p == nil || c.runner.Revision != r.Revision || len(c.bindings) != len(r.Bindings) || c.owner != owner {
		return nil
	}
	sameZone := (zone == nil) == (c.zone == nil) && (zone == nil || zone.ID == c.zone.ID && zone.Revision == c.zone.Revision)
	if b := c.bindings[i]; sameZone && b.Profile.ID == p.ID && b.Profile.Revision == p.Revision {
		return b
	}
	return nil
}

// snapshot is what a launch is planned from: the configuration, and what is known now of the runners.
func (s *Service) snapshot(ctx context.Context, orgID string, fresh bool) (*plan.Snapshot, error) {
	cfg, err := s.config(ctx, orgID, fresh)
	if err != nil {
		return nil, err
	}
	used, err := s.usedOn(ctx, cfg, fresh)
	if err != nil {
		return nil, err
	}
	return s.snapshotOf(orgID, cfg, used), nil
}

func (s *Service) snapshotOf(orgID string, cfg *orgConfig, used []core.Amounts) *plan.Snapshot {
	snap := &plan.Snapshot{OrgID: orgID, Now: s.now(), Runners: make([]*plan.Runner, len(cfg.runners))}
	for i, r := range cfg.runners {
		snap.Runners[i] = s.planRunner(r, used[i])
	}
	return snap
}

func (s *Service) planRunner(c *runnerConfig, used core.Amounts) *plan.Runner {
	out := &plan.Runner{Runner: c.runner, Zone: c.zone, Bindings: c.bindings, Guardrails: c.owner, Used: used}
	out.Cordoned, out.CordonNote = cordoned(c.runner)
	k, known := s.contacts.get(c.runner.ID)
	if !known || k.link == nil {
		out.Note = "no process has connected yet"
		return out
	}
	info := k.link.Info()
	out.Kind, out.Architecture, out.RuntimeClasses = info.Kind, info.Architecture, info.RuntimeClasses
	out.DefaultRuntimeClass, out.NodeLabels, out.Features = info.DefaultRuntimeClass, info.NodeLabels, info.Features
	out.Capacity = k.capacity // The reservation goes by it, too: what the process says may be a moment ahead.
	out.Connected, out.Unable = k.connected, info.Refusal
	if !k.connected {
		out.Note = "out of contact since " + k.since.UTC().Format("2006-01-02T15:04:05Z07:00")
	}
	out.Refuses = refuses(k.link, c.runner.Managed.AllowPrivilegedProfileAnnotation)
	return out
}

// cordoned reports whether a runner takes no new sandboxes, and why in words.
func cordoned(r *core.Runner) (bool, string) {
	switch {
	case r.DeletingSince != nil:
		return true, "it is being deleted"
	case r.Cordon != nil:
		return true, r.Cordon.String()
	}
	return false, ""
}

// refuses asks a backend what it cannot honour.
func refuses(link runner.Link, privileged bool) func(*specpb.ProfileSpec, *specpb.Launch) []guard.Violation {
	return func(spec *specpb.ProfileSpec, launch *specpb.Launch) []guard.Violation {
		if len(launch.GetSecretStores()) > 0 && !slices.Contains(link.Info().Features, backend.FeatureSecrets) {
			return []guard.Violation{{
				Reason: fault.ReasonBackendUnsupported, Path: "secret_stores", Message: "secret_stores: the runner is of a release that takes no secrets; upgrade it",
			}}
		}
		err := link.Check(&backend.Work{Spec: spec, Launch: launch, Privileged: privileged})
		if err == nil {
			return nil
		}
		f := fault.From(err)
		out := make([]guard.Violation, 0, len(f.Fields))
		for _, field := range f.Fields {
			out = append(out, guard.Violation{Reason: f.Reason, Path: field.Path, Message: field.Path + ": " + field.Description})
		}
		if len(out) == 0 {
			out = append(out, guard.Violation{Reason: f.Reason, Message: f.Message})
		}
		return out
	}
}
