package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/nft"
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
	if err := c.Talk(); err != nil {
		t.Errorf("after a change around the machine: %v", err)
	}
	n.kill()
	n.restart("one", m)
	if err := c.Talk(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	n.check(a, map[string]error{to.String(): unix.ECONNREFUSED})
	// What the owner of the machine closes is closed for it too.
	n.kill()
	n.cfg.Denied = []netip.Prefix{netip.PrefixFrom(to.Addr(), 32)}
	n.restart("one", m)
	if err := c.Talk(); err == nil {
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
	if err := stays.Talk(); err != nil {
		t.Errorf("a name that is listed still: %v", err)
	}
	if err := goes.Talk(); err == nil {
		t.Error("a connection lives on to a name that is not listed any more")
	}
	n.check(a, map[string]error{one.String(): nil, two.String(): unix.ECONNREFUSED})
	// A table of another version, which cannot be gone on with.
	n.kill()
	n.k.conn.DelTable(n.k.t)
	n.k.conn.AddTable(n.k.t)
	up := []nftables.SetElement{{Key: nft.IfName(networktest.Uplink)}}
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

// TestRulesRemoved: whoever takes away the rules of the whole machine does not open it for long, and nothing that began meanwhile goes on.
func TestRulesRemoved(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	w.Listen("", netip.IPv6Unspecified(), 80)
	a, b := n.attach("a", mode("internet")), n.attach("b", listing("a.example"))
	own := netip.AddrPortFrom(networktest.Machine4, 80)
	one := netip.MustParseAddrPort("1.1.1.1:443")
	if err := n.Pin(b.Addr4, "a.example", []netip.Addr{one.Addr()}, 0); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock() // So that nothing is made anew before there is a connection.
	conn, err := nftables.New()
	if err == nil {
		conn.FlushRuleset()
		err = conn.Flush()
	}
	var open *networktest.Conn
	if err == nil {
		open, err = networktest.Connect(a.Namespace, own)
	}
	n.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	n.until(func() bool { return n.reaches(a, own.String()) != nil })
	n.until(func() bool { return open.Talk() != nil })
	n.check(a, map[string]error{own.String(): unix.ECONNREFUSED, "10.0.0.1:443": unix.ECONNREFUSED, one.String(): nil, "[2606:4700::1]:443": nil})
	n.until(func() bool { return n.reaches(b, one.String()) == nil }) // What was answered follows the rules.
	n.check(b, map[string]error{"93.184.215.14:443": unix.ECONNREFUSED})
	n.check(n.attach("c", mode("internet")), map[string]error{one.String(): nil, own.String(): unix.ECONNREFUSED})
}

// TestOthersErrors: a sandbox says nothing about connections that are not its own, whatever it quotes; about its own it does.
func TestOthersErrors(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	a := n.attach("a", mode("internet"))
	udp := func(to netip.AddrPort) *net.UDPConn {
		c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
		if err == nil {
			_, err = c.Write([]byte("hello"))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	hears := func(c *net.UDPConn, within time.Duration) error {
		if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		_, err := c.Read(make([]byte, 16))
		return err
	}
	// Nobody listens at that port of the sandbox, which its kernel says.
	if err := hears(udp(netip.AddrPortFrom(a.Addr4, 9999)), patience); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a sandbox says that nobody listens: %v", err)
	}
	to := netip.MustParseAddrPort("1.1.1.1:80")
	machines := udp(to)
	from := machines.LocalAddr().(*net.UDPAddr).AddrPort()
	quoted := ipv4.Header{Version: 4, Len: ipv4.HeaderLen, TotalLen: ipv4.HeaderLen + 13, TTL: 60, Protocol: unix.IPPROTO_UDP, Src: from.Addr().AsSlice(), Dst: to.Addr().AsSlice()}
	head, err := quoted.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	message := slices.Concat([]byte{3, 3, 0, 0, 0, 0, 0, 0}, head, nft.Big16(from.Port()), nft.Big16(to.Port()), []byte{0, 13, 0, 0})
	sum := checksum(message)
	message[2], message[3] = byte(sum>>8), byte(sum)
	networktest.SendRaw(t, a.Namespace, a.Addr4, from.Addr(), unix.IPPROTO_ICMP, message)
	// What comes after it has arrived.
	if err := hears(udp(netip.AddrPortFrom(a.Addr4, 9998)), patience); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatal(err)
	}
	if err := hears(machines, 10*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a sandbox ended what the machine had with somebody else: %v", err)
	}
}

// checksum is that of IP and ICMP.
func checksum(data []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(data[i])<<8 | uint32(data[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
