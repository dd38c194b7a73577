package egress

import (
	"net/netip"
	"slices"
	"strings"
)

// Limits of names, in bytes.
const (
	// MaxName is the longest name that DNS can carry.
	MaxName  = 253
	maxLabel = 63
	// MaxOpenName is the longest name that is looked up where any name may be and not any address reached: what could be carried
	// out by asking for names is bounded by this and by how often they may be asked for.
	MaxOpenName = 128
)

// CanonicalName returns a name in lower case without the final dot, and whether it is one: labels of letters, digits, hyphens
// and underscores. What a name server may think of as the same name is so the same here.
func CanonicalName(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > MaxName {
		return "", false
	}
	b := []byte(name)
	label := 0
	for i, c := range b {
		switch {
		case c == '.':
			if label == 0 {
				return "", false
			}
			label = -1
		case 'A' <= c && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return "", false
		}
		if label++; label > maxLabel {
			return "", false
		}
	}
	if label == 0 {
		return "", false
	}
	return string(b), true
}

// matchName reports whether a canonical name is what a pattern stands for: the name itself, or with "*." before it every
// name below it at any depth, without itself.
func matchName(pattern, name string) bool {
	if base, ok := strings.CutPrefix(pattern, "*"); ok {
		return len(name) > len(base) && strings.HasSuffix(name, base)
	}
	return name != "" && pattern == name
}

// Lookup is what the resolver does with a question.
type Lookup struct {
	Allow bool
	// Rule is the index of the rule that decides, -1 where no rule of the list does.
	Rule int
	// Pin says that the addresses answered become reachable, as long as the answer holds.
	Pin bool
	// Scope says that only names of sandboxes are answered, from what the runner knows.
	Scope bool
	// Why says it in words.
	Why string
}

// specialNames are the domains that mean something else on every network, or that no server outside has anything to say about.
func specialNames() []string {
	return []string{"localhost", "local", "internal", "home.arpa", "invalid", "test", "onion", "alt"}
}

// Lookup decides about a canonical name.
func (p *Policy) Lookup(name string) Lookup {
	last := len(p.Rules) - 1
	if i := slices.IndexFunc(p.Rules, func(r Rule) bool { return r.Kind == KindName && matchName(r.Name, name) }); i >= 0 {
		return Lookup{Allow: true, Rule: i, Pin: true, Why: p.Rules[i].Why}
	}
	switch {
	case p.Type.Scoped():
		return Lookup{Rule: last, Scope: true, Why: "only names of sandboxes of the same " + p.scope() + " are answered"}
	case p.Type == None:
		return Lookup{Rule: last, Why: "the mode has no resolver"}
	case p.named():
		return Lookup{Rule: last, Why: "the allowlist does not list the name"}
	case p.Type == Allowlist && !p.ranged():
		return Lookup{Rule: last, Why: "the allowlist is empty"}
	case isSpecialName(name):
		return Lookup{Rule: -1, Why: "the name means something else on every network"}
	case p.Type == Allowlist && len(name) > MaxOpenName:
		return Lookup{Rule: -1, Why: "the name is longer than those that are looked up without a list of names"}
	case p.Type == Allowlist:
		return Lookup{Allow: true, Rule: -1, Why: "any name is answered, with the addresses that the allowlist lists"}
	}
	return Lookup{Allow: true, Rule: last, Why: "any name is answered, without private addresses"}
}

// isSpecialName reports names of the machine's surroundings: those without a dot, and those of domains that are set aside.
func isSpecialName(name string) bool {
	return !strings.Contains(name, ".") || slices.ContainsFunc(specialNames(), func(s string) bool { return name == s || strings.HasSuffix(name, "."+s) })
}

func (p *Policy) named() bool {
	return slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.Kind == KindName })
}

func (p *Policy) ranged() bool {
	return slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.Allow && r.Kind == KindRanges })
}

// Answers reports whether an address may be answered for a name that may be looked up: one that may be reached once it was
// answered. pin is that of the Lookup.
func (p *Policy) Answers(a netip.Addr, pin bool) bool {
	if a.Is4In6() || a.Zone() != "" {
		return false
	}
	i := p.Decide(Destination{Addr: a, Port: 443, Protocol: TCP}, Live{})
	return p.Rules[i].Allow || pin && p.Rules[i].Kind == KindAny
}
