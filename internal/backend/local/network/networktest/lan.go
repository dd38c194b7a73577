package networktest

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// LAN is another network of the machine, with one host on it that listens as the world does.
type LAN struct {
	// Addr4 and Addr6 are the host's.
	Addr4, Addr6 netip.Addr
}

// lanLink is the machine's link to it.
const lanLink = "lan0"

// NewLAN connects the machine with another network, until the test ends. The world has routes to it through the machine.
func NewLAN(t testing.TB, w *World) *LAN {
	t.Helper()
	l := &LAN{Addr4: netip.MustParseAddr("172.20.0.2"), Addr6: netip.MustParseAddr("fd20::2")}
	own4, own6 := netip.MustParseAddr("172.20.0.1"), netip.MustParseAddr("fd20::1")
	path := filepath.Join(t.TempDir(), "lan")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, keepNamespace(path))
	ns, err := netns.GetFromPath(path)
	must(t, err)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = lanLink
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: lanLink, PeerNamespace: netlink.NsFd(ns)}))
	t.Cleanup(func() {
		if link, err := netlink.LinkByName(lanLink); err == nil {
			must(t, netlink.LinkDel(link))
		}
		must(t, unix.Unmount(path, unix.MNT_DETACH))
		must(t, ns.Close())
	})
	here, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	defer here.Close()
	there, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	must(t, err)
	defer there.Close()
	address(t, here, lanLink, own4, own6)
	address(t, there, "lo")
	address(t, there, lanLink, l.Addr4, l.Addr6)
	for _, h := range []*netlink.Handle{here, there} {
		carries(t, h, lanLink)
	}
	host, err := there.LinkByName(lanLink)
	must(t, err)
	In(t, w.Path, func() {
		up, err := netlink.LinkByName(Uplink)
		if err != nil {
			t.Error(err)
			return
		}
		for addr, via := range map[netip.Addr]netip.Addr{l.Addr4: Machine4, l.Addr6: Machine6} {
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Dst: single(addr), Gw: via.AsSlice()}); err != nil {
				t.Error(err)
			}
		}
	})
	for _, via := range []netip.Addr{own4, own6} {
		must(t, there.RouteAdd(&netlink.Route{LinkIndex: host.Attrs().Index, Gw: via.AsSlice()}))
	}
	for _, p := range []uint16{80, 443} {
		w.Listen(path, netip.IPv6Unspecified(), p)
	}
	return l
}
