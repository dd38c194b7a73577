package plan

import (
	"slices"

	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/place"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/spec"
)

// state is how far the consideration of one runner is.
type state struct {
	runner *Runner
	host   place.Host
	// out is why the runner is out whatever the binding.
	out []Reason
	// bindings are tried in this order; next is the first that was not tried.
	bindings []*Binding
	next     int
	tried    []attempt
	// first is where tried begins: mostly there is one attempt.
	first [1]attempt
}

// attempt is one binding of one runner, tried.
type attempt struct {
	binding *Binding
	stack   *stack
	need    place.Need
	score   float64
	// reasons is why not; violations are those of guard among them.
	reasons    []Reason
	violations []guard.Violation
	// asked: the backend was asked what it refuses, and resolved is what it was asked about.
	asked    bool
	resolved *resolve.Resolved
}

// consider tries the bindings of every runner until one admits.
func (m *maker) consider() {
	m.states = make([]state, len(m.runners))
	for i, r := range m.runners {
		st := &m.states[i]
		st.runner, st.host, st.tried = r, hostOf(r), st.first[:0]
		if len(m.selection.runners) > 0 && !slices.Contains(m.selection.runners, r.Runner.RunnerID) {
			st.out = m.because(place.CodeNotRequested)
			continue
		}
		if st.bindings = m.selection.bindings(r); len(st.bindings) == 0 {
			st.out = m.because(place.CodeNotBound)
			continue
		}
		if st.out = place.Available(&st.host); st.out == nil {
			m.advance(st)
			for (m.options.Explain || m.probing) && st.open() != nil && !m.honoured(st) {
				m.advance(st)
			}
			if m.probing && st.open() != nil {
				return
			}
		}
	}
}

func hostOf(r *Runner) place.Host {
	h := place.Host{
		ID: r.Runner.RunnerID, GroupID: r.Runner.GroupID, Connected: r.Connected, Cordoned: r.Cordoned, Note: r.Note, CordonNote: r.CordonNote, Unable: r.Unable,
		Architecture: r.Architecture, RuntimeClasses: r.RuntimeClasses, NodeLabels: r.NodeLabels, Features: r.Features,
		Capacity: r.Capacity, Used: r.Used,
	}
	if r.Runner.DeletingSince != nil {
		h.Cordoned, h.CordonNote = true, "it is being deleted"
	}
	return h
}

// advance tries further bindings until one admits the request. One that admits it but has no room ends the search: how
// full a runner is does not decide which profile a sandbox gets.
func (m *maker) advance(st *state) {
	for st.next < len(st.bindings) {
		a := m.try(st, st.bindings[st.next])
		st.next++
		st.tried = append(st.tried, a)
		if len(a.reasons) == 0 || place.OnlyCapacity(a.reasons) {
			return
		}
	}
}

// try checks everything about one binding that needs no resolved spec.
func (m *maker) try(st *state, b *Binding) attempt {
	a := attempt{binding: b, stack: b.cpu}
	if m.request.GPU != nil {
		a.stack = b.gpu
	}
	m.attempts++
	if m.probing || m.closed > MaxCandidates {
		if !guard.Admits(a.stack.limits, m.on(st.runner)) {
			a.reasons = m.because(place.CodeGuardrail)
			return a
		}
	} else {
		a.violations = guard.Check(a.stack.limits, m.on(st.runner))
		for i := range a.violations {
			a.reasons = append(a.reasons, reasonOf(&a.violations[i]))
		}
	}
	a.need = a.stack.need(m.request)
	for _, r := range place.Fits(&st.host, &a.need) {
		r.ValueOrigin = m.originOf(a.stack, r.Path)
		a.reasons = append(a.reasons, r)
	}
	if len(a.reasons) > 0 {
		m.closed++
	}
	if len(a.reasons) == 0 {
		a.score = place.Score(&st.host, &a.need)
	}
	return a
}

// originOf returns who asks for what a field says, nil when nobody does. An entry of a map comes from whoever sets the map.
func (m *maker) originOf(s *stack, path string) *resolve.Origin {
	f, key, ok := spec.ByPath(path)
	if !ok {
		return nil
	}
	if _, asked := m.request.Layer.At(f, key); asked {
		return &m.layer.Origin
	}
	for _, k := range []string{key, ""} {
		if v, ok := s.folded.At(f, k); ok {
			return v.Origin
		}
	}
	return nil
}

// on returns the request as it is checked for one runner.
func (m *maker) on(r *Runner) *guard.Subject {
	m.subject.RuntimeClass = r.DefaultRuntimeClass
	return m.subject
}

// because returns a reason that always says the same.
func (m *maker) because(code place.Code) []Reason {
	if m.fixed == nil {
		m.fixed = map[place.Code][]Reason{}
	}
	if m.fixed[code] == nil {
		m.fixed[code] = []Reason{{Code: code, Message: place.Text(code)}}
	}
	return slices.Clip(m.fixed[code])
}

func reasonOf(v *guard.Violation) Reason {
	return Reason{
		Code: place.Code(v.Reason), Message: v.Message, Path: v.Path, Value: v.Value, Limit: v.Limit,
		ValueOrigin: v.ValueOrigin, LimitOrigin: v.LimitOrigin,
	}
}

// open returns the attempt by which the runner could run the sandbox, nil when there is none.
func (st *state) open() *attempt {
	if n := len(st.tried); n > 0 && len(st.tried[n-1].reasons) == 0 {
		return &st.tried[n-1]
	}
	return nil
}

// honoured asks the backend whether it can honour the open attempt, which it closes if not.
func (m *maker) honoured(st *state) bool {
	a := st.open()
	m.ask(st, a)
	return len(a.reasons) == 0
}

// ask asks the backend of a runner, once, what it refuses of an attempt.
func (m *maker) ask(st *state, a *attempt) {
	if a.asked {
		return
	}
	a.asked = true
	a.resolved = a.stack.folded.Overlay(m.layer)
	if st.runner.Refuses != nil {
		m.refused(a, st.runner.Refuses(a.resolved.Message(), m.request.Launch))
	}
}

// askFull asks the backends of runners that merely lack room what they refuse, when no other runner can take the sandbox: nobody is
// told to wait for room on a runner that would refuse it then. A runner whose backend refuses goes on to its next binding. It reports
// whether one of those is open.
func (m *maker) askFull() bool {
	opened := false
	for i := range m.states {
		st := &m.states[i]
		for len(st.tried) > 0 && place.OnlyCapacity(st.last().reasons) && !st.last().asked {
			if m.probing && st.next == len(st.bindings) {
				break // it changes what is said, not what is decided
			}
			if m.ask(st, st.last()); !place.OnlyCapacity(st.last().reasons) {
				m.advance(st)
			}
		}
		opened = opened || st.open() != nil
	}
	return opened
}

// refused notes what a backend does not honour, with the origins of the fields that it names.
func (m *maker) refused(a *attempt, violations []guard.Violation) {
	for i := range violations {
		r := reasonOf(&violations[i])
		if r.Code == "" {
			r.Code = place.CodeRefused
		}
		if v, ok := a.resolved.Lookup(r.Path); ok && r.ValueOrigin == nil {
			r.ValueOrigin = v.Origin
			if r.Value == "" {
				r.Value = v.String()
			}
		}
		a.reasons, a.score = append(a.reasons, r), 0
	}
}
