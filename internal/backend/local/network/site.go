package network

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/egress"
)

// around is what is around the sandboxes of this machine.
type around struct {
	site egress.Site
	// ways are the links by which packets leave the machine.
	ways []string
	// taken are addresses and routes that are not ours.
	taken []netip.Prefix
	mtu   int
}

// look asks the kernel. mu is held. What is of this backend is left out: a gateway is no address of the machine that anybody could open.
func (n *Network) look() (*around, error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	byIndex := map[int]netlink.Link{}
	for _, l := range links {
		byIndex[l.Attrs().Index] = l
	}
	foreign := func(index int) bool {
		l, ok := byIndex[index]
		return !ok || !n.own(l.Attrs().Name)
	}
	a := &around{mtu: defaultMTU}
	if err := a.addresses(foreign); err != nil {
		return nil, err
	}
	if err := a.routes(foreign, byIndex); err != nil {
		return nil, err
	}
	a.site.Denied, a.site.NAT64 = n.cfg.Denied, n.nat64
	a.site.Sandboxes = []netip.Prefix{netip.MustParsePrefix(DefaultRange4), netip.MustParsePrefix(DefaultRange6)}
	for _, p := range []netip.Prefix{n.block.Range4, n.block.Range6} {
		if p.IsValid() {
			a.site.Sandboxes = append(a.site.Sandboxes, p)
		}
	}
	a.sort()
	return a, nil
}

// whole lists something until the list is whole: while sandboxes come and go, the kernel often says that it changed meanwhile. After
// some times what there is must do, or nothing ever would; what is missing then shows at the next look.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for range listings {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	all, err := list()
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		err = nil
	}
	return all, err
}

// listings is how often a list is asked for again.
const listings = 20

// defaultMTU is that of links where the way out has none that is less.
const defaultMTU = 1500

func (a *around) addresses(foreign func(int) bool) error {
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		p, ok := netipx.FromStdIPNet(addr.IPNet)
		if !ok || !foreign(addr.LinkIndex) {
			continue
		}
		if !p.Addr().IsLoopback() {
			a.site.Machine = append(a.site.Machine, single(p.Addr()))
		}
		a.taken = append(a.taken, p.Masked())
	}
	return nil
}

func (a *around) routes(foreign func(int) bool, links map[int]netlink.Link) error {
	routes, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return err
	}
	for _, r := range routes {
		direct := r.Gw == nil && r.Via == nil && len(r.MultiPath) == 0
		hops := []int{r.LinkIndex}
		for _, h := range r.MultiPath {
			hops = append(hops, h.LinkIndex)
		}
		hops = slices.DeleteFunc(hops, func(i int) bool { return i == 0 || !foreign(i) })
		if r.Type != unix.RTN_UNICAST || len(hops) == 0 {
			continue
		}
		var dst netip.Prefix
		if r.Dst != nil {
			dst, _ = netipx.FromStdIPNet(r.Dst)
		}
		for _, i := range hops {
			a.way(links[i], !dst.IsValid() || dst.Bits() == 0)
		}
		if !dst.IsValid() || dst.Addr().IsMulticast() {
			continue
		}
		if dst.Bits() > 0 {
			a.taken = append(a.taken, dst.Masked())
		}
		if direct {
			a.site.OnLink = append(a.site.OnLink, dst.Masked())
		}
	}
	return nil
}

// way notes a link by which packets leave. The MTU of sandboxes is that of the way to everywhere, so that they need not find it out.
func (a *around) way(l netlink.Link, everywhere bool) {
	if l == nil || l.Attrs().Name == "lo" {
		return
	}
	a.ways = append(a.ways, l.Attrs().Name)
	if m := l.Attrs().MTU; everywhere && m >= minMTU && m < a.mtu {
		a.mtu = m
	}
}

// minMTU is what IPv6 needs.
const minMTU = 1280

// sort makes two looks at the same machine equal.
func (a *around) sort() {
	for _, list := range []*[]netip.Prefix{&a.site.Machine, &a.site.OnLink, &a.taken} {
		slices.SortFunc(*list, func(x, y netip.Prefix) int { return netipx.ComparePrefix(x, y) })
		*list = slices.Compact(*list)
	}
	slices.Sort(a.ways)
	a.ways = slices.Compact(a.ways)
}

func equalSites(a, b egress.Site) bool {
	return slices.Equal(a.Machine, b.Machine) && slices.Equal(a.OnLink, b.OnLink) && slices.Equal(a.Denied, b.Denied) && slices.Equal(a.NAT64, b.NAT64) && slices.Equal(a.Sandboxes, b.Sandboxes)
}
