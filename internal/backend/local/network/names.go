package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"go4.org/netipx"
)

// names are what things of this backend are called.
type names struct {
	table string
	// prefix begins the name of every link. Interface names have 15 bytes.
	prefix string
	dir    string
}

func newNames(name, dir string) names {
	sum := sha256.Sum256([]byte(name))
	return names{table: name, prefix: "bm" + hex.EncodeToString(sum[:3]), dir: dir}
}

// guest begins the names of the links of sandboxes, and of nothing else.
func (n names) guest() string { return n.prefix + "x" }

// link is the host's end of the link of a slot.
func (n names) link(slot int) string { return fmt.Sprintf("%s%04x", n.guest(), slot) }

// anchor is the link that carries the gateways' addresses, peer its other end.
func (n names) anchor() string { return n.prefix + "gw" }
func (n names) peer() string   { return n.prefix + "gp" }

// own reports whether a link is of this backend.
func (n names) own(link string) bool { return strings.HasPrefix(link, n.prefix) }

// slot returns the slot of a link, and whether it is one of a sandbox.
func (n names) slot(link string) (int, bool) {
	text, ok := strings.CutPrefix(link, n.guest())
	if !ok || len(text) != 4 {
		return 0, false
	}
	slot, err := strconv.ParseUint(text, 16, 16)
	return int(slot), err == nil
}

// Places on disk.
func (n names) namespaces() string          { return filepath.Join(n.dir, "ns") }
func (n names) namespace(slot int) string   { return filepath.Join(n.namespaces(), strconv.Itoa(slot)) }
func (n names) assigned() string            { return filepath.Join(n.dir, "assigned") }
func (n names) assignment(id string) string { return filepath.Join(n.assigned(), id) }
func (n names) block() string               { return filepath.Join(n.dir, "block.json") }

// guestLink is what a sandbox's only link is called inside.
const guestLink = "eth0"

// block is the range of addresses of one backend. Range6 is not valid where the machine forwards no IPv6.
type block struct {
	Range4 netip.Prefix `json:"range4"`
	Range6 netip.Prefix `json:"range6"`
}

// The first address of a range stands for the range itself, the second is the gateway.
const firstGuest = 2

func (b block) gateway4() netip.Addr { return b.Range4.Addr().Next() }

func (b block) gateway6() netip.Addr {
	if !b.six() {
		return netip.Addr{}
	}
	return b.Range6.Addr().Next()
}

func (b block) six() bool { return b.Range6.IsValid() }

func (b block) gateways() []netip.Addr {
	if b.six() {
		return []netip.Addr{b.gateway4(), b.gateway6()}
	}
	return []netip.Addr{b.gateway4()}
}

// slots is how many sandboxes have room. The last address of the IPv4 range is that of everybody.
func (b block) slots() int {
	return min(MaxSandboxes, 1<<(32-b.Range4.Bits())-firstGuest-1)
}

// addr4 and addr6 are the addresses of a slot.
func (b block) addr4(slot int) netip.Addr { return add(b.Range4.Addr(), slot+firstGuest) }

func (b block) addr6(slot int) netip.Addr {
	if !b.six() {
		return netip.Addr{}
	}
	return add(b.Range6.Addr(), slot+firstGuest)
}

// add returns the address n after a. Ranges are wide enough for n, and begin at a multiple of their size.
func add(a netip.Addr, n int) netip.Addr {
	s := a.AsSlice()
	for i, carry := len(s)-1, n; i >= 0 && carry > 0; i-- {
		carry += int(s[i])
		s[i] = byte(carry)
		carry >>= 8
	}
	out, _ := netip.AddrFromSlice(s)
	return out
}

// hardware returns the fixed hardware address of an end of a slot's link. Both ends are told the other's, so that nobody asks.
func hardware(slot int, host bool) net.HardwareAddr {
	end := byte(1)
	if host {
		end = 0
	}
	return net.HardwareAddr{0x02, 'b', 'm', end, byte(slot >> 8), byte(slot)}
}

// single is the range of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// ipNet converts a range for package netlink.
func ipNet(p netip.Prefix) *net.IPNet { return netipx.PrefixIPNet(p) }
