package control

import (
	"context"
	"hash/fnv"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/impact"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// Limits of a preview.
const (
	// DefaultPreviewLaunches is how many of the last launches a preview decides again when it is not said.
	DefaultPreviewLaunches = 1000
	// MaxPreviewLaunches is how many at most.
	MaxPreviewLaunches = 10_000
	// MaxPreviewLive is how many live sandboxes it looks at, the youngest first.
	MaxPreviewLive = 10_000
)

// Preview is what an edit would do.
type Preview struct {
	// Changes are those of the objects that are edited, their paths behind KIND NAME; none means that nothing would change.
	Changes []spec.Change
	// Bindings says what becomes of bindings, Launches what of the last launches, were they made again, Sandboxes what a launch of
	// each live sandbox in its place would come to now: they themselves never change. Sandboxes are decided as if every runner were
	// empty: who is refused for room today says nothing about an edit.
	Bindings, Launches, Sandboxes []impact.Group
	// LaunchesSeen and SandboxesSeen count what was looked at. More says that there are more live sandboxes.
	LaunchesSeen, SandboxesSeen int
	More                        bool
	// Tests are the policy tests that fail with the edit, or come to something else; TestsSeen counts the places where they were run.
	// The edit is refused for those that say so: a preview shows them beside the rest, and is no error.
	Tests     []TestEffect
	TestsSeen int
}

// Refusal is that of the edit for the policy tests that it breaks, nil for none.
func (p *Preview) Refusal() error { return (&testImpact{effects: p.Tests}).refusal() }

// Preview runs an edit without writing, and returns what it would do. What refuses the edit, but for policy tests, is its error. edit must make exactly one
// call that edits zones, profiles or runners with the context it is given, by a caller who may. launches is how many of the last
// launches are decided again, 0 for the default.
func (s *Service) Preview(ctx context.Context, p core.Principal, launches int, edit func(context.Context) error) (*Preview, error) {
	if err := s.allow(ctx, p, "Preview"); err != nil {
		return nil, err
	}
	var noted preview
	if err := edit(previewing(ctx, &noted)); err != nil {
		return nil, err
	}
	out := &Preview{Changes: noted.changes}
	if len(noted.written) == 0 {
		return out, nil
	}
	out.Tests, out.TestsSeen = noted.tests.effects, noted.tests.seen
	if launches <= 0 {
		launches = DefaultPreviewLaunches
	}
	before, after, err := s.bothSides(ctx, p.OrgID, noted.written)
	if err != nil {
		return nil, err
	}
	out.Bindings = impact.Grouped(impact.Bindings(before, after))
	rows, _, err := s.lastSandboxes(ctx, store.SandboxFilter{OrgID: p.OrgID, IncludeEnded: true}, min(launches, MaxPreviewLaunches))
	if err != nil {
		return nil, err
	}
	out.LaunchesSeen = len(rows)
	if out.Launches, err = s.decideAgain(ctx, before, after, rows, false); err != nil {
		return nil, err
	}
	if rows, out.More, err = s.lastSandboxes(ctx, store.SandboxFilter{OrgID: p.OrgID}, MaxPreviewLive); err != nil {
		return nil, err
	}
	out.SandboxesSeen = len(rows)
	out.Sandboxes, err = s.decideAgain(ctx, before, after, rows, true)
	return out, err
}

// changesOf returns what edits change in the objects that they are about, read in their transaction: what one of them makes is there.
func changesOf(ctx context.Context, r store.Reader, written []*store.Object) ([]spec.Change, error) {
	var out []spec.Change
	for _, o := range written {
		list, err := objectChanges(ctx, r, o)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			c.Path = string(o.Kind) + " " + o.Name + ": " + c.Path
			out = append(out, c)
		}
	}
	return out, nil
}

