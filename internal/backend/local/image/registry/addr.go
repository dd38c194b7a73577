package registry

import (
	"fmt"
	"net/netip"
)

// reach says how near an address is.
type reach int

const (
	// public addresses may be connected to.
	public reach = iota
	// near addresses may be connected to for hosts that the operator listed as private.
	near
	// never: no registry is there, and what is there gives secrets away.
	never
)

// class is a range of addresses and what it is, in words.
type class struct {
	prefix netip.Prefix
	reach  reach
	what   string
}

// classes returns the ranges that are not public, the first that contains an address counts. Addresses in which another one
// is embedded are looked at once more as that one.
func classes() []class {
	p := netip.MustParsePrefix
	return []class{
		{p("169.254.0.0/16"), never, "a link-local address, where metadata services are"},
		{p("168.63.129.16/32"), never, "the address of a metadata service"},
		{p("100.100.100.200/32"), never, "the address of a metadata service"},
		{p("fd00:ec2::/32"), never, "the address of a metadata service"},
		{p("fd20:ce::/32"), never, "the address of a metadata service"},
		{p("0.0.0.0/8"), never, "not the address of a host"},
		{p("224.0.0.0/3"), never, "not the address of a host"},
		{p("fe80::/10"), never, "a link-local address"},
		{p("ff00::/8"), never, "not the address of a host"},
		{p("2001::/32"), never, "a Teredo address, which hides another"},
		{p("127.0.0.0/8"), near, "a loopback address"},
		{p("::1/128"), near, "a loopback address"},
		{p("10.0.0.0/8"), near, "a private address"},
		{p("172.16.0.0/12"), near, "a private address"},
		{p("192.168.0.0/16"), near, "a private address"},
		{p("100.64.0.0/10"), near, "a shared address of a provider's network"},
		{p("192.0.0.0/24"), near, "a reserved address"},
		{p("198.18.0.0/15"), near, "an address for measurements"},
		{p("64:ff9b:1::/48"), near, "a local translation address"},
		{p("fc00::/7"), near, "a private address"},
		{p("fec0::/10"), near, "a private address"},
		{p("::/128"), never, "not the address of a host"},
	}
}

// embeddings are the ranges in which an IPv4 address stands for itself, and at which byte.
func embeddings() map[netip.Prefix]int {
	return map[netip.Prefix]int{
		netip.MustParsePrefix("::/96"):        12, // IPv4-compatible
		netip.MustParsePrefix("64:ff9b::/96"): 12, // NAT64
		netip.MustParsePrefix("2002::/16"):    2,  // 6to4
	}
}

// classify says how near an address is, and what it is when it is not public.
func classify(a netip.Addr) (reach, string) {
	a = a.WithZone("").Unmap()
	for _, c := range classes() {
		if c.prefix.Contains(a) {
			return c.reach, c.what
		}
	}
	if a.Is4() {
		return public, ""
	}
	for p, at := range embeddings() {
		if p.Contains(a) {
			b := a.As16()
			inner := netip.AddrFrom4([4]byte(b[at : at+4]))
			r, what := classify(inner)
			if r != public {
				what = fmt.Sprintf("another way to write %s, %s", inner, what)
			}
			return r, what
		}
	}
	return public, ""
}
