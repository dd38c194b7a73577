package resolve

import "github.com/bermhq/berm/internal/core/spec"

// run merges everything, field by field.
func (m *merge) run() []Value {
	m.values = make([]Value, 0, m.size)
	for {
		least := m.least()
		if least == nil {
			return m.values
		}
		// A copy, because heads move while the field is taken.
		m.take(spec.Leaf{Field: least.Field, Key: least.Key})
	}
}

// least returns the smallest head.
func (m *merge) least() *spec.Leaf {
	var least *spec.Leaf
	for i := range m.sources {
		s := &m.sources[i]
		if s.done() {
			continue
		}
		if h := s.head(); least == nil || before(h, least) {
			least = h
		}
	}
	return least
}

func before(a, b *spec.Leaf) bool {
	if a.Field != b.Field {
		return a.Field.Index() < b.Field.Index()
	}
	return a.Key < b.Key
}

// take merges all statements about one field or key, from the highest source down.
func (m *merge) take(at spec.Leaf) {
	v := Value{}
	from := len(m.shadows)
	below := m.lowest(at)
	for i := len(m.sources) - 1; i >= below; i-- {
		s := &m.sources[i]
		if !s.done() && same(s.head(), &at) {
			m.state(s, &v)
			continue
		}
		// The source says nothing about the key itself; a null for the whole object covers it, if lower ones know the key.
		if at.Key != "" && at.Field.Open && i > below && s.clears(at.Field) {
			m.push(&v, spec.Leaf{Field: at.Field, Key: at.Key, State: spec.Cleared}, s.clearedBy)
		}
	}
	m.shadowEntry(&v, at, from)
	if len(m.shadows) > from {
		v.Shadowed = m.shadows[from:len(m.shadows):len(m.shadows)]
	}
	m.values = append(m.values, v)
}

// lowest returns the lowest source that says something about the field or key.
func (m *merge) lowest(at spec.Leaf) int {
	for i := range m.sources {
		if s := &m.sources[i]; !s.done() && same(s.head(), &at) {
			return i
		}
	}
	return len(m.sources)
}

func same(a, b *spec.Leaf) bool { return a.Field == b.Field && a.Key == b.Key }

func (s *source) clears(f *spec.Field) bool { return s.hasCleared && s.cleared.Field == f }

// state takes the head of s into v and moves on.
func (m *merge) state(s *source, v *Value) {
	l, origin := *s.head(), s.origin
	var shadowed []Shadow
	if s.values != nil {
		origin, shadowed = s.values[s.next].Origin, s.values[s.next].Shadowed
	}
	s.next++
	m.push(v, l, origin)
	m.shadow(shadowed...)
	if l.Key == "" && l.Field.Open {
		s.cleared, s.clearedBy, s.hasCleared = l, origin, l.State == spec.Cleared
		if s.values != nil {
			// In a result, keys that were cleared are listed one by one.
			s.hasCleared = false
		}
	}
}

// push makes l the owner of v, or a shadow when there is one.
func (m *merge) push(v *Value, l spec.Leaf, origin *Origin) {
	if v.Origin == nil {
		v.Leaf, v.Origin = l, origin
		return
	}
	m.shadow(Shadow{Leaf: l, Origin: origin})
}

func (m *merge) shadow(s ...Shadow) {
	if m.shadows == nil && len(s) > 0 {
		m.shadows = make([]Shadow, 0, m.room())
	}
	m.shadows = append(m.shadows, s...)
}

// room is how many shadows there can be: every statement but one per field, and those that results bring.
func (m *merge) room() int {
	n := m.size
	for i := range m.sources {
		for j := range m.sources[i].values {
			n += len(m.sources[i].values[j].Shadowed)
		}
	}
	return n
}

// shadowEntry adds, for an entry that a request adds to a map, the entry of that name in the map below: the last value
// merged.
func (m *merge) shadowEntry(v *Value, at spec.Leaf, from int) {
	if at.Key == "" || !at.Field.Additive || v.State != spec.Set {
		return
	}
	for i := len(m.values) - 1; i >= 0 && m.values[i].Field == at.Field; i-- {
		base := &m.values[i]
		if base.Key != "" {
			continue
		}
		if n := len(m.shadows); n > from && m.shadows[n-1].Origin == base.Origin {
			return // v came from a result, which has it already
		}
		for _, e := range base.Entries() {
			if e.Key == at.Key {
				m.shadow(Shadow{Leaf: e, Origin: base.Origin})
			}
		}
	}
}