// objectChanges returns what an edit changes in the object that it writes.
func objectChanges(ctx context.Context, r store.Reader, o *store.Object) ([]spec.Change, error) {
	from, to := newStates(), newStates()
	if o.Revision > 1 {
		was, err := r.ObjectRevision(ctx, o.Kind, o.OrgID, o.ID, o.Revision-1)
		if err != nil {
			return nil, err
		}
		if err := from.read(ctx, r, was); err != nil {
			return nil, err
		}
	}
	if o.Revision == 1 {
		to.value("name", o.Name)
	}
	if o.Deleted {
		from.value("name", o.Name)
	} else if err := to.read(ctx, r, o); err != nil {
		return nil, err
	}
	return changes(from, to), nil
}

// bothSides returns what launches are planned from without the edits and with them, every runner empty.
func (s *Service) bothSides(ctx context.Context, orgID string, edits []*store.Object) (before, after *plan.Snapshot, err error) {
	was, err := s.config(ctx, orgID, true)
	if err != nil {
		return nil, nil, err
	}
	is, err := s.readConfig(ctx, orgID, was, edits)
	if err != nil {
		return nil, nil, err
	}
	return s.snapshotOf(orgID, was, make([]core.Amounts, len(was.runners))), s.snapshotOf(orgID, is, make([]core.Amounts, len(is.runners))), nil
}

// lastSandboxes lists the youngest sandboxes of a filter, and whether there are more.
func (s *Service) lastSandboxes(ctx context.Context, f store.SandboxFilter, most int) (rows []*core.Sandbox, more bool, err error) {
	err = s.store.View(ctx, func(r store.Reader) error {
		rows, more = nil, false
		for page := (store.Page{Size: min(most, store.MaxPage)}); ; {
			list, after, err := r.Sandboxes(ctx, f, page)
			if err != nil {
				return err
			}
			rows = append(rows, list...)
			if page.After = after; after == "" || len(rows) >= most {
				more = after != "" || len(rows) > most
				rows = rows[:min(len(rows), most)]
				return nil
			}
		}
	})
	return rows, more, err
}

// decideAgain decides the launch of every row on both sides. inPlace keeps each on its runner and under its binding.
func (s *Service) decideAgain(ctx context.Context, before, after *plan.Snapshot, rows []*core.Sandbox, inPlace bool) ([]impact.Group, error) {
	effects := make([]*impact.Effect, len(rows))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	const chunk = 64
	for from := 0; from < len(rows); from += chunk {
		to := min(from+chunk, len(rows))
		group.Go(func() error {
			launches, err := s.launchesOf(ctx, rows[from:to])
			if err != nil {
				return err
			}
			for i, l := range launches {
				row := rows[from+i]
				if l == nil {
					continue
				}
				if inPlace {
					l = pinned(l, row)
				}
				effects[from+i] = impact.Launch(before, after, l, plan.Options{Seed: seedOf(row.ID), Actor: row.CreatedBy}, row.ID)
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var list []impact.Effect
	for _, e := range slices.DeleteFunc(effects, func(e *impact.Effect) bool { return e == nil }) {
		list = append(list, *e)
	}
	return impact.Grouped(list), nil
}

// launchesOf reads the requests of rows, nil for one that is gone meanwhile.
func (s *Service) launchesOf(ctx context.Context, rows []*core.Sandbox) ([]*specpb.Launch, error) {
	out := make([]*specpb.Launch, len(rows))
	for i, row := range rows {
		full, err := s.row(ctx, row.OrgID, row.ID)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[i] = full.Launch
	}
	return out, nil
}

// pinned returns a launch that asks for the place where its sandbox is.
func pinned(l *specpb.Launch, row *core.Sandbox) *specpb.Launch {
	l = proto.CloneOf(l)
	l.RunnerIds, l.ProfileNames, l.ProfileIds = []string{row.RunnerID}, []string{row.ProfileName}, nil
	return l
}

// seedOf lets the same launch draw the same runners on both sides.
func seedOf(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return h.Sum64()
}
