package network

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/local/network/networktest"
)

func listing(patterns ...string) *specpb.EgressMode {
	m := mode("allowlist")
	m.DnsNames = patterns
	return m
}

// expire lets what was answered to a sandbox be over.
func (n *testNetwork) expire(id string) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.guests[id]
	for a := range g.pins {
		if err := n.k.unpin(g, []netip.Addr{a}); err != nil {
			n.t.Fatal(err)
		}
	}
	g.pins = nil
}

// TestConnectionsOutliveAnswers: a connection to a name goes on when the answer is over, whatever happens around the machine meanwhile:
// nothing closed it. New ones are refused.
func TestConnectionsOutliveAnswers(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	m := listing("a.example")
	a := n.attach("one", m)
	to := netip.MustParseAddrPort("1.1.1.1:443")
	if err := n.Pin(a.Addr4, "a.example", []netip.Addr{to.Addr()}, 0); err != nil {
		t.Fatal(err)
	}
	c, err := networktest.Connect(a.Namespace, to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n.expire("one")
	n.check(a, map[string]error{to.String(): unix.ECONNREFUSED})
	link, err := netlink.LinkByName(networktest.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("2a02:9999::/64"))}); err != nil {
		t.Fatal(err)
	}
	if err := n.refresh(); err != nil {
		t.Fatal(err)
	}
	if err := c.Talk(patience); err != nil {
		t.Errorf("after a change around the machine: %v", err)
	}
	n.kill()
	n.restart("one", m)
	if err := c.Talk(patience); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	n.check(a, map[string]error{to.String(): unix.ECONNREFUSED})
	// What the owner of the machine closes is closed for it too.
	n.kill()
	n.cfg.Denied = []netip.Prefix{netip.PrefixFrom(to.Addr(), 32)}
	n.restart("one", m)
	if err := c.Talk(patience); err == nil {
		t.Error("a connection lives on that the owner of the machine closed")
	}
}

// TestRestartForgetsNames: a name that the next server's policy does not list is taken back, with its connections; and where the rules had
// to be made anew, what was answered before is answered anew.
func TestRestartForgetsNames(t *testing.T) {
	n := open(t, networktest.New(t))
	a := n.attach("one", listing("a.example", "b.example"))
	one, two := netip.MustParseAddrPort("1.1.1.1:443"), netip.MustParseAddrPort("93.184.215.14:443")
	if err := errors.Join(n.Pin(a.Addr4, "a.example", []netip.Addr{one.Addr()}, 0), n.Pin(a.Addr4, "b.example", []netip.Addr{two.Addr()}, 0)); err != nil {
		t.Fatal(err)
	}
	stays, goes, errs := connectBoth(a, one, two)
	if errs != nil {
		t.Fatal(errs)
	}
	defer stays.Close()
	defer goes.Close()
	n.kill()
	n.restart("one", listing("a.example"))
	if err := stays.Talk(patience); err != nil {
		t.Errorf("a name that is listed still: %v", err)
	}
	if err := goes.Talk(patience); err == nil {
		t.Error("a connection lives on to a name that is not listed any more")
	}
	n.check(a, map[string]error{one.String(): nil, two.String(): unix.ECONNREFUSED})
	// A table of another version, which cannot be gone on with.
	n.kill()
	n.k.conn.DelTable(n.k.t)
	n.k.conn.AddTable(n.k.t)
	up := []nftables.SetElement{{Key: ifname(networktest.Uplink)}}
	if err := errors.Join(n.k.addSet(n.k.sets.opened4, up), n.k.addSet(n.k.sets.opened6, up), n.k.commit()); err != nil {
		t.Fatal(err)
	}
	n.restart("one", listing("a.example"))
	n.check(a, map[string]error{one.String(): unix.ECONNREFUSED})
	if err := n.Pin(a.Addr4, "a.example", []netip.Addr{one.Addr()}, 0); err != nil {
		t.Fatal(err)
	}
	n.check(a, map[string]error{one.String(): nil})
}

func connectBoth(a *Attachment, one, two netip.AddrPort) (x, y *networktest.Conn, err error) {
	if x, err = networktest.Connect(a.Namespace, one); err != nil {
		return nil, nil, err
	}
	y, err = networktest.Connect(a.Namespace, two)
	return x, y, err
}
