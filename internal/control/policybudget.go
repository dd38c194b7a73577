package control

import (
	"context"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/plan"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/store"
)

// budget returns the tests that an edit has to run. All tests of an edit are tried at policy.MaxPlaces at most: the transaction holds the
// only writer meanwhile. More that are enforced refuse the edit, and so does one that gives the tests of a profile more places than that
// altogether, although it touches fewer: a later edit of the profile touches all. Tests that only warn are left out then, with a warning.
func (g *gate) budget(ctx context.Context, tx store.Tx, is *plan.Snapshot, tested map[string]*PolicyTests, out *testImpact) (map[string]*PolicyTests, error) {
	todo := map[string]*PolicyTests{}
	total, names := 0, []string{}
	list := byName(tested)
	slices.SortStableFunc(list, func(a, b *PolicyTests) int { return strings.Compare(string(a.Mode), string(b.Mode)) }) // enforce goes first
	for _, t := range list {
		fleet := policy.NewFleet(is, t.ProfileID)
		n := fleet.Places(g.cases(fleet, t))
		if total+n > policy.MaxPlaces {
			err := tooManyPlaces(strings.Join(append(names, t.ProfileName), ", "), total+n)
			if t.Mode == EnforceTests {
				return nil, err
			}
			out.notRun = append(out.notRun, notRun(t, err))
			continue
		}
		if err := g.grown(ctx, tx, fleet, t); err != nil {
			if t.Mode == EnforceTests || !fault.HasReason(err, fault.ReasonLimitExceeded) {
				return nil, err
			}
			out.notRun = append(out.notRun, notRun(t, err))
			continue
		}
		total, todo[t.ProfileID] = total+n, t
		if n > 0 {
			names = append(names, t.ProfileName)
		}
	}
	return todo, nil
}

// grown refuses an edit after which the tests of a profile have too many places, and more than before it.
func (g *gate) grown(ctx context.Context, tx store.Tx, after *policy.Fleet, t *PolicyTests) error {
	n := after.Places(after.Cases(t.Tests))
	if n <= policy.MaxPlaces {
		return nil
	}
	was, err := g.s.ground(tx, g.orgID, g.before).snapshot(ctx, map[string]*PolicyTests{t.ProfileID: t})
	if err != nil {
		return err
	}
	before := policy.NewFleet(was, t.ProfileID)
	if n <= before.Places(before.Cases(t.Tests)) {
		return nil
	}
	return tooManyPlaces(t.ProfileName, n)
}

// cases returns the cases of a profile that the edit touches.
func (g *gate) cases(fleet *policy.Fleet, t *PolicyTests) []policy.Case {
	return slices.DeleteFunc(fleet.Cases(t.Tests), func(c policy.Case) bool { return !g.touches(t, &c) })
}

// tooManyPlaces refuses to begin what would take too long.
func tooManyPlaces(names string, n int) error {
	return fault.Preconditionf(fault.ReasonLimitExceeded, "the tests of profile %s are to be tried at %d places, the limit is %d", names, n, policy.MaxPlaces).
		WithHint("name a runner in tests that need not hold at every one; or let them warn, and such edits go past them: berm profile tests put PROFILE --mode warn")
}

// notRun is the warning about tests that warn, when it would take too long to run them.
func notRun(t *PolicyTests, err error) string {
	return "the tests of profile " + t.ProfileName + ", which only warn, were not run: " + fault.From(err).Message
}
