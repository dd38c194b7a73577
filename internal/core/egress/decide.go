package egress

import (
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// Protocol is what a destination is reached with.
type Protocol string

// The protocols that can be let through. Anything else is Other.
const (
	TCP   Protocol = "tcp"
	UDP   Protocol = "udp"
	Echo  Protocol = "icmp-echo"
	Other Protocol = "other"
)

// Destination is what a sandbox may want to reach. Port is 0 where there is none, or where it does not matter.
type Destination struct {
	Addr     netip.Addr
	Port     uint16
	Protocol Protocol
}

// Live is what a decision depends on that changes while a sandbox lives. Its functions may be nil.
type Live struct {
	// Resolver reports the address of the sandbox's own resolver.
	Resolver func(netip.Addr) bool
	// Member reports the address of a sandbox of the same scope.
	Member func(netip.Addr) bool
	// Pinned returns a name that the resolver answered with an address, "" for none.
	Pinned func(netip.Addr) string
}

// Decide returns the rule that decides about a destination, by its index. An IPv4 address in its IPv6 form is that IPv4
// address: that is what a kernel sends.
func (p *Policy) Decide(d Destination, live Live) int {
	d.Addr = d.Addr.Unmap().WithZone("")
	return slices.IndexFunc(p.Rules, func(r Rule) bool { return r.matches(d, live) })
}

func (r *Rule) matches(d Destination, live Live) bool {
	switch r.Kind {
	case KindResolver:
		return live.Resolver != nil && live.Resolver(d.Addr) && d.Port == PortDNS && (d.Protocol == TCP || d.Protocol == UDP)
	case KindPorts:
		return (d.Protocol == TCP || d.Protocol == UDP) && slices.Contains(r.Ports, d.Port)
	case KindProtocols:
		return d.Protocol == Other
	case KindRanges:
		return slices.ContainsFunc(r.Ranges, func(p netip.Prefix) bool { return p.Contains(d.Addr) })
	case KindScope:
		return live.Member != nil && live.Member(d.Addr)
	case KindName:
		return live.Pinned != nil && matchName(r.Name, live.Pinned(d.Addr))
	default:
		return true
	}
}

// Opened returns what the rules about ranges let through, as far as no earlier rule closes it: the machine's own addresses,
// and the rest. Rules about names and scopes add to it while the sandbox lives.
func (p *Policy) Opened() (machine, rest *netipx.IPSet) {
	var decided, own, other netipx.IPSetBuilder
	for _, r := range p.Rules {
		if r.Kind != KindRanges {
			continue
		}
		if r.Allow {
			into := &other
			if r.Class == ClassMachine {
				into = &own
			}
			into.AddSet(minus(r.Ranges, &decided))
		}
		for _, x := range r.Ranges {
			decided.AddRange(Span(x))
		}
	}
	return set(&own), set(&other)
}

// Span returns a range from its first address to its last.
func Span(p netip.Prefix) netipx.IPRange { return netipx.RangeOfPrefix(p) }

// minus returns ranges without what is in a set that goes on being built.
func minus(ranges []netip.Prefix, without *netipx.IPSetBuilder) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, r := range ranges {
		b.AddRange(Span(r))
	}
	b.RemoveSet(set(without.Clone()))
	return set(&b)
}

// set ends a builder. It fails for addresses that are not valid, which no Prefix has.
func set(b *netipx.IPSetBuilder) *netipx.IPSet {
	s, err := b.IPSet()
	if err != nil {
		return &netipx.IPSet{}
	}
	return s
}
