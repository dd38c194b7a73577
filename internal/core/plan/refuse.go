package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/place"
)

// Delays after which a refused launch may succeed unchanged.
const (
	retryCapacity = 5 * time.Second
	// retryTooLarge is for a sandbox that fits no runner in service: one that is out of it may come back and be large enough.
	retryTooLarge    = time.Minute
	retryUnavailable = 2 * time.Second
)

// refuse says why no runner can take the sandbox.
func (m *maker) refuse() error {
	r := &Refusal{Reason: fault.ReasonNoSuitableRunner}
	r.Candidates, r.Omitted = m.candidates(nil)
	e := &fault.Error{Code: fault.Precondition, Detail: r}
	switch considered := m.inService(); {
	case len(m.named()) == 0 && m.selection.named():
		r.Reason = fault.ReasonProfileMismatch
		r.Message = fmt.Sprintf("profile %s is bound, but to none of the runners asked for", m.selection.text())
	case len(m.runners) == 0:
		e.Code = fault.Unavailable
		r.Message = "the organization has no runner"
		e.Hint = "make one: berm runner create"
	case len(considered) == 0 && len(m.awaited()) == 0:
		// Nothing that could take it comes back by itself.
		r.Message = "no runner takes new sandboxes: " + m.waiting()
		m.helpOut(e)
	case len(considered) == 0:
		e.Code, e.RetryAfter = fault.Unavailable, retryUnavailable
		r.Message = "no runner can be asked now: " + m.waiting()
	case m.onlyRoom(considered):
		e.Code, e.RetryAfter = fault.Exhausted, retryCapacity
		r.Message = "no runner has room: " + m.why(considered)
		m.help(r)
	case m.tooLarge(considered) && len(m.awaited()) > 0:
		e.Code, e.RetryAfter = fault.Exhausted, retryTooLarge
		r.Message = "no runner in service is large enough: " + m.why(considered)
	case m.selection.named():
		r.Reason = fault.ReasonProfileMismatch
		r.Message = fmt.Sprintf("profile %s cannot serve the request: %s", m.selection.text(), m.why(considered))
		m.help(r)
	default:
		r.Message = "no runner can serve the request: " + m.why(considered)
		if r.Admitting = m.admitting(); len(r.Admitting) > 0 {
			r.Message += ". It names no profile; these are bound too and would admit it: " + listed(r.Admitting)
		}
		m.help(r)
	}
	for _, w := range m.options.Waits {
		r.Message += fmt.Sprintf("; the launch waited %s for room in runner group %s", w.For.Round(waitPrecision), w.Group)
	}
	e.Reason, e.Message = r.Reason, r.Message
	render(e, r)
	return e
}

// named returns the runners that bind what is asked for and are among those asked for.
func (m *maker) named() []*state {
	var out []*state
	for i := range m.states {
		if len(m.states[i].bindings) > 0 {
			out = append(out, &m.states[i])
		}
	}
	return out
}

// inService returns those of named whose bindings were tried at all.
func (m *maker) inService() []*state {
	return slices.DeleteFunc(m.named(), func(st *state) bool { return len(st.tried) == 0 })
}

// waiting says of each runner that would be asked why it is not.
func (m *maker) waiting() string {
	var texts []string
	for _, st := range m.named() {
		texts = append(texts, st.host.ID+": "+messages(st.out))
	}
	return clip(strings.Join(texts, "; "), maxMessage)
}

// barred reports whether waiting does not bring a runner back: an operator keeps new sandboxes away from it, or its process can run
// nothing where it is.
func (st *state) barred() bool {
	return slices.ContainsFunc(st.out, func(r Reason) bool { return r.Code == place.CodeCordoned || r.Code == place.CodeUnable })
}

// awaited returns those of named that are out for now and may come back by themselves.
func (m *maker) awaited() []*state {
	return slices.DeleteFunc(m.named(), func(st *state) bool { return len(st.out) == 0 || st.barred() })
}

// helpOut says how a runner that an operator cordoned gets back to work.
func (m *maker) helpOut(e *fault.Error) {
	for _, st := range m.named() {
		if st.runner.Cordoned && st.runner.Runner.DeletingSince == nil {
			e.WithHint("an admin lets a runner take sandboxes again with berm runner uncordon %s", st.host.ID)
			return
		}
	}
}

// onlyRoom reports whether some runner would take the sandbox once others there have ended.
func (m *maker) onlyRoom(considered []*state) bool {
	return slices.ContainsFunc(considered, (*state).full)
}

// tooLarge reports whether some runner would take the sandbox if it were a larger one.
func (m *maker) tooLarge(considered []*state) bool {
	return slices.ContainsFunc(considered, func(st *state) bool { return place.OnlyCapacity(st.last().reasons) })
}

func (st *state) last() *attempt { return &st.tried[len(st.tried)-1] }

// why returns the reasons of the candidates tried, each distinct text once with the first candidate that has it.
func (m *maker) why(considered []*state) string {
	type group struct {
		text, first string
		more        int
	}
	var groups []group
	for _, st := range considered {
		for i := range st.tried {
			a := &st.tried[i]
			text := messages(a.reasons)
			if at := slices.IndexFunc(groups, func(g group) bool { return g.text == text }); at >= 0 {
				groups[at].more++
				continue
			}
			groups = append(groups, group{text: text, first: st.host.ID + "/" + a.binding.Name})
		}
	}
	var b strings.Builder
	for i, g := range groups {
		if i > 0 {
			b.WriteString(". ")
		}
		b.WriteString(g.first)
		if g.more > 0 {
			fmt.Fprintf(&b, " and %d more", g.more)
		}
		b.WriteString(": " + g.text)
	}
	return clip(b.String(), maxMessage)
}

func messages(reasons []Reason) string {
	texts := make([]string, len(reasons))
	for i, r := range reasons {
		texts[i] = r.Message
	}
	return strings.Join(texts, "; ")
}

// admitting returns the names of bound profiles, other than the defaults, that would have admitted a request which named
// none: what the caller may have meant.
func (m *maker) admitting() []string {
	var out []string
	for i := range m.states {
		st := &m.states[i]
		if len(st.tried) == 0 {
			continue
		}
		for _, b := range st.runner.Bindings {
			if b.Spec.Default || slices.Contains(out, b.Name) {
				continue
			}
			other := state{runner: st.runner, host: st.host, tried: []attempt{m.probe(st, b)}}
			if other.open() != nil && m.honoured(&other) {
				out = append(out, b.Name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// probe tries a binding whose reasons nobody will read.
func (m *maker) probe(st *state, b *Binding) attempt {
	m.probing = true
	a := m.try(st, b)
	m.probing = false
	return a
}
