// Package podguard holds a pod to the egress mode of its sandbox from within: rules that Berm's init container puts into the network
// namespace of the pod before anything else runs there, and which nothing in the pod has the right to change (docs/adr/0025).
//
// The rules travel as text, an argument of the init container each, so that the pod shows what holds:
//
//	allow resolver
//	refuse ports 53 853
//	refuse protocols
//	refuse ranges:metadata 169.254.169.254/32 168.63.129.16/32
//	refuse node
//	allow any
//	allow inbound-tcp 8080
//
// The first that matches a new connection decides about it, and without one nothing is let out, or in. What only the pod itself can know, its
// resolvers, its node, its link, is filled in there.
package podguard

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Kind says what a rule looks at.
type Kind string

// The kinds.
const (
	// Resolver: port 53 of the name servers that the pod was given.
	Resolver Kind = "resolver"
	// Ports: certain ports of whatever address, TCP and UDP.
	Ports Kind = "ports"
	// Protocols: everything that is not TCP, UDP or an echo request.
	Protocols Kind = "protocols"
	// Ranges: ranges of addresses.
	Ranges Kind = "ranges"
	// Node: the addresses of the pod's node, and of the routers that the pod knows.
	Node Kind = "node"
	// Link: the networks that the pod is part of.
	Link Kind = "link"
	// InboundTCP and InboundUDP: ports of the pod that others connect to. There is no rule that refuses these: what is not let in is not.
	InboundTCP Kind = "inbound-tcp"
	InboundUDP Kind = "inbound-udp"
	// Any: everything.
	Any Kind = "any"
)

// Limits of what is parsed.
const (
	// MaxRules is how many rules there may be: an allowlist has 256 ranges.
	MaxRules = 512
	// MaxItems is how many items one may have.
	MaxItems = 4096
)

// Rule is one rule.
type Rule struct {
	Allow bool
	Kind  Kind
	// Label says what the ranges of Ranges are. It is for people.
	Label string
	// Ranges are those of Ranges, Ports those of Ports and of what is inbound.
	Ranges []netip.Prefix
	Ports  []uint16
}

// String is the text of a rule.
func (r Rule) String() string {
	words := []string{"refuse", string(r.Kind)}
	if r.Allow {
		words[0] = "allow"
	}
	if r.Label != "" {
		words[1] += ":" + r.Label
	}
	for _, p := range r.Ports {
		words = append(words, strconv.Itoa(int(p)))
	}
	for _, p := range r.Ranges {
		words = append(words, p.String())
	}
	return strings.Join(words, " ")
}

// Parse reads rules. What is not understood is an error: a rule that is left out could be the one that refuses.
func Parse(texts []string) ([]Rule, error) {
	if len(texts) == 0 || len(texts) > MaxRules {
		return nil, fmt.Errorf("%d rules: want 1 to %d", len(texts), MaxRules)
	}
	out := make([]Rule, len(texts))
	for i, text := range texts {
		r, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("rule %d, %.80q: %w", i+1, text, err)
		}
		out[i] = r
	}
	return out, nil
}

func parse(text string) (Rule, error) {
	words := strings.Split(text, " ")
	if len(words) < 2 || words[0] != "allow" && words[0] != "refuse" {
		return Rule{}, fmt.Errorf("it begins with neither allow nor refuse and a kind")
	}
	r, items := Rule{Allow: words[0] == "allow"}, words[2:]
	kind, label, _ := strings.Cut(words[1], ":")
	r.Kind, r.Label = Kind(kind), label
	if len(items) > MaxItems {
		return r, fmt.Errorf("more than %d items", MaxItems)
	}
	inbound := r.Kind == InboundTCP || r.Kind == InboundUDP
	if inbound && !r.Allow {
		return r, fmt.Errorf("%s is refused without a rule", kind)
	}
	if wants := inbound || r.Kind == Ports || r.Kind == Ranges; wants != (len(items) > 0) {
		return r, fmt.Errorf("%d items do not go with %s", len(items), kind)
	}
	switch r.Kind {
	case Ports, InboundTCP, InboundUDP:
		for _, item := range items {
			n, err := strconv.ParseUint(item, 10, 16)
			if err != nil || n == 0 {
				return r, fmt.Errorf("%.20q is no port", item)
			}
			r.Ports = append(r.Ports, uint16(n))
		}
	case Ranges:
		for _, item := range items {
			p, err := netip.ParsePrefix(item)
			if err != nil || p != p.Masked() {
				return r, fmt.Errorf("%.60q is no range of addresses", item)
			}
			r.Ranges = append(r.Ranges, p)
		}
	default:
		if !slices.Contains([]Kind{Resolver, Protocols, Node, Link, Any}, r.Kind) {
			return r, fmt.Errorf("%.20q is no kind of rule", kind)
		}
	}
	return r, nil
}
