package plan

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/launch"
)

// Bounds on the search for the nearest request, so that a refusal stays cheap whatever is asked for and however large the
// fleet is: in all a few tens of milliseconds. What is not found within them is not offered.
const (
	// maxRepaired is how many candidates, with distinct violations, are asked for a request that they would admit.
	maxRepaired = 16
	// maxProbes is how many requests are tried on the snapshot, a little more than one with MaxAnnotations wrong annotations
	// takes; maxAttempts is how many bindings are tried by all of them together.
	maxProbes, maxAttempts = launch.MaxAnnotations + 28, 20_000
)

// help finds the nearest request that the snapshot admits. What is near one binding may be changed more than another one
// needs, so that changes are taken back against the snapshot as a whole.
func (m *maker) help(r *Refusal) {
	if m.options.Terse {
		return
	}
	var seen []string
	m.attempts = 0
	for i := range m.states {
		st := &m.states[i]
		for j := range st.tried {
			a := &st.tried[j]
			// Only what guard objects to and what needs less room can be repaired by other values; the rest must be fine as it is.
			if len(a.violations) == 0 && !lacksRoom(a.reasons) || len(seen) == maxRepaired {
				continue
			}
			key := messages(a.reasons)
			if slices.Contains(seen, key) {
				continue
			}
			seen = append(seen, key)
			for _, to := range guard.Repairs(a.stack.limits, m.on(st.runner)) {
				m.nearer(r, to)
				if smaller := fitting(to, a, &st.host); smaller != nil {
					m.nearer(r, smaller)
				}
			}
		}
	}
	if r.Nearest == nil && len(r.Admitting) > 0 {
		to := proto.CloneOf(m.request.Launch)
		to.ProfileNames = []string{r.Admitting[0]}
		m.nearer(r, to)
	}
}

// nearer keeps a request that the snapshot admits, if it is nearer than the best so far.
func (m *maker) nearer(r *Refusal, to *specpb.Launch) {
	if !m.admits(to) {
		return
	}
	to, changes := guard.Minimize(m.request.Launch, to, m.admits)
	if m.exhausted() {
		// It may hold changes that nobody needs.
		return
	}
	if len(changes) > 0 && (r.Nearest == nil || guard.Nearer(changes, r.Changes)) {
		r.Nearest, r.Changes = to, changes
	}
}

func (m *maker) exhausted() bool { return m.probes > maxProbes || m.attempts > maxAttempts }

// admits reports whether Make would admit the request on this snapshot; false, too, when the search has gone on for long
// enough.
func (m *maker) admits(l *specpb.Launch) bool {
	if m.probes++; m.exhausted() {
		return false
	}
	request, err := launch.New(l)
	if err != nil {
		return false
	}
	other := newMaker(m.snapshot, request, m.options)
	other.probing = true
	if other.selection.check(other.runners) != nil {
		return false
	}
	winner := other.decide()
	m.attempts += other.attempts
	return winner != nil
}

// describe says what to change, for people.
func describe(changes []launch.Change) string {
	texts := make([]string, len(changes))
	for i, c := range changes {
		switch {
		case c.To == nil:
			texts[i] = "leave out " + c.Path
		case c.From == nil:
			texts[i] = "give " + c.Path + " " + string(c.To)
		default:
			texts[i] = "change " + c.Path + " from " + string(c.From) + " to " + string(c.To)
		}
	}
	return strings.Join(texts, ", ")
}
