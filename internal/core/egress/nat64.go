package egress

import (
	"net/netip"
	"slices"
)

// A NAT64 is a translator on the way out: behind a prefix of IPv6 it has every IPv4 address, and sends on to that what comes for its spelling
// there (RFC 6052). What it has for public addresses is how a machine without IPv4 reaches the internet, so that a prefix is not closed as
// a whole; what it has for closed ones is.

// MaxNAT64 is how many prefixes of translators are told apart.
const MaxNAT64 = 8

// wellKnown64 is the prefix that a translator has where nobody chose another.
func wellKnown64() netip.Prefix { return netip.MustParsePrefix("64:ff9b::/96") }

// lengths64 are the lengths that a prefix may have, in bits.
func lengths64() []int { return []int{32, 40, 48, 56, 64, 96} }

// reserved64 is the octet of an address that spells nothing, unless it is in the prefix.
const reserved64 = 8

// ValidNAT64 reports whether a translator can have a prefix.
func ValidNAT64(p netip.Prefix) bool {
	return p.Addr().Is6() && !p.Addr().Is4In6() && p == p.Masked() && slices.Contains(lengths64(), p.Bits())
}

// octets64 are the places of the octets of an IPv4 address behind a prefix of so many bits.
func octets64(bits int) [4]int {
	var out [4]int
	at := bits / 8
	for i := range out {
		if at == reserved64 {
			at++
		}
		out[i] = at
		at++
	}
	return out
}

// spell64 returns the spellings of an IPv4 range behind the prefix of a translator: one; and where it goes on behind the reserved octet, which is
// to be zero and which translators pass over, those with other values of that. These have no use, so they are closed up to there.
func spell64(prefix, r netip.Prefix) []netip.Prefix {
	wide, v4, at := prefix.Addr().As16(), r.Addr().As4(), octets64(prefix.Bits())
	for i, o := range at {
		wide[o] = v4[i]
	}
	bits := prefix.Bits() + r.Bits()
	beyond := prefix.Bits() <= 8*reserved64 && r.Bits() > 0 && at[(r.Bits()-1)/8] > reserved64
	if !beyond {
		return []netip.Prefix{netip.PrefixFrom(netip.AddrFrom16(wide), bits)}
	}
	out := []netip.Prefix{netip.PrefixFrom(netip.AddrFrom16(wide), bits+8)}
	for i := range 8 {
		other := wide
		other[reserved64] = 0x80 >> i
		out = append(out, netip.PrefixFrom(netip.AddrFrom16(other), 8*reserved64+i+1).Masked())
	}
	return out
}

// translations spells the IPv4 ranges of all classes for each translator.
func translations(all []Closed, translators []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	seen := map[netip.Prefix]bool{}
	for _, prefix := range append([]netip.Prefix{wellKnown64()}, translators...) {
		for _, c := range all {
			for _, r := range c.Ranges {
				if !r.Addr().Is4() {
					continue
				}
				for _, s := range spell64(prefix, r) {
					if !seen[s] {
						seen[s] = true
						out = append(out, s)
					}
				}
			}
		}
	}
	return out
}

// NAT64Name is a name that has only two IPv4 addresses, which everybody knows: whoever gets IPv6 addresses for it has a translator
// (RFC 7050).
const NAT64Name = "ipv4only.arpa"

// NAT64Of returns the prefixes of translators that IPv6 addresses of NAT64Name speak of: each prefix behind which one has one of the two IPv4
// addresses. Where an address can be read in several ways, all of them count. At most MaxNAT64 are returned.
func NAT64Of(addrs []netip.Addr) []netip.Prefix {
	known := [][4]byte{{192, 0, 0, 170}, {192, 0, 0, 171}}
	var out []netip.Prefix
	for _, a := range addrs {
		if !a.Is6() || a.Is4In6() {
			continue
		}
		wide := a.WithZone("").As16()
		for _, bits := range lengths64() {
			var v4 [4]byte
			for i, o := range octets64(bits) {
				v4[i] = wide[o]
			}
			p := netip.PrefixFrom(netip.AddrFrom16(wide), bits).Masked()
			if slices.Contains(known, v4) && p != wellKnown64() && !slices.Contains(out, p) && len(out) < MaxNAT64 {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}
