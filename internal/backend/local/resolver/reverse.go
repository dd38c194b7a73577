package resolver

import (
	"net/netip"
	"slices"
	"strings"
)

// reversed reports names below the domains of addresses, and returns the address that one is of: not valid for parts of one.
// The names of private addresses are those of somebody's machines.
func reversed(name string) (netip.Addr, bool) {
	switch {
	case name == "in-addr.arpa" || name == "ip6.arpa":
		return netip.Addr{}, true
	case strings.HasSuffix(name, ".in-addr.arpa"):
		labels := strings.Split(strings.TrimSuffix(name, ".in-addr.arpa"), ".")
		slices.Reverse(labels)
		addr, err := netip.ParseAddr(strings.Join(labels, "."))
		if err != nil || !addr.Is4() {
			return netip.Addr{}, true
		}
		return addr, true
	case strings.HasSuffix(name, ".ip6.arpa"):
		return reversed6(strings.Split(strings.TrimSuffix(name, ".ip6.arpa"), ".")), true
	}
	return netip.Addr{}, false
}

func reversed6(nibbles []string) netip.Addr {
	if len(nibbles) != 32 {
		return netip.Addr{}
	}
	slices.Reverse(nibbles)
	var b strings.Builder
	for i, n := range nibbles {
		if len(n) != 1 {
			return netip.Addr{}
		}
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteString(n)
	}
	addr, err := netip.ParseAddr(b.String())
	if err != nil {
		return netip.Addr{}
	}
	return addr
}
