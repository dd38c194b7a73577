package plan

import (
	"cmp"
	"slices"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/place"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// Options are what a decision depends on besides snapshot and request.
type Options struct {
	// Seed decides which two runners are compared when more could run the sandbox.
	Seed uint64
	// Actor is who asks; it is named as the origin of layer 4.
	Actor string
	// Waits are the groups that the launch has waited for room in, see Plan.Hold.
	Waits []Wait
	// Explain asks the backend of every candidate what it refuses, not only of those that are drawn. The decision is the
	// same; more candidates are listed as refused.
	Explain bool
	// Terse leaves out of a refusal what would pass: it takes most of the time. Code and reasons are the same.
	Terse bool
	// Whole lists every candidate of a plan, not only MaxCandidates of them.
	Whole bool
}

// Make decides a launch. The error is a fault: Invalid or Unimplemented for a malformed or unsupported request; otherwise
// its Detail is a *Refusal (except for names that do not exist), and code and reason say what could be done:
// CWSANDBOX_RUNNER_NOT_FOUND and CWSANDBOX_PROFILE_NOT_FOUND (NotFound); CWSANDBOX_PROFILE_MISMATCH (Precondition) when a
// profile was named and forbids it, or no runner with it is large enough; CWSANDBOX_NO_SUITABLE_RUNNER when none was named
// and policy or size forbids it (Precondition), and, whatever was named, when only room is missing for now (Exhausted, with a
// delay) or nothing is connected (Unavailable). What has no delay cannot succeed unchanged.
func Make(s *Snapshot, l *specpb.Launch, opts Options) (*Plan, error) {
	request, err := launch.New(l)
	if err != nil {
		return nil, err
	}
	m := newMaker(s, request, opts)
	if err := m.selection.check(m.runners); err != nil {
		return nil, err
	}
	if winner := m.decide(); winner != nil {
		return m.plan(winner), nil
	}
	return nil, m.refuse()
}

// decide considers the runners and chooses one, nil when none can take the sandbox.
func (m *maker) decide() *state {
	m.consider()
	for {
		if winner := m.choose(); winner != nil || !m.askFull() {
			return winner
		}
	}
}

// maker is one decision.
type maker struct {
	snapshot  *Snapshot
	request   *launch.Request
	options   Options
	selection selection
	layer     resolve.Input
	// subject is the request as guard checks it, for one runner at a time.
	subject *guard.Subject
	// probing: it is enough to know whether any runner can take the sandbox.
	probing bool
	// attempts counts the bindings tried, over all probes of the search for the nearest request; probes counts those.
	attempts, probes int
	// closed counts the attempts with reasons; those beyond MaxCandidates are not shown, and so not written out.
	closed int
	// fixed are the reasons that always say the same, made once.
	fixed map[place.Code][]Reason
	// runners are those of the organization, by name; states belongs to them.
	runners []*Runner
	states  []state
}

func newMaker(s *Snapshot, request *launch.Request, opts Options) *maker {
	m := &maker{snapshot: s, request: request, options: opts, selection: selectionOf(request.Launch)}
	m.layer = resolve.Input{
		Origin: resolve.Origin{Layer: resolve.LayerRequest, Object: "request", By: opts.Actor, At: s.Now},
		Layer:  request.Layer,
	}
	m.subject = guard.NewSubject(request, &m.layer.Origin, "")
	m.runners = make([]*Runner, 0, len(s.Runners))
	for _, r := range s.Runners {
		if r.Runner.OrgID == s.OrgID {
			m.runners = append(m.runners, r)
		}
	}
	slices.SortFunc(m.runners, func(a, b *Runner) int { return cmp.Compare(a.Runner.RunnerID, b.Runner.RunnerID) })
	return m
}

// choose draws and compares two runners of the first group in which any can run the sandbox. A runner whose backend turns out to refuse goes on to its next binding, or out of
// the draw; the draw of all others is unaffected, so that the result is as if all backends had been asked first.
func (m *maker) choose() *state {
	options := make([]place.Option, 0, len(m.states))
	index := make([]int, 0, len(m.states))
	for {
		options, index = options[:0], index[:0]
		first := m.firstRank()
		for i := range m.states {
			if a := m.states[i].open(); a != nil && m.states[i].rank() == first {
				options = append(options, place.Option{ID: m.states[i].host.ID, Score: a.score})
				index = append(index, i)
			}
		}
		winner, other := place.Choose(m.options.Seed, options)
		if winner < 0 {
			return nil
		}
		again := false
		for _, o := range []int{winner, other} {
			if o < 0 {
				continue
			}
			if st := &m.states[index[o]]; !m.honoured(st) {
				m.advance(st)
				again = true
			}
		}
		if !again && !m.askBefore(first) {
			m.close(index, winner, other)
			return &m.states[index[winner]]
		}
	}
}

// close gives every runner that could have run the sandbox, but is not the winner, its reason.
func (m *maker) close(index []int, winner, other int) {
	for o, i := range index {
		code := place.CodeNotDrawn
		switch o {
		case winner:
			continue
		case other:
			code = place.CodeOutscored
		}
		m.states[i].open().reasons = m.because(code)
	}
	for i := range m.states {
		if a := m.states[i].open(); a != nil && i != index[winner] {
			a.reasons = m.because(place.CodeLaterGroup)
		}
	}
}

func (m *maker) plan(st *state) *Plan {
	a := st.open()
	p := &Plan{
		Runner: st.runner, Binding: a.binding, Launch: m.request.Launch, RequestLayer: m.layer, Resolved: a.resolved,
		Reserve: a.need.Reserve, Refs: refs(st.runner, a.binding), EgressMode: a.stack.egressMode(m.request.Launch),
		IngressMode: a.stack.ingressMode(m.request.Launch), UsageChecks: a.binding.usage, stack: a.stack,
	}
	p.LifetimeSeconds, _ = a.stack.limits.Lifetime(m.request.Launch.GetMaxLifetimeSeconds())
	p.IdleSeconds = a.stack.limits.Idle()
	p.specJSON = p.Resolved.JSON()
	p.Digest = spec.Digest(p.specJSON)
	p.Candidates, p.Omitted = m.candidates(st)
	p.Steps, p.Hold = m.steps(st), m.hold(st)
	return p
}

func refs(r *Runner, b *Binding) []Ref {
	zone := Ref{Kind: "zone", ID: r.Runner.Zone}
	if r.Zone != nil {
		zone.ID, zone.Revision = r.Zone.ID, r.Zone.Revision
	}
	out := []Ref{{Kind: "profile", ID: b.Profile.ID, Revision: b.Profile.Revision}, {Kind: "runner", ID: r.Runner.ID, Revision: r.Runner.Revision}}
	if zone.ID != "" {
		out = append(out, zone)
	}
	return out
}

// candidates lists what was considered: the winner (nil for none), then what could have run it by score, then the rest by
// runner and in the order tried.
func (m *maker) candidates(winner *state) (list []Candidate, omitted int) {
	list = make([]Candidate, 0, len(m.states)+1)
	for i := range m.states {
		st := &m.states[i]
		if len(st.out) > 0 {
			list = append(list, Candidate{RunnerID: st.host.ID, Reasons: st.out})
			continue
		}
		for j := range st.tried {
			a := &st.tried[j]
			list = append(list, Candidate{
				RunnerID: st.host.ID, ProfileName: a.binding.Name, Chosen: st == winner && len(a.reasons) == 0, Score: a.score, Reasons: a.reasons,
			})
		}
	}
	slices.SortStableFunc(list, func(a, b Candidate) int {
		if a.Chosen != b.Chosen {
			if a.Chosen {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.Score, a.Score)
	})
	if len(list) > MaxCandidates && !m.options.Whole {
		omitted = len(list) - MaxCandidates
		list = list[:MaxCandidates:MaxCandidates]
	}
	return list, omitted
}
