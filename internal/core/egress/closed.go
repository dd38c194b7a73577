package egress

import (
	"net/netip"
	"slices"
)

// Class is a sort of destination that is closed unless a rule opens it.
type Class string

// The classes, in the order in which they are tried: a range of an earlier one may lie inside a range of a later one.
const (
	// ClassDenied: closed by the owner of the machine. Never opened.
	ClassDenied Class = "denied"
	// ClassMetadata: metadata and credential services of clouds. Opened by the very address.
	ClassMetadata Class = "metadata"
	// ClassMachine: the machine that runs the sandbox. Opened by the very address.
	ClassMachine Class = "machine"
	// ClassSandboxes: other sandboxes. Opened by the types user, org and profile alone.
	ClassSandboxes Class = "sandboxes"
	// ClassTranslated: IPv6 spellings, through a NAT64, of IPv4 addresses that are closed. Never opened.
	ClassTranslated Class = "translated"
	// ClassSpecial: addresses that mean nothing, or something else, to the machine: loopback, multicast, tunnels. Never opened.
	ClassSpecial Class = "special"
	// ClassLinkLocal: addresses of one link. Opened by a range inside.
	ClassLinkLocal Class = "link-local"
	// ClassPrivate: private, shared and documentation networks. Opened by a range inside.
	ClassPrivate Class = "private"
	// ClassOnLink: networks that the machine is part of and that are none of the above, as IPv6 has them at home. Opened by a
	// range inside.
	ClassOnLink Class = "on-link"
)

// Closed is a class with its ranges.
type Closed struct {
	Class  Class
	Ranges []netip.Prefix
	// Opens says that a range of an allowlist which lies inside one of Ranges opens that part.
	Opens bool
	// Why says in words what they are.
	Why string
}

// Closures returns the classes for a site, in their order.
func Closures(s Site) []Closed {
	all := []Closed{
		{ClassDenied, s.Denied, false, "closed by the owner of the machine"},
		{ClassMetadata, metadata(), true, "metadata and credential services of clouds"},
		{ClassMachine, s.Machine, true, "the machine that the sandbox runs on"},
		{ClassSandboxes, s.Sandboxes, false, "other sandboxes"},
		{ClassTranslated, nil, false, "IPv6 spellings of IPv4 addresses that are closed"},
		{ClassSpecial, special(), false, "addresses of no host: loopback, multicast, tunnels, reserved"},
		{ClassLinkLocal, linkLocal(), true, "link-local addresses"},
		{ClassPrivate, private(), true, "private networks"},
		{ClassOnLink, narrow(s.OnLink), true, "networks that the machine is part of"},
	}
	for i, c := range all {
		if c.Class == ClassTranslated {
			all[i].Ranges = translations(all, s.NAT64)
		}
	}
	return all
}

// Widths, in bits, from which on a prefix that the machine has a direct route to is a network that it is part of. Wider ones
// are how a tunnel takes in the rest of the world.
const (
	minOnLink4 = 8
	minOnLink6 = 32
)

func narrow(all []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(all), func(p netip.Prefix) bool {
		if p.Addr().Is4() {
			return p.Bits() < minOnLink4
		}
		return p.Bits() < minOnLink6
	})
}

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}

// metadata lists what clouds answer instances with, and hand credentials out at.
func metadata() []netip.Prefix {
	return prefixes(
		"169.254.169.254/32", "fd00:ec2::254/128", "fd20:ce::254/128", "fd00:c1::a9fe:a9fe/128", "fd00:42::42/128", "fe80::a9fe:a9fe/128", // instances
		"169.254.170.2/32", "169.254.170.23/32", "fd00:ec2::23/128", // credentials of containers
		"169.254.169.253/32", "fd00:ec2::253/128", "169.254.169.250/32", "169.254.169.251/32", "169.254.169.123/32", // resolvers, licences, time
		"168.63.129.16/32", "100.100.100.200/32", "100.96.0.96/32", "192.0.0.192/32", "169.254.42.42/32", "169.254.0.23/32", // other clouds
	)
}

// special are the ranges of the IANA registries that no host is at, or that hide another address.
func special() []netip.Prefix {
	return prefixes(
		"0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4",
		"::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", // unspecified, loopback, and IPv4 in three other spellings
		"64:ff9b:1::/48", "2002::/16", "2001::/32", // local NAT64, 6to4, Teredo
		"100::/64", "100:0:0:1::/64", "2001:10::/28", "2001:20::/28", "5f00::/16", "ff00::/8",
	)
}

func linkLocal() []netip.Prefix { return prefixes("169.254.0.0/16", "fe80::/10", "fec0::/10") }

func private() []netip.Prefix {
	return prefixes(
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7",
		"192.0.0.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "192.88.99.0/24",
		"2001:db8::/32", "3fff::/20", "2001:2::/48",
	)
}
