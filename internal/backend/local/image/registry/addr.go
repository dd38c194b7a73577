package registry

import (
	"net/netip"

	"github.com/bermhq/berm/internal/core/egress"
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

// closures are the classes of addresses that are not public, the same for registries as for sandboxes.
func closures() []egress.Closed { return egress.Closures(egress.Site{}) }

// classify says how near an address is, and what it is when it is not public. An IPv4 address in its IPv6 form is that IPv4
// address.
func classify(closed []egress.Closed, a netip.Addr) (reach, string) {
	a = a.WithZone("").Unmap()
	if a.IsLoopback() {
		return near, "the machine itself"
	}
	for _, c := range closed {
		for _, p := range c.Ranges {
			switch {
			case !p.Contains(a):
			case c.Class == egress.ClassPrivate:
				return near, c.Why
			default:
				return never, c.Why
			}
		}
	}
	return public, ""
}
