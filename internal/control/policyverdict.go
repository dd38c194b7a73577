package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/policy"
	"github.com/bermhq/berm/internal/store"
)

// TestEffect is what an edit does to a test at one place.
type TestEffect struct {
	ProfileName string
	Mode        TestMode
	// Before is nil at a place that is new.
	Before *policy.Result
	After  policy.Result
}

// Breaks reports whether the test fails after the edit and not before it.
func (e *TestEffect) Breaks() bool {
	return e.After.Outcome == policy.Failed && (e.Before == nil || e.Before.Outcome != policy.Failed)
}

// Refuses reports whether the edit is refused for it.
func (e *TestEffect) Refuses() bool { return e.Breaks() && e.Mode == EnforceTests }

func (e *TestEffect) label() string {
	return fmt.Sprintf("test %q of profile %s at %s", e.After.Test, e.ProfileName, e.After.Where())
}

// testImpact is what an edit does to tests.
type testImpact struct {
	// seen counts the places at which tests were run.
	seen int
	// effects are those that fail after the edit, by profile and test. all has those that came to something else before, too.
	effects []TestEffect
	// notRun says whose tests, of those that only warn, were not run: there are too many places.
	notRun []string
}

// refusal refuses an edit that breaks tests which are enforced, nil for none.
func (i *testImpact) refusal() error {
	e := fault.Preconditionf(fault.ReasonTestsFail, "")
	var of []string
	for n := range i.effects {
		t := &i.effects[n]
		if !t.Refuses() {
			continue
		}
		if of = append(of, t.ProfileName); len(e.Fields) < maxListed {
			e.WithField("policy_tests["+t.After.Test+"]", "profile %s, at %s: %s", t.ProfileName, t.After.Where(), t.After.Why())
		}
	}
	e.Message = fmt.Sprintf("the edit breaks policy tests, %s, of profile %s", counted(len(of), "case"), strings.Join(slices.Compact(of), ", "))
	e.WithHint("--preview shows all of the edit; if a test is to change with it, put the new tests first: berm profile tests put PROFILE -f FILE")
	return orNil(e)
}

// warnings are about tests that fail and do not refuse the edit, or were not run.
func (i *testImpact) warnings() []string {
	out := slices.Clone(i.notRun)
	for n := range i.effects {
		t := &i.effects[n]
		switch {
		case t.After.Outcome != policy.Failed || t.Refuses():
		case t.Breaks():
			out = append(out, t.label()+" fails with the edit: "+t.After.Why())
		default:
			out = append(out, t.label()+" fails, as before the edit: "+t.After.Why())
		}
	}
	return out[:min(len(out), maxListed)]
}

// broken lists what the edit breaks, in whatever mode.
func (i *testImpact) broken() []string {
	out := slices.Clone(i.notRun)
	for n := range i.effects {
		if t := &i.effects[n]; t.Breaks() {
			out = append(out, t.label()+": "+t.After.Why())
		}
	}
	return out[:min(len(out), maxListed)]
}

// run runs the tests that the edit touches, after it and, where that fails, before it. all runs everything on both sides, and tells of
// what came to something else, too.
func (g *gate) run(ctx context.Context, tx store.Tx, tested map[string]*PolicyTests, all bool) (*testImpact, error) {
	is, err := g.s.ground(tx, g.orgID, nil).snapshot(ctx, tested)
	if err != nil {
		return nil, err
	}
	out := &testImpact{}
	todo, err := g.budget(ctx, tx, is, tested, out)
	if err != nil {
		return nil, err
	}
	for _, t := range byName(todo) {
		results, err := g.side(ctx, policy.NewFleet(is, t.ProfileID), t, func(*policy.Case) bool { return true })
		if err != nil {
			return nil, err
		}
		out.seen += len(results)
		for _, r := range results {
			if all || r.Outcome == policy.Failed {
				out.effects = append(out.effects, TestEffect{ProfileName: t.ProfileName, Mode: t.Mode, After: r})
			}
		}
	}
	if len(out.effects) == 0 {
		return out, nil
	}
	if err := g.runBefore(ctx, tx, todo, out); err != nil {
		return nil, err
	}
	out.effects = slices.DeleteFunc(out.effects, func(e TestEffect) bool {
		return e.After.Outcome != policy.Failed && (e.Before == nil || e.Before.Outcome == e.After.Outcome)
	})
	return out, nil
}

// runBefore adds what the effects were before the edit.
func (g *gate) runBefore(ctx context.Context, tx store.Tx, tested map[string]*PolicyTests, out *testImpact) error {
	was, err := g.s.ground(tx, g.orgID, g.before).snapshot(ctx, tested)
	if err != nil {
		return err
	}
	at := map[string]*TestEffect{}
	key := func(profile, of string) string { return profile + "\x00" + of }
	for i := range out.effects {
		e := &out.effects[i]
		at[key(e.ProfileName, e.After.Key())] = e
	}
	for _, t := range byName(tested) {
		results, err := g.side(ctx, policy.NewFleet(was, t.ProfileID), t, func(c *policy.Case) bool { return at[key(t.ProfileName, c.Key())] != nil })
		if err != nil {
			return err
		}
		for i := range results {
			at[key(t.ProfileName, results[i].Key())].Before = &results[i]
		}
	}
	return nil
}

// side runs the tests of one profile that the edit touches, where they are asked for.
func (g *gate) side(ctx context.Context, fleet *policy.Fleet, t *PolicyTests, asked func(*policy.Case) bool) ([]policy.Result, error) {
	return runCases(ctx, fleet, slices.DeleteFunc(g.cases(fleet, t), func(c policy.Case) bool { return !asked(&c) }))
}
