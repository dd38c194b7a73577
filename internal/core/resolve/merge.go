package resolve

import "github.com/bermhq/berm/internal/core/spec"

// run merges everything, field by field.
func (m *merge) run() []Value {
	sources := m.sources()
	m.values = make([]Value, 0, m.room())
	for {
		least, low, high := leastOf(sources)
		if least == nil {
			return m.values
		}
		// Keys may be under a null for the whole object, and over the entry of a map.
		if low == high && least.Key == "" || low == high && least.Field.Open && !clearedAbove(sources, low, least.Field) {
			m.single(&sources[low])
			continue
		}
		m.take(sources, least, low)
	}
}

// room guesses the length of the result. Layers mostly speak of the same fields: beyond a few, a quarter of what the
// shorter ones say is new.
func (m *merge) room() int {
	const few = 16
	rest := m.total - m.largest
	return m.largest + min(rest, few) + max(rest-few, 0)/4
}

// leastOf returns the smallest head and the lowest and highest source that have it.
func leastOf(sources []source) (least *spec.Leaf, low, high int) {
	for i := range sources {
		h := sources[i].head()
		switch {
		case h == nil:
		case least == nil || before(h, least):
			least, low, high = h, i, i
		case same(h, least):
			high = i
		}
	}
	return least, low, high
}

func before(a, b *spec.Leaf) bool {
	if a.Field != b.Field {
		return a.Field.Index() < b.Field.Index()
	}
	return a.Key < b.Key
}

func same(a, b *spec.Leaf) bool { return a.Field == b.Field && a.Key == b.Key }

// clearedAbove reports whether a source above the one given clears all keys of f.
func clearedAbove(sources []source, low int, f *spec.Field) bool {
	for i := low + 1; i < len(sources); i++ {
		if sources[i].cleared == f {
			return true
		}
	}
	return false
}

// single takes a statement that nothing else is said about.
func (m *merge) single(s *source) {
	l := s.head()
	if s.values != nil {
		m.values = append(m.values, s.values[s.next])
	} else {
		m.values = append(m.values, Value{Leaf: l, Origin: s.origin})
		s.note(l)
	}
	s.next++
}

// note remembers that a layer clears an open object as a whole.
func (s *source) note(l *spec.Leaf) {
	if l.Field.Open && l.Key == "" && l.State == spec.Cleared {
		s.cleared = l.Field
	}
}

// take merges all statements about one field or key, from the highest source down to the lowest that makes one.
func (m *merge) take(sources []source, at *spec.Leaf, low int) {
	v := Value{}
	from := len(m.shadows)
	for i := len(sources) - 1; i >= low; i-- {
		s := &sources[i]
		switch h := s.head(); {
		case h != nil && same(h, at):
			m.statement(s, h, &v)
		case at.Key != "" && s.cleared == at.Field:
			// A null for the whole object covers a key that lower layers know.
			m.push(&v, &spec.Leaf{Field: at.Field, Key: at.Key, State: spec.Cleared}, s.origin)
		}
	}
	m.shadowEntry(&v, from)
	if len(m.shadows) > from {
		v.Shadowed = m.shadows[from:len(m.shadows):len(m.shadows)]
	}
	m.values = append(m.values, v)
}

// statement takes the head of s into v and moves on.
func (m *merge) statement(s *source, h *spec.Leaf, v *Value) {
	if s.values == nil {
		m.push(v, h, s.origin)
		s.note(h)
	} else {
		old := &s.values[s.next]
		m.push(v, old.Leaf, old.Origin)
		for _, sh := range old.Shadowed {
			m.shadow(sh)
		}
	}
	s.next++
}

// push makes l the owner of v, or a shadow when there is one.
func (m *merge) push(v *Value, l *spec.Leaf, origin *Origin) {
	if v.Origin == nil {
		v.Leaf, v.Origin = l, origin
		return
	}
	m.shadow(Shadow{Leaf: l, Origin: origin})
}

func (m *merge) shadow(s Shadow) {
	if m.shadows == nil {
		room := m.total - m.largest + 1
		if m.sources()[0].values != nil {
			room *= 2 // each new shadow brings those of the result below, about as many again
		}
		m.shadows = make([]Shadow, 0, room)
	}
	m.shadows = append(m.shadows, s)
}

// shadowEntry adds, for an entry that a request adds to a map, the entry of that name in the map below it, which the
// values merged last hold.
func (m *merge) shadowEntry(v *Value, from int) {
	if v.Key == "" || !v.Field.Additive {
		return
	}
	for i := len(m.values) - 1; i >= 0 && m.values[i].Field == v.Field; i-- {
		base := &m.values[i]
		if base.Key != "" {
			continue
		}
		if n := len(m.shadows); n > from && m.shadows[n-1].Origin == base.Origin {
			return // v came from a result, which has it already
		}
		entries := base.Entries()
		for j := range entries {
			if entries[j].Key == v.Key {
				m.shadow(Shadow{Leaf: &entries[j], Origin: base.Origin})
			}
		}
	}
}
