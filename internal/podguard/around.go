package podguard

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// NodeEnv is the environment variable that the addresses of the pod's node are in, with commas between them.
const NodeEnv = "BERM_NODE_ADDRESSES"

// Around is what only the pod itself knows.
type Around struct {
	// Resolvers are the name servers that it was given.
	Resolvers []netip.Addr
	// Node are the addresses of its node, and of routers.
	Node []netip.Addr
	// Link are the networks that it is part of.
	Link []netip.Prefix
}

// Look finds out what is around this pod.
func Look() (*Around, error) {
	a := &Around{}
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	a.Resolvers = resolvers(string(text))
	for _, field := range strings.FieldsFunc(os.Getenv(NodeEnv), func(r rune) bool { return r == ',' }) {
		addr, err := netip.ParseAddr(field)
		if err != nil {
			return nil, fmt.Errorf("%s: %.60q is no address", NodeEnv, field)
		}
		a.Node = append(a.Node, addr.Unmap())
	}
	if len(a.Node) == 0 {
		return nil, fmt.Errorf("%s is empty: the pod was not told the addresses of its node, so that they cannot be closed", NodeEnv)
	}
	return a, a.routes()
}

// resolvers are the name servers of a resolv.conf. More than those three no library asks.
func resolvers(text string) []netip.Addr {
	var out []netip.Addr
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil && !slices.Contains(out, a.Unmap()) {
			out = append(out, a.Unmap().WithZone(""))
		}
	}
	return out[:min(len(out), maxResolvers)]
}

const maxResolvers = 3

// routes takes routers and networks from the routing tables. They are read as text: a library for netlink would be in every pod.
func (a *Around) routes() error {
	for path, parse := range map[string]func([]string) (to netip.Prefix, router netip.Addr, err error){
		"/proc/thread-self/net/route": route4, "/proc/thread-self/net/ipv6_route": route6,
	} {
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) { // The kernel does without this family.
			continue
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if len(words) == 0 || words[0] == "Iface" {
				continue
			}
			to, router, err := parse(words)
			if err != nil {
				return fmt.Errorf("%s: %.100q: %w", path, line, err)
			}
			if !router.IsUnspecified() {
				a.Node = append(a.Node, router)
			} else if to.Bits() >= narrowest(to.Addr()) {
				a.Link = append(a.Link, to.Masked())
			}
		}
	}
	return nil
}

// route4 reads "eth0 0000F40A 0100F40A FLAGS REF USE METRIC 00FFFFFF …": numbers in the order of the machine.
func route4(words []string) (to netip.Prefix, router netip.Addr, err error) {
	if len(words) < 8 {
		return to, router, errRoute
	}
	var n [3]uint32
	for i, at := range []int{1, 2, 7} {
		v, err := strconv.ParseUint(words[at], 16, 32)
		if err != nil {
			return to, router, errRoute
		}
		n[i] = uint32(v)
	}
	addr := func(n uint32) netip.Addr { return netip.AddrFrom4([4]byte(binary.NativeEndian.AppendUint32(nil, n))) }
	return netip.PrefixFrom(addr(n[0]), bits.OnesCount32(n[2])), addr(n[1]), nil
}

// route6 reads "ADDRESS LENGTH SOURCE LENGTH ROUTER METRIC …": everything in hexadecimal.
func route6(words []string) (to netip.Prefix, router netip.Addr, err error) {
	if len(words) < 5 {
		return to, router, errRoute
	}
	length, err1 := strconv.ParseUint(words[1], 16, 8)
	dst, err2 := hex.DecodeString(words[0])
	via, err3 := hex.DecodeString(words[4])
	a, ok1 := netip.AddrFromSlice(dst)
	router, ok2 := netip.AddrFromSlice(via)
	if errors.Join(err1, err2, err3) != nil || !ok1 || !ok2 || !a.Is6() || !router.Is6() || length > 128 {
		return to, router, errRoute
	}
	return netip.PrefixFrom(a, int(length)), router, nil
}

var errRoute = errors.New("it is no route")

// narrowest is from how many bits on a prefix with a direct route is a network that the pod is part of; a wider one is the rest of the world.
func narrowest(a netip.Addr) int {
	if a.Is4() {
		return 8
	}
	return 32
}
