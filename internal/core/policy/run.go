package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/place"
	"github.com/bermhq/berm/internal/core/plan"
)

// Fleet is the runners that a profile's tests are about, as if each were connected, in service and empty. It is immutable.
type Fleet struct {
	profileID string
	snapshot  *plan.Snapshot
	// hosts are the runners that bind the profile, by id.
	hosts []*host
}

type host struct {
	runner *plan.Runner
	// alone is a snapshot with this runner alone.
	alone    *plan.Snapshot
	bindings []*plan.Binding
}

// NewFleet returns the fleet of a profile in a snapshot. Runners that are being deleted are not in it.
func NewFleet(s *plan.Snapshot, profileID string) *Fleet {
	f := &Fleet{profileID: profileID, snapshot: &plan.Snapshot{OrgID: s.OrgID, Now: s.Now}}
	for _, r := range s.Runners {
		var bound []*plan.Binding
		for _, b := range r.Bindings {
			if b.Profile.ID == profileID {
				bound = append(bound, b)
			}
		}
		if len(bound) == 0 || r.Runner.DeletingSince != nil {
			continue
		}
		r = inService(r)
		f.snapshot.Runners = append(f.snapshot.Runners, r)
		f.hosts = append(f.hosts, &host{r, &plan.Snapshot{OrgID: s.OrgID, Now: s.Now, Runners: []*plan.Runner{r}}, bound})
	}
	return f
}

// inService returns a runner as if it were there and empty. What it never told does not restrict.
func inService(r *plan.Runner) *plan.Runner {
	out := *r
	out.Connected, out.Cordoned, out.Note, out.CordonNote, out.Unable = true, false, "", "", ""
	out.Used, out.Refuses = core.Amounts{}, nil
	if r.Kind == "" {
		const all = math.MaxInt64
		out.Capacity = core.Amounts{CPUMillis: all, MemoryBytes: all, GPUs: all, Sandboxes: all}
	}
	return &out
}

// Case is a test at one place.
type Case struct {
	Test *Test
	// Runner and Binding are the place, as in Result.
	Runner, Binding string
	host            *host
}

// Key names a case: the same test at the same place, whatever the configuration.
func (c *Case) Key() string { return c.Test.Name + "\x00" + c.Runner + "\x00" + c.Binding }

// Cases returns the places of tests, by test, runner and binding.
func (f *Fleet) Cases(tests []Test) []Case {
	var out []Case
	for i := range tests {
		t := &tests[i]
		before := len(out)
		if t.Runner != AnyRunner {
			for _, h := range f.hosts {
				if id := h.runner.Runner.RunnerID; t.Runner == EveryRunner || t.Runner == id {
					out = append(out, h.cases(t)...)
				}
			}
		}
		if len(out) > before {
			continue
		}
		c := Case{Test: t} // the server's choice, or no place at all
		if t.Runner != AnyRunner && t.Runner != EveryRunner {
			c.Runner = t.Runner
		}
		out = append(out, c)
	}
	return out
}

// Places counts the runners at which cases are decided: one for each, and for a launch whose runner the server chooses all that bind the
// profile.
func (f *Fleet) Places(cases []Case) int {
	n := 0
	for i := range cases {
		if cases[i].Test.Runner == AnyRunner {
			n += len(f.hosts)
		} else {
			n++
		}
	}
	return n
}

func (h *host) cases(t *Test) []Case {
	id := h.runner.Runner.RunnerID
	if t.Unnamed {
		return []Case{{Test: t, Runner: id, host: h}}
	}
	var out []Case
	for _, b := range h.bindings {
		out = append(out, Case{Test: t, Runner: id, Binding: b.Name, host: h})
	}
	return out
}

// Run decides one case.
func (f *Fleet) Run(c *Case) Result {
	r := Result{Test: c.Test.Name, Runner: c.Runner, Binding: c.Binding, Outcome: Passed}
	switch {
	case c.host != nil:
		f.alone(c, &r)
	case c.Test.Runner == AnyRunner:
		f.any(c, &r)
	case c.Test.Runner == EveryRunner:
		r.Outcome, r.Message = Skipped, "no runner binds the profile"
	default:
		r.fail(Failure{Aspect: "runner", Expected: c.Test.Runner + " with the profile", Actual: "no runner of that id binds the profile"})
	}
	r.Failures = r.Failures[:min(len(r.Failures), MaxFailures)]
	return r
}

