package tree

import "slices"

// Presence says which paths a decoded document held. Paths are in snake_case; those below lists and maps are not noted.
type Presence struct {
	state map[string]bool
	order []string
}

// Has reports whether the document held the path, be it with null.
func (p *Presence) Has(path string) bool {
	_, ok := p.state[path]
	return ok
}

// Null reports whether the document held the path with null.
func (p *Presence) Null(path string) bool { return p.state[path] }

// Paths returns all paths held, in the order of the text: "spec", "spec.tags".
func (p *Presence) Paths() []string { return slices.Clone(p.order) }

func (p *Presence) note(path string, null bool) {
	if p.state == nil {
		p.state = map[string]bool{}
	}
	if _, ok := p.state[path]; !ok {
		p.order = append(p.order, path)
	}
	p.state[path] = null
}
