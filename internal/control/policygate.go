package control

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/store"
)

// gate runs the attached tests that an edit may break, in the transaction of the edit: what it reads cannot change before that commits,
// so two edits that break a test together cannot both pass.
type gate struct {
	s       *Service
	orgID   string
	written []*store.Object
	// revisions are the first that the edit wrote of each.
	revisions []int32
	// before are the objects as they were, for those that are written; a new one is a deleted one there.
	before []*store.Object
}

// gateEdit runs the attached tests that an edit which wrote these objects may break, nil for none. What an edit breaks passed before
// it, or is tried at a place that is new. all is as for run.
func (s *Service) gateEdit(ctx context.Context, tx store.Tx, orgID string, written []*store.Object, all bool) (*testImpact, error) {
	g := &gate{s: s, orgID: orgID}
	for _, o := range written {
		switch i := slices.IndexFunc(g.written, func(w *store.Object) bool { return w.ID == o.ID }); {
		case o.Kind == store.KindTests:
		case i >= 0:
			g.written[i] = o // written twice
		default:
			g.written, g.revisions = append(g.written, o), append(g.revisions, o.Revision)
		}
	}
	if len(g.written) == 0 {
		return &testImpact{}, nil
	}
	attached, err := attachedTests(ctx, tx, orgID)
	if err != nil || len(attached) == 0 {
		return &testImpact{}, err
	}
	if err := g.readBefore(ctx, tx); err != nil {
		return nil, err
	}
	tested, err := g.concerned(ctx, tx, attached)
	if err != nil || len(tested) == 0 {
		return &testImpact{}, err
	}
	return g.run(ctx, tx, tested, all)
}

// attachedTests returns the tests of an organization, by the UUID of their profile.
func attachedTests(ctx context.Context, r store.Reader, orgID string) (map[string]*PolicyTests, error) {
	all := map[string]*PolicyTests{}
	err := eachObject(ctx, r, store.KindTests, orgID, func(o *store.Object) error {
		t, err := testsFrom(o)
		if err == nil && !t.Removed {
			all[t.ProfileID] = t
		}
		return err
	})
	return all, err
}

func (g *gate) readBefore(ctx context.Context, tx store.Tx) error {
	for i, o := range g.written {
		was := *o
		was.Deleted = true
		if g.revisions[i] > 1 {
			found, err := tx.ObjectRevision(ctx, o.Kind, o.OrgID, o.ID, g.revisions[i]-1)
			if err != nil {
				return err
			}
			was = *found
		}
		g.before = append(g.before, &was)
	}
	return nil
}

// concerned returns the tests of the profiles that the edit touches: the profile itself, a runner that binds it or did, the zone of such a
// runner, or the profile that launches get there which name none.
func (g *gate) concerned(ctx context.Context, tx store.Tx, all map[string]*PolicyTests) (map[string]*PolicyTests, error) {
	out := map[string]*PolicyTests{}
	bound := func(r *core.Runner) {
		for _, b := range r.Bindings {
			if t := all[b.ProfileID]; t != nil {
				out[b.ProfileID] = t
			}
		}
	}
	zones, defaults := false, false
	for i, o := range g.written {
		switch o.Kind {
		case store.KindProfile:
			if t := all[o.ID]; t != nil {
				out[o.ID] = t
			}
			defaults = slices.ContainsFunc(slices.Collect(maps.Values(all)), (*PolicyTests).unnamed)
		case store.KindRunner:
			for _, state := range []*store.Object{g.before[i], o} {
				r, err := runnerFrom(state)
				if err != nil {
					return nil, err
				}
				bound(r)
			}
			g.named(o.Name, all, out)
		case store.KindZone:
			zones = true
		case store.KindTests: // gateEdit left them out
		}
	}
	if !zones && !defaults {
		return out, nil
	}
	err := g.s.ground(tx, g.orgID, nil).runners(ctx, func(r *core.Runner) error {
		if g.wrote(store.KindZone, "", r.Zone) {
			bound(r)
		}
		if defaults && g.wroteDefault(r) {
			for _, b := range r.Bindings {
				if t := all[b.ProfileID]; t != nil && t.unnamed() {
					out[b.ProfileID] = t
				}
			}
		}
		return nil
	})
	return out, err
}

// wroteDefault reports whether the edit writes the profile that launches get on a runner which name none.
func (g *gate) wroteDefault(r *core.Runner) bool {
	return slices.ContainsFunc(r.Bindings, func(b core.Binding) bool { return b.Default && g.wrote(store.KindProfile, b.ProfileID, "") })
}

// unnamed reports whether any of the tests is of a launch that names no profile.
func (t *PolicyTests) unnamed() bool {
	return slices.ContainsFunc(t.Tests, func(t policy.Test) bool { return t.Unnamed })
}

// named adds the tests that name a runner: one that did not bind the profile may do so now.
func (g *gate) named(runnerID string, all, out map[string]*PolicyTests) {
	for id, t := range all {
		if slices.ContainsFunc(t.Tests, func(t policy.Test) bool { return t.Runner == runnerID }) {
			out[id] = t
		}
	}
}

// wrote reports whether the edit writes an object, by UUID or by name.
func (g *gate) wrote(kind store.Kind, id, name string) bool {
	return slices.ContainsFunc(g.written, func(o *store.Object) bool {
		return o.Kind == kind && (id != "" && o.ID == id || name != "" && o.Name == name)
	})
}

// touches reports whether a case may come to something else by the edit.
func (g *gate) touches(t *PolicyTests, c *policy.Case) bool {
	r := c.Host()
	return r == nil || g.wrote(store.KindProfile, t.ProfileID, "") || g.wrote(store.KindRunner, r.ID, "") || g.wrote(store.KindZone, "", r.Zone) ||
		c.Test.Unnamed && g.wroteDefault(r)
}

func byName(tested map[string]*PolicyTests) []*PolicyTests {
	out := make([]*PolicyTests, 0, len(tested))
	for _, t := range tested {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *PolicyTests) int { return strings.Compare(a.ProfileName, b.ProfileName) })
	return out
}