func (r *Result) fail(failures ...Failure) {
	if len(failures) > 0 {
		r.Outcome, r.Failures = Failed, append(r.Failures, failures...)
	}
}

func (f *Fleet) alone(c *Case, r *Result) {
	l := proto.CloneOf(c.Test.Launch)
	l.RunnerIds = []string{c.Runner}
	if c.Binding != "" {
		l.ProfileNames = []string{c.Binding}
	}
	p, err := plan.Make(c.host.alone, l, options())
	if r.verdict(c.Test, p, err) {
		f.own(p, r)
		r.fail(compare(p, &c.Test.Expect)...)
	}
}

// own fails a launch that named no profile and got another one.
func (f *Fleet) own(p *plan.Plan, r *Result) {
	if p.Binding.Profile.ID != f.profileID {
		r.fail(Failure{Aspect: "verdict", Expected: "admitted under this profile", Actual: "the default binding is " + p.Binding.Name + " of profile " + p.Binding.Profile.DisplayName})
	}
}

// any decides a launch whose runner the server chooses, and looks at every place where it may come to be.
func (f *Fleet) any(c *Case, r *Result) {
	l := proto.CloneOf(c.Test.Launch)
	l.ProfileIds = []string{f.profileID}
	if len(f.hosts) == 0 {
		r.fail(Failure{Aspect: "runner", Expected: "a runner with the profile", Actual: "no runner binds the profile"})
		return
	}
	opts := options()
	opts.Whole = true
	p, err := plan.Make(f.snapshot, l, opts)
	if !r.verdict(c.Test, p, err) {
		return
	}
	for _, id := range placesOf(p) {
		if placed := c.Test.Expect.Placed; len(placed) > 0 && !slices.Contains(placed, id) {
			r.fail(Failure{Aspect: "placed", Expected: strings.Join(placed, " or "), Actual: "may be " + id})
		}
		i := slices.IndexFunc(f.hosts, func(h *host) bool { return h.runner.Runner.RunnerID == id })
		if at, err := plan.Make(f.hosts[i].alone, l, options()); err == nil {
			r.fail(compare(at, &c.Test.Expect)...)
		}
	}
}

// placesOf returns the runners that a draw may choose, by id.
func placesOf(p *plan.Plan) []string {
	var out []string
	for _, c := range p.Candidates {
		drawn := slices.ContainsFunc(c.Reasons, func(r plan.Reason) bool { return r.Code == place.CodeOutscored || r.Code == place.CodeNotDrawn })
		if c.Chosen || drawn {
			out = append(out, c.RunnerID)
		}
	}
	slices.Sort(out)
	return out
}

func options() plan.Options { return plan.Options{Terse: true, Actor: "policy test"} }

// verdict compares the decision itself, and reports whether the fields of a plan are left to compare.
func (r *Result) verdict(t *Test, p *plan.Plan, err error) bool {
	if err == nil {
		r.Message = fmt.Sprintf("admitted on %s/%s", p.Runner.Runner.RunnerID, p.Binding.Name)
		if !t.Expect.Admitted {
			r.fail(Failure{Aspect: "verdict", Expected: refused, Actual: r.Message})
			return false
		}
		return true
	}
	f := fault.From(err)
	r.Message = f.Message
	if !t.Expect.Admitted {
		r.fail(t.Expect.Refusal.judge(err)...)
		return false
	}
	miss := Failure{Aspect: "verdict", Expected: admitted, Actual: refused + ": " + f.Message}
	for _, reason := range reasonsOf(f) {
		if reason.LimitOrigin != nil {
			miss.Path, miss.Origin = reason.Path, reason.LimitOrigin
			break
		}
	}
	r.fail(miss)
	return false
}

// Host returns the runner of the place, nil where there is none or the server chooses.
func (c *Case) Host() *core.Runner {
	if c.host == nil {
		return nil
	}
	return c.host.runner.Runner
}

// Key is that of the case.
func (r *Result) Key() string { return r.Test + "\x00" + r.Runner + "\x00" + r.Binding }
