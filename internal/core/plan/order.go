package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/bermhq/berm/internal/core/place"
)

// waitPrecision is how exactly waits are told.
const waitPrecision = 10 * time.Millisecond

// order is in which order a profile has runner groups tried, and how long a launch waits for room in each.
type order struct {
	groups []string
	wait   time.Duration
}

func orderOf(value func(path string) any) order {
	groups, _ := value("placement.runner_groups").([]string)
	if len(groups) == 0 {
		return order{}
	}
	seconds, _ := value("placement.max_wait_seconds").(int64)
	return order{groups, time.Duration(seconds) * time.Second}
}

// rank is the place of a group in the order. Those that are not listed share the last one.
func (o *order) rank(group string) int {
	if i := slices.Index(o.groups, group); i >= 0 {
		return i
	}
	return len(o.groups)
}

// Wait is a group that a launch waited for room in.
type Wait struct {
	Group string
	For   time.Duration
	// Over is why it does not wait any longer, "" while it may.
	Over string
}

// Hold says that a launch may wait for room in a group before it goes on to where the plan would have it run.
type Hold struct {
	Group string
	// Runners are the UUIDs of those there that lack only room.
	Runners []string
	// For is how long it may wait in all, what it has waited counted.
	For time.Duration
}

// Outcome is what became of a group.
type Outcome string

// The outcomes.
const (
	// GroupChosen: the sandbox runs there.
	GroupChosen Outcome = "CHOSEN"
	// GroupFull: runners there would take it, and lack room.
	GroupFull Outcome = "FULL"
	// GroupUnfit: none of the runners there can take it, for other reasons.
	GroupUnfit Outcome = "UNFIT"
	// GroupEmpty: it has no runner that binds the profile and is one of those asked for.
	GroupEmpty Outcome = "EMPTY"
	// GroupNotReached: a group before it could take the sandbox.
	GroupNotReached Outcome = "NOT_REACHED"
)

// Step is what became of one group of the order.
type Step struct {
	// Group is "" for the runners of no group that is listed.
	Group   string
	Outcome Outcome
	// Message says why, for people; empty for the group that is chosen and those behind it.
	Message string
	// Waited is how long the launch waited for room there.
	Waited time.Duration
}

// rank is that of the runner in the order of the profile that would be used. It must have been tried.
func (st *state) rank() int { return st.last().stack.order.rank(st.host.GroupID) }

// firstRank is the lowest rank of a runner that can take the sandbox, as far as is known.
func (m *maker) firstRank() int {
	first := -1
	for i := range m.states {
		if st := &m.states[i]; st.open() != nil && (first < 0 || st.rank() < first) {
			first = st.rank()
		}
	}
	return first
}

// full reports whether the runner would take the sandbox once others there have ended.
func (st *state) full() bool {
	return len(st.tried) > 0 && place.OnlyCapacity(st.last().reasons) && !hasTooLarge(st.last().reasons)
}

// askBefore asks the backends of full runners of groups before rank what they refuse: nobody waits for room on a runner that would
// refuse it then. It reports whether another binding of one of them is to be considered.
func (m *maker) askBefore(rank int) bool {
	again, sure := false, map[string]bool{} // groups with a runner that would take it
	for i := range m.states {
		st := &m.states[i]
		for !m.probing && st.full() && st.rank() < rank && !st.last().asked && !sure[st.host.GroupID] && m.mayWait(st) {
			if m.ask(st, st.last()); !st.full() {
				m.advance(st)
				again = again || st.open() != nil
			}
		}
		if st.full() && st.last().asked {
			sure[st.host.GroupID] = true
		}
	}
	return again
}

// mayWait says whether the launch may wait for room in the group of a runner.
func (m *maker) mayWait(st *state) bool {
	return st.last().stack.order.wait > 0 && m.waited(st.host.GroupID).Over == ""
}

// hold returns the first group before that of the winner that lacks only room and may be waited for.
func (m *maker) hold(winner *state) *Hold {
	var h *Hold
	best := winner.rank()
	for i := range m.states {
		st := &m.states[i]
		if !st.full() || !m.mayWait(st) || st.rank() > best {
			continue
		}
		switch rank := st.rank(); {
		case rank < best:
			best = rank
			h = &Hold{Group: st.host.GroupID, For: st.last().stack.order.wait}
			fallthrough
		case h != nil && h.Group == st.host.GroupID:
			h.Runners = append(h.Runners, st.runner.Runner.ID)
		}
	}
	return h
}

func (m *maker) waited(group string) Wait {
	for _, w := range m.options.Waits {
		if w.Group == group {
			return w
		}
	}
	return Wait{}
}

// steps tells what became of each group in the order of the winner's profile.
func (m *maker) steps(winner *state) []Step {
	o := &winner.open().stack.order
	if len(o.groups) == 0 {
		return nil
	}
	chosen := winner.rank()
	out := make([]Step, 0, len(o.groups)+1)
	for rank, group := range append(slices.Clip(o.groups), "") {
		if slices.Index(o.groups, group) != rank && rank < len(o.groups) {
			continue // It is listed twice.
		}
		s := Step{Group: group, Waited: m.waited(group).For}
		switch {
		case rank == chosen:
			s.Outcome = GroupChosen
		case rank > chosen:
			s.Outcome = GroupNotReached
		default:
			m.explainStep(&s)
		}
		if s.Group != "" || s.Outcome == GroupChosen {
			out = append(out, s)
		}
	}
	return out
}

// explainStep says why no runner of a group took the sandbox. Whoever lacks only room is told of first: that is what may change.
func (m *maker) explainStep(s *Step) {
	s.Outcome = GroupEmpty
	more := 0
	for i := range m.states {
		st := &m.states[i]
		if st.host.GroupID != s.Group || len(st.bindings) == 0 {
			continue
		}
		reasons := st.out
		if len(st.tried) > 0 {
			reasons = st.last().reasons
		}
		if text := st.host.ID + ": " + messages(reasons); s.Message == "" || st.full() && s.Outcome != GroupFull {
			s.Message = text
		}
		switch {
		case st.full():
			s.Outcome = GroupFull
		case s.Outcome == GroupEmpty:
			s.Outcome = GroupUnfit
		}
		more++
	}
	if s.Outcome == GroupEmpty {
		s.Message = "the launch could ask no runner of this group"
	}
	if more > 1 {
		s.Message = fmt.Sprintf("%s, and %d more", s.Message, more-1)
	}
	if over := m.waited(s.Group).Over; over != "" {
		s.Message += "; " + over
	}
	s.Message = clip(s.Message, maxMessage)
}
