// Package egress decides what a sandbox may reach. It compiles the egress mode in force, together with what is around the
// sandbox (Site), into a Policy: an ordered list of rules of which the first that matches decides, each with the place that it
// comes from, and the same for names. Nothing here does I/O; a backend transcribes a Policy into whatever enforces it, and
// `berm explain --network` asks the Policy itself.
//
// # What is closed
//
// Some destinations are closed whatever is allowed around them: the address of a metadata service lies in the middle of a
// range that somebody may well list. They are sorted into classes (Class). A class is either never opened, or opened only by
// a range of an allowlist that lies inside one of the class's own ranges: 10.0.0.0/8 opens the private network that it names,
// 0.0.0.0/0 opens nothing but what is public, and the machine itself is reached only by who lists its address alone. So
// listing more ranges never opens what no range was written for, and adding to a Site never opens anything.
package egress

import (
	"net/netip"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// Type is the type of an egress mode.
type Type string

// The types.
const (
	None      Type = "none"
	Internet  Type = "internet"
	Allowlist Type = "allowlist"
	User      Type = "user"
	Org       Type = "org"
	Profile   Type = "profile"
)

// Types lists the types, in the order of their declaration.
func Types() []Type { return []Type{None, Internet, Allowlist, User, Org, Profile} }

// Scoped reports whether a type reaches other sandboxes, and only those.
func (t Type) Scoped() bool { return t == User || t == Org || t == Profile }

// Site is what is around a sandbox on the machine that runs it. The zero value knows of nothing.
type Site struct {
	// Denied are ranges that the owner of the machine closed, whatever profiles say.
	Denied []netip.Prefix
	// Machine are the machine's own addresses, each a range of one.
	Machine []netip.Prefix
	// OnLink are the networks that the machine is part of.
	OnLink []netip.Prefix
	// Sandboxes are the ranges that sandboxes get their addresses from.
	Sandboxes []netip.Prefix
	// NAT64 are the prefixes of translators on the way, besides the well-known one.
	NAT64 []netip.Prefix
}

// Policy is what one sandbox may reach. It is immutable.
type Policy struct {
	// Mode is the name of the mode, Type its type.
	Mode string
	Type Type
	// Rules are tried in their order; the last matches everything.
	Rules []Rule
}

// Kind says what a rule looks at.
type Kind string

// The kinds of rules.
const (
	// KindResolver: the sandbox's own resolver.
	KindResolver Kind = "resolver"
	// KindPorts: certain ports of whatever address.
	KindPorts Kind = "ports"
	// KindProtocols: everything that is not TCP, UDP or an echo request.
	KindProtocols Kind = "protocols"
	// KindRanges: ranges of addresses.
	KindRanges Kind = "ranges"
	// KindScope: other sandboxes of the same user, organization or profile.
	KindScope Kind = "scope"
	// KindName: addresses that the resolver answered for a name, as long as the answer holds.
	KindName Kind = "name"
	// KindAny: everything.
	KindAny Kind = "any"
)

// Rule is one rule of a Policy.
type Rule struct {
	Allow bool
	Kind  Kind
	// Class is set for rules that close a class, and for those that open part of one.
	Class Class
	// Ranges are the ranges of KindRanges, Ports the ports of KindPorts, Name the pattern of KindName.
	Ranges []netip.Prefix
	Ports  []uint16
	Name   string
	// Path is the item of the spec that the rule comes from: network.egress.modes["index"].cidrs[0]. Empty for rules that hold
	// whatever the spec says.
	Path string
	// Why says it in words.
	Why string
}

// Field is the field of the spec that Path lies in, by which provenance is found.
const Field = "network.egress.modes"

// Selected returns the mode in force, by name: the one selected, else the default. The mode is nil when it is not declared;
// the name is empty when none is chosen, which means no network.
func Selected(e *specpb.Egress) (name string, mode *specpb.EgressMode) {
	if name = e.GetSelected(); name == "" {
		name = e.GetDefault()
	}
	return name, e.GetModes()[name]
}
