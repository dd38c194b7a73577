// Package network gives sandboxes of one machine their network: a namespace with one link each, addresses, and rules in the
// kernel that enforce the sandbox's egress policy (package core/egress).
package network

import (
	"net/netip"
	"time"

	"github.com/bermhq/berm/internal/core/egress"
)

// Guest is what is known of the sandbox behind an address. It does not change while the sandbox has the address, except that
// Policy is replaced when what is around the machine changes.
type Guest struct {
	ID string
	// Addr4 and Addr6 are its addresses. Addr6 is not valid where the machine forwards no IPv6.
	Addr4, Addr6 netip.Addr
	// Policy is what it may reach.
	Policy *egress.Policy
	// Scope names the group of sandboxes that the types user, org and profile reach; empty for other types.
	Scope string
}

// Names is what the resolver of the sandboxes asks and tells the kernel's half. Network implements it.
//
// A sandbox is known by the address that its question came from: packets with another source address do not leave its link.
type Names interface {
	// Guest returns the sandbox that has an address, either of the two. The address of nobody: false.
	Guest(addr netip.Addr) (Guest, bool)
	// Peer returns the sandbox with an id that is a member of the scope of the asking one, for names of sandboxes.
	Peer(asking netip.Addr, id string) (Guest, bool)
	// Pin lets the sandbox with an address reach addrs, as the answers for name, for ttl; pinning again prolongs. ttl is raised
	// to MinPin and cut to MaxPin. It returns once the kernel lets the sandbox through, so that an answer may be given then.
	// Addresses that the policy closes stay closed. Errors: NotFound when nobody has the address (any more), FailedPrecondition
	// for a name that the policy does not pin, ResourceExhausted over MaxPins.
	Pin(sandbox netip.Addr, name string, addrs []netip.Addr, ttl time.Duration) error
	// Gateways are the addresses that the resolver listens at, one per family: the sandboxes of this backend reach them, and
	// nobody else does. They exist from the first sandbox with a network on; see Config.Up.
	Gateways() []netip.Addr
}

// Limits of pins.
const (
	// MinPin is the shortest time that an answer holds: a shorter one would end before it is used.
	MinPin = 30 * time.Second
	// MaxPin is the longest: by then the address may have become somebody else's.
	MaxPin = time.Hour
	// MaxPins is how many addresses may be pinned for one sandbox at a time.
	MaxPins = 4096
)
