package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/nft"
)

// TestSource: nothing leaves with an address that is not the sandbox's own: not a neighbour's, not the gateway's, not one outside.
func TestSource(t *testing.T) {
	w := networktest.New(t)
	w.HearRaw(unix.IPPROTO_UDP)
	n := open(t, w)
	a, b := n.attach("a", mode("internet")), n.attach("b", mode("internet"))
	to := netip.MustParseAddr("1.1.1.1")
	datagram := func(text string) []byte {
		return append([]byte{0, 99, 0, 80, 0, byte(8 + len(text)), 0, 0}, text...)
	}
	for i, source := range []netip.Addr{b.Addr4, n.Gateways()[0], networktest.Machine4, netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("127.0.0.1")} {
		networktest.SendRaw(t, a.Namespace, source, to, unix.IPPROTO_UDP, datagram(fmt.Sprint("forged-", i)))
	}
	// What comes after them has arrived, they have not.
	if err := w.SendUDP(a.Namespace, netip.AddrPortFrom(to, 80), "own"); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if w.Got(string(datagram(fmt.Sprint("forged-", i)))) > 0 {
			t.Errorf("a packet with the source of case %d arrived", i)
		}
	}
	if denied, err := n.Denied("a"); err != nil || denied[ReasonSource] < 3 {
		t.Errorf("denied: %v %v", denied, err)
	}
}

// TestSourceRoute: a packet that asks to be sent on from an address that is allowed goes nowhere, also where the machine takes such.
func TestSourceRoute(t *testing.T) {
	w := networktest.New(t)
	all := setting{name: "ipv4/conf/all/accept_source_route", value: "1"}
	networktest.In(t, w.Path, func() {
		if err := all.write(); err != nil { // It would take it.
			t.Error(err)
		}
	})
	if err := all.write(); err != nil {
		t.Fatal(err)
	}
	n := open(t, w, func(c *Config) {
		c.Up = func(names Names) (func(), error) {
			w.Listen("", names.Gateways()[0], egress.PortDNS)
			return func() {}, nil
		}
	})
	a := n.attach("one", mode("internet"))
	gw := n.Gateways()[0]
	networktest.In(t, a.Namespace, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		loose := append([]byte{131, 7, 4}, append(gw.AsSlice(), 0)...) // By way of the gateway.
		to := &unix.SockaddrInet4{Port: egress.PortDNS, Addr: netip.MustParseAddr("10.0.0.1").As4()}
		if err := errors.Join(unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, string(loose)), unix.Sendto(fd, []byte("routed"), 0, to), unix.Close(fd)); err != nil {
			t.Error(err)
		}
	})
	if err := w.SendUDP(a.Namespace, netip.AddrPortFrom(gw, egress.PortDNS), "plain"); err != nil {
		t.Fatal(err)
	}
	if w.Got("routed") > 0 {
		t.Error("it was sent on to a private address")
	}
	if err := (setting{name: all.name, value: "0"}).write(); err != nil {
		t.Fatal(err)
	}
}

// TestOptions: no packet leaves with options of IPv4, such as one that collects the addresses of the machine.
func TestOptions(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	a := n.attach("one", mode("internet"))
	to := &unix.SockaddrInet4{Port: 80, Addr: netip.MustParseAddr("1.1.1.1").As4()}
	networktest.In(t, a.Namespace, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		record := append([]byte{7, 39, 4}, make([]byte, 37)...)
		if err := errors.Join(unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, string(record)), unix.Sendto(fd, []byte("recorded"), 0, to), unix.Close(fd)); err != nil {
			t.Error(err)
		}
	})
	if err := w.SendUDP(a.Namespace, netip.MustParseAddrPort("1.1.1.1:80"), "plain"); err != nil {
		t.Fatal(err)
	}
	if w.Got("recorded") > 0 {
		t.Error("it left")
	}
	if denied, err := n.Denied("one"); err != nil || denied["protocols"] != 1 {
		t.Errorf("denied: %v %v", denied, err)
	}
}

// TestOtherProtocols: only TCP, UDP and echo requests leave, whoever may be reached.
func TestOtherProtocols(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	protocols := []uint8{unix.IPPROTO_SCTP, unix.IPPROTO_GRE, unix.IPPROTO_IPIP, unix.IPPROTO_ESP, unix.IPPROTO_DCCP, unix.IPPROTO_UDPLITE, 253}
	for _, p := range protocols {
		w.HearRaw(p)
	}
	w.HearRaw(unix.IPPROTO_ICMP)
	to := netip.MustParseAddr("1.1.1.1")
	for _, m := range []string{"internet", "allowlist"} {
		a := n.attach(m, mode(m, "0.0.0.0/0"))
		for _, p := range protocols {
			networktest.SendRaw(t, a.Namespace, a.Addr4, to, p, fmt.Appendf(nil, "%s-%d-padded-to-some-length", m, p))
		}
		// A redirect, a timestamp request, and a router's advertisement: not echo requests.
		for _, typ := range []byte{5, 13, 9} {
			networktest.SendRaw(t, a.Namespace, a.Addr4, to, unix.IPPROTO_ICMP, []byte{typ, 0, 255 - typ, 255, 0, 0, 0, 0})
		}
		if err := networktest.Ping(a.Namespace, to); err != nil { // After all of them.
			t.Errorf("%s: an echo request: %v", m, err)
		}
		for _, p := range protocols {
			if w.Got(fmt.Sprintf("%s-%d-padded-to-some-length", m, p)) > 0 {
				t.Errorf("%s: protocol %d left", m, p)
			}
		}
		for _, typ := range []byte{5, 13, 9} {
			if w.Got(string([]byte{typ, 0, 255 - typ, 255, 0, 0, 0, 0})) > 0 {
				t.Errorf("%s: ICMP of type %d left", m, typ)
			}
		}
		if denied, err := n.Denied(m); err != nil || denied["protocols"] < 5 { // Some are no packets of their protocol, and dropped as such.
			t.Errorf("%s: denied: %v %v", m, denied, err)
		}
	}
}

// TestWithoutIPv6: where the machine does not forward IPv6, a sandbox has none: no address, no way out that only IPv4 was closed on.
func TestWithoutIPv6(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	n.six = false
	a := n.attach("one", mode("internet"))
	if a.Addr6.IsValid() || len(a.Resolvers) != 1 {
		t.Errorf("%+v", a)
	}
	n.check(a, map[string]error{"1.1.1.1:443": nil, "[2606:4700::1]:443": unix.ENETUNREACH})
	networktest.In(t, a.Namespace, func() {
		// As root of the machine, which a sandbox is not.
		for _, s := range []setting{{"ipv6/conf/eth0/disable_ipv6", "0", false}, {"ipv6/conf/eth0/addr_gen_mode", "0", false}} {
			if err := s.write(); err != nil {
				t.Error(err)
			}
		}
		link, err := netlink.LinkByName(guestLink)
		if err != nil {
			t.Error(err)
			return
		}
		err = errors.Join(
			netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("2001:db8::5/64")), Flags: unix.IFA_F_NODAD}),
			netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}),
			netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP("2606:4700::1"), HardwareAddr: hardware(0, true)}),
		)
		if err != nil {
			t.Error(err)
		}
	})
	networktest.In(t, a.Namespace, func() { sendOne(t, netip.MustParseAddrPort("[2606:4700::1]:80"), "six") })
	if err := w.SendUDP(a.Namespace, netip.MustParseAddrPort("1.1.1.1:80"), "four"); err != nil || w.Got("six") > 0 {
		t.Errorf("IPv6 leaves, or IPv4 does not: %v", err)
	}
}

// TestOthersTranslation: where somebody's rules send an address on to another, what counts is what the sandbox asked for.
func TestOthersTranslation(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := conn.AddTable(&nftables.Table{Name: "others", Family: nftables.TableFamilyIPv4})
	chain := conn.AddChain(&nftables.Chain{Name: "pre", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	for service, endpoint := range map[string]string{"10.96.0.1": "1.1.1.1", "1.2.3.4": "10.0.0.1"} {
		from, to := netip.MustParseAddr(service).AsSlice(), netip.MustParseAddr(endpoint).AsSlice()
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			nft.Destination(false, nft.Reg1), nft.Equal(from), &expr.Immediate{Register: nft.Reg1, Data: to},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: nft.Reg1},
		}})
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.DelTable(table)
		if err := conn.Flush(); err != nil {
			t.Error(err)
		}
	})
	a := n.attach("one", mode("internet"))
	n.check(a, map[string]error{"10.96.0.1:443": unix.ECONNREFUSED, "1.1.1.1:443": nil, "1.2.3.4:443": nil})
}

// TestConnections: a sandbox has so many connections at a time, of whatever sort, and no less for what another has.
func TestConnections(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w, func(c *Config) { c.Connections = 5 })
	a, b := n.attach("a", mode("internet")), n.attach("b", mode("internet"))
	var held []*networktest.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for i := range 5 {
		c, err := networktest.Connect(a.Namespace, netip.MustParseAddrPort("1.1.1.1:443"))
		if err != nil {
			t.Fatalf("connection %d: %v", i+1, err)
		}
		held = append(held, c)
	}
	n.check(a, map[string]error{"1.1.1.1:443": unix.ECONNREFUSED})
	if err := w.SendUDP(a.Namespace, netip.MustParseAddrPort("1.1.1.1:80"), "one more"); err == nil {
		t.Error("a UDP flow on top")
	}
	if err := held[0].Talk(); err != nil {
		t.Errorf("what was open: %v", err)
	}
	n.check(b, map[string]error{"1.1.1.1:443": nil})
	if denied, err := n.Denied("a"); err != nil || denied[ReasonConnections] < 2 { // Who is slow to be told tries again.
		t.Errorf("denied: %v %v", denied, err)
	}
}

// TestConnectionsTogether: what all sandboxes have together is bounded too, whoever has it, so that the machine's table is never theirs
// alone. A flow is one however many packets it sends without an answer, and whoever ends one makes room.
func TestConnectionsTogether(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w, func(c *Config) { c.Connections, c.AllConnections = 3, 5 })
	a, b, c := n.attach("a", mode("internet")), n.attach("b", mode("internet")), n.attach("c", mode("internet"))
	var held []*networktest.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for _, from := range []*Attachment{a, a, a, b} {
		conn, err := networktest.Connect(from.Namespace, netip.MustParseAddrPort("1.1.1.1:443"))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	var flow net.Conn
	var err error
	networktest.In(t, b.Namespace, func() { flow, err = net.Dial("udp", "1.1.1.1:4000") }) //nolint:noctx // a datagram socket waits for nothing
	if err != nil {
		t.Fatal(err)
	}
	defer flow.Close()
	for range 50 {
		if _, err := flow.Write([]byte("nobody answers")); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	n.check(b, map[string]error{"1.1.1.1:443": unix.ECONNREFUSED})
	n.check(c, map[string]error{"1.1.1.1:443": unix.ECONNREFUSED})
	if err := held[0].Talk(); err != nil {
		t.Errorf("what was open: %v", err)
	}
	for _, id := range []string{"b", "c"} {
		if denied, err := n.Denied(id); err != nil || denied[ReasonTogether] < 1 || denied[ReasonConnections] != 0 {
			t.Errorf("denied to %s: %v %v", id, denied, err)
		}
	}
	held[0].Close()
	held = held[1:]
	n.until(func() bool { return n.reaches(c, "1.1.1.1:443") == nil })
}

// TestInParts: the parts hold as many as they are to, and none is longer than the kernel may walk.
func TestInParts(t *testing.T) {
	for all, want := range map[int][2]uint32{1: {1, 1}, 5: {1, 5}, 1024: {1, 1024}, 1025: {2, 512}, 1 << 16: {64, 1024}, MaxAllConnections: {1024, 1024}} {
		if parts, share := inParts(all); parts != want[0] || share != want[1] || int(parts*share) > all {
			t.Errorf("%d: %d parts of %d", all, parts, share)
		}
	}
}

// TestQuestions: questions to the resolver are bounded like connections, and leave those alone.
func TestQuestions(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w, func(c *Config) {
		c.Connections = 3
		c.Up = func(names Names) (func(), error) {
			w.Listen("", names.Gateways()[0], egress.PortDNS)
			return func() {}, nil
		}
	})
	a := n.attach("one", mode("internet"))
	gw := netip.AddrPortFrom(n.Gateways()[0], egress.PortDNS)
	for i := range 3 {
		if err := w.SendUDP(a.Namespace, gw, fmt.Sprint("question-", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.SendUDP(a.Namespace, gw, "question-4"); err == nil {
		t.Error("a fourth question at a time")
	}
	n.check(a, map[string]error{"1.1.1.1:443": nil})
}

// TestBandwidth: both directions of a link are bounded.
func TestBandwidth(t *testing.T) {
	n := open(t, networktest.New(t), func(c *Config) { c.BytesPerSecond = 1 << 20 })
	a := n.attach("one", mode("internet"))
	n.check(a, map[string]error{"1.1.1.1:443": nil})
	rate := func(name string) uint64 {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Error(err)
			return 0
		}
		all, err := netlink.QdiscList(link)
		if err != nil || len(all) == 0 {
			t.Errorf("%s: %v", name, err)
			return 0
		}
		q, ok := all[0].(*netlink.Tbf)
		if !ok {
			t.Errorf("%s has %T", name, all[0])
			return 0
		}
		return q.Rate
	}
	if got := rate(n.link(0)); got != 1<<20 {
		t.Errorf("to the sandbox: %d", got)
	}
	networktest.In(t, a.Namespace, func() {
		if got := rate(guestLink); got != 1<<20 {
			t.Errorf("from the sandbox: %d", got)
		}
	})
}

// TestTightening: what the owner of the machine closes, and what the machine becomes part of, is closed for connections that live.
func TestTightening(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	a := n.attach("one", mode("internet"))
	talk := func(to string) *networktest.Conn {
		c, err := networktest.Connect(a.Namespace, netip.MustParseAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	stays, becomes, closed := talk("1.1.1.1:443"), talk("[2a02:9999::5]:443"), talk("93.184.215.14:443")
	// The machine gets a network with global addresses, as a VPN brings one.
	link, err := netlink.LinkByName(networktest.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("2a02:9999::/64"))}); err != nil {
		t.Fatal(err)
	}
	n.until(func() bool { return n.reaches(a, "[2a02:9999::5]:443") != nil })
	n.until(func() bool { return becomes.Talk() != nil }) // What lives is closed after what is new.
	if err := errors.Join(stays.Talk(), closed.Talk()); err != nil {
		t.Errorf("what is still allowed: %v", err)
	}
	// A server that dies leaves everything as it is.
	n.kill()
	n.check(a, map[string]error{"1.1.1.1:443": nil, "10.0.0.1:443": unix.ECONNREFUSED})
	if err := errors.Join(stays.Talk(), closed.Talk()); err != nil {
		t.Errorf("without a server: %v", err)
	}
	n.cfg.Denied = []netip.Prefix{netip.MustParsePrefix("93.184.215.0/24")}
	n.restart("one", mode("internet"))
	n.check(a, map[string]error{"1.1.1.1:443": nil, "93.184.215.14:443": unix.ECONNREFUSED})
	if err := closed.Talk(); err == nil {
		t.Error("a connection lives on that the next server's owner closed")
	}
	if err := stays.Talk(); err != nil {
		t.Errorf("what is still allowed, after a restart: %v", err)
	}
}

// TestReuse: who gets the address of another gets nothing else: no connection, no name's address, no count.
func TestReuse(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w, func(c *Config) { c.Range4 = netip.MustParsePrefix("10.200.0.0/29") })
	m := mode("allowlist")
	m.DnsNames = []string{"a.example"}
	first := n.attach("first", m)
	if err := n.Pin(first.Addr4, "a.example", []netip.Addr{netip.MustParseAddr("1.1.1.1")}, MaxPin); err != nil {
		t.Fatal(err)
	}
	n.check(first, map[string]error{"1.1.1.1:443": nil, "10.0.0.1:443": unix.ECONNREFUSED})
	if err := n.Detach("first"); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * n.block.slots() { // Until its address comes round.
		id := fmt.Sprint("next-", i)
		var a *Attachment
		n.until(func() (there bool) { // What is left of the one before goes in the background.
			var err error
			a, err = n.Attach(Request{ID: id, Mode: "m", Egress: m, Org: "o"})
			return err == nil
		})
		if a.Addr4 == first.Addr4 {
			if denied, err := n.Denied(id); err != nil || len(denied) > 0 {
				t.Errorf("denied from the beginning: %v %v", denied, err)
			}
			n.check(a, map[string]error{"1.1.1.1:443": unix.ECONNREFUSED})
			return
		}
		if err := n.Detach(id); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("the address never came again")
}

// TestFull: when there are no addresses left, that is said, and an address that is given back is given again.
func TestFull(t *testing.T) {
	n := open(t, networktest.New(t), func(c *Config) { c.Range4 = netip.MustParsePrefix("10.200.0.0/29") })
	for i := range 5 {
		n.attach(fmt.Sprint("box-", i), mode("internet"))
	}
	if _, err := n.Attach(Request{ID: "more", Egress: mode("internet")}); err == nil || !strings.Contains(err.Error(), "addresses") {
		t.Errorf("a sixth: %v", err)
	}
	if err := n.Detach("box-3"); err != nil {
		t.Fatal(err)
	}
	n.until(func() bool {
		_, err := n.Attach(Request{ID: "more", Egress: mode("internet")})
		return err == nil
	})
}

// TestRanges: a range that the machine has something in is not taken.
func TestRanges(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w, func(c *Config) { c.Range4 = netip.MustParsePrefix("192.168.7.128/25") })
	if _, err := n.Attach(Request{ID: "one", Egress: mode("internet")}); err == nil || !strings.Contains(err.Error(), "192.168.7.0/24") {
		t.Errorf("a range of the machine's own network: %v", err)
	}
	n.checkClean()
	taken := []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16"), netip.MustParsePrefix("198.19.0.0/17")}
	p, err := choose(netip.Prefix{}, DefaultRange4, blockBits4, "berm-x", taken)
	if err != nil || !netip.MustParsePrefix("198.19.128.0/17").Overlaps(p) {
		t.Errorf("%s %v", p, err)
	}
}

// TestTwoServers: two servers on one machine have nothing to do with each other.
func TestTwoServers(t *testing.T) {
	w := networktest.New(t)
	one := open(t, w)
	two := open(t, w, func(c *Config) {
		c.Name, c.Dir = "berm-2222222222", c.Dir+"2"
		c.Range4 = netip.MustParsePrefix("10.77.0.0/24")
	})
	for _, n := range []*testNetwork{one, two} {
		n.cfg.Up = nil
	}
	a, b := one.attach("a", mode("allowlist", "10.0.0.0/8", "1.1.1.1/32", "fd00::/8")), two.attach("b", mode("org"))
	w.Listen(b.Namespace, netip.IPv6Unspecified(), 443)
	// The second server's range lies in what the first one's sandbox may reach; its own rules let nobody in.
	networktest.In(t, a.Namespace, func() { sendOne(t, netip.AddrPortFrom(b.Addr4, 443), "from another server's") })
	if err := w.SendUDP("/proc/thread-self/ns/net", netip.AddrPortFrom(b.Addr4, 443), "from the machine, after it"); err != nil || w.Got("from another server's") > 0 {
		t.Errorf("a sandbox is reached by one of another server, or by nobody: %v", err)
	}
	one.check(a, map[string]error{"1.1.1.1:443": nil, "10.1.2.3:443": nil, netip.AddrPortFrom(b.Addr6, 443).String(): unix.ECONNREFUSED})
	if one.block.Range6 == two.block.Range6 {
		t.Error("both have the same IPv6 range")
	}
	if err := errors.Join(one.Detach("a"), one.Close()); err != nil {
		t.Fatal(err)
	}
	two.check(two.attach("c", mode("internet")), map[string]error{"1.1.1.1:443": nil, "[2606:4700::1]:443": nil, "10.1.2.3:443": unix.ECONNREFUSED})
	one.Network = one.start()
}

// TestGateways: the addresses of the resolver are for the sandboxes of this server: not for the network outside, not for the machine.
func TestGateways(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w, func(c *Config) {
		c.Up = func(names Names) (func(), error) {
			for _, gw := range names.Gateways() {
				w.Listen("", gw, egress.PortDNS)
			}
			return func() {}, nil
		}
	})
	w.Listen("", netip.IPv6Unspecified(), 80)
	a := n.attach("one", mode("org"))
	for _, gw := range n.Gateways() {
		n.check(a, map[string]error{netip.AddrPortFrom(gw, 53).String(): nil, netip.AddrPortFrom(gw, 80).String(): unix.ECONNREFUSED, netip.AddrPortFrom(gw, 853).String(): unix.ECONNREFUSED})
		networktest.In(t, w.Path, func() {
			up, err := netlink.LinkByName(networktest.Uplink)
			if err == nil {
				via := networktest.Machine4
				if gw.Is6() {
					via = networktest.Machine6
				}
				err = netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Dst: ipNet(single(gw)), Gw: via.AsSlice()})
			}
			if err != nil {
				t.Error(err)
			}
		})
		if err := w.SendUDP(w.Path, netip.AddrPortFrom(networktest.Machine4, 80), "to the machine "+gw.String()); err != nil {
			t.Errorf("the machine itself is reached: %v", err)
		}
		networktest.In(t, w.Path, func() { sendOne(t, netip.AddrPortFrom(gw, 53), "from outside "+gw.String()) })
		networktest.In(t, "/proc/thread-self/ns/net", func() { sendOne(t, netip.AddrPortFrom(gw, 53), "from the machine "+gw.String()) })
		if err := w.SendUDP(w.Path, netip.AddrPortFrom(networktest.Machine4, 80), "afterwards "+gw.String()); err != nil {
			t.Error(err)
		}
		if w.Got("from outside "+gw.String())+w.Got("from the machine "+gw.String()) > 0 {
			t.Errorf("%s answers others than sandboxes", gw)
		}
	}
}

// sendOne sends a datagram and does not wait for anything.
func sendOne(t *testing.T, to netip.AddrPort, text string) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err == nil {
		_, err = c.Write([]byte(text))
		_ = c.Close()
	}
	if err != nil && !errors.Is(err, os.ErrPermission) {
		t.Error(err)
	}
}

// TestNoRouter: forwarding for sandboxes makes the machine nobody else's router, until it is one on another account.
func TestNoRouter(t *testing.T) {
	w := networktest.New(t)
	lan := networktest.NewLAN(t, w)
	n := open(t, w)
	arrives := func(text string) bool {
		networktest.In(t, w.Path, func() {
			sendOne(t, netip.AddrPortFrom(lan.Addr4, 80), text)
			sendOne(t, netip.AddrPortFrom(lan.Addr6, 80), text+"6")
		})
		// What goes the other way round, to the machine itself, is not faster.
		if err := w.SendUDP(w.Path, netip.AddrPortFrom(networktest.Machine4, 80), text+" is through"); err != nil {
			t.Fatal(err)
		}
		return w.Got(text)+w.Got(text+"6") > 0
	}
	w.Listen("", netip.IPv6Unspecified(), 80)
	if arrives("before") {
		t.Fatal("the machine was a router before")
	}
	a := n.attach("one", mode("allowlist", "172.20.0.0/16", "fd20::/16", "1.1.1.1/32"))
	n.check(a, map[string]error{"1.1.1.1:443": nil, netip.AddrPortFrom(lan.Addr4, 443).String(): nil, netip.AddrPortFrom(lan.Addr6, 443).String(): nil})
	if arrives("while a sandbox lives") {
		t.Error("the machine forwards for its neighbours")
	}
	// Somebody makes it a router.
	if err := (setting{name: forwardAll4, value: "1"}).write(); err != nil {
		t.Fatal(err)
	}
	if err := n.refresh(); err != nil {
		t.Fatal(err)
	}
	networktest.In(t, w.Path, func() { sendOne(t, netip.AddrPortFrom(lan.Addr4, 80), "as a router") })
	n.until(func() bool { return w.Got("as a router") > 0 })
	if err := errors.Join(n.Detach("one"), n.Close()); err != nil {
		t.Fatal(err)
	}
	if readSetting(forwardAll4) != "1" {
		t.Error("forwarding that somebody else switched on was switched off")
	}
	if err := (setting{name: forwardAll4, value: "0"}).write(); err != nil {
		t.Fatal(err)
	}
	n.Network = n.start()
}

// TestPool: namespaces that were made ahead are used once, and what is left of them goes at the end.
func TestPool(t *testing.T) {
	n := open(t, networktest.New(t), func(c *Config) { c.Pool = 3 })
	if a := n.attach("first", mode("internet")); a.Pooled {
		t.Error("the first was made ahead")
	}
	seen := map[netip.Addr]bool{}
	for i := range 6 {
		n.until(func() bool {
			n.pool.mu.Lock()
			defer n.pool.mu.Unlock()
			return len(n.pool.ready) == 3 && !n.pool.filling
		})
		a := n.attach(fmt.Sprint("box-", i), mode("internet"))
		if !a.Pooled || seen[a.Addr4] {
			t.Errorf("%+v", a)
		}
		seen[a.Addr4] = true
		n.check(a, map[string]error{"1.1.1.1:443": nil, "[2606:4700::1]:443": nil, "10.0.0.1:443": unix.ECONNREFUSED})
		if i%2 == 0 {
			if err := n.Detach(fmt.Sprint("box-", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestStrays: what nobody owns goes when the next server starts: a half-made namespace, a slot of a sandbox that ended meanwhile.
func TestStrays(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w, func(c *Config) { c.Pool = 2 })
	a, gone := n.attach("lives", mode("internet")), n.attach("gone", mode("internet"))
	n.until(func() bool {
		n.pool.mu.Lock()
		defer n.pool.mu.Unlock()
		return len(n.pool.ready) == 2 && !n.pool.filling
	})
	n.kill()
	n.cfg.Pool = -1
	n.restart("lives", mode("internet"))
	n.check(a, map[string]error{"1.1.1.1:443": nil})
	if _, err := os.Stat(gone.Namespace); err == nil {
		t.Error("the namespace of a sandbox that is gone is there")
	}
	if found, err := n.spaces(); err != nil || len(found) != 1 {
		t.Errorf("%v %v", found, err)
	}
	// And all of it, when none lives.
	n.kill()
	n.Network = n.start()
	if lost, err := n.Adopt(nil); err != nil || len(lost) > 0 {
		t.Errorf("%v %v", lost, err)
	}
	n.checkClean()
}

// TestFrames: a stack that is not the kernel's, as gVisor's, sends what frames it likes. Nobody answers one that asks for neighbours, or
// learns from one, and the packet of a forged source goes nowhere whatever hardware address is on it.
func TestFrames(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	a, b := n.attach("a", mode("internet")), n.attach("b", mode("internet"))
	known := n.neighbours()
	own, host := hardware(0, false), hardware(0, true)
	broadcast := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	asks := func(op byte, mac net.HardwareAddr, sender, target netip.Addr) []byte {
		frame := slices.Concat(broadcast, own, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, op}, mac, sender.AsSlice(), make([]byte, 6), target.AsSlice())
		return append(frame, make([]byte, 60-len(frame))...)
	}
	gateway, machine := n.Gateways()[0], networktest.Machine4
	packet := func(mac net.HardwareAddr, source netip.Addr, text string) []byte {
		udp := append([]byte{0, 99, 0, 80, 0, byte(8 + len(text)), 0, 0}, text...)
		h := ipv4.Header{Version: 4, Len: ipv4.HeaderLen, TotalLen: ipv4.HeaderLen + len(udp), TTL: 64, Protocol: unix.IPPROTO_UDP, Src: source.AsSlice(), Dst: []byte{1, 1, 1, 1}}
		head, err := h.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		for i := range head[:10] { // The checksum of a header is the complement of its sum.
			sum := uint32(0)
			if i == 9 {
				for j := 0; j < len(head); j += 2 {
					sum += uint32(head[j])<<8 | uint32(head[j+1])
				}
				for sum > 0xffff {
					sum = sum>>16 + sum&0xffff
				}
				head[10], head[11] = byte(^sum>>8), byte(^sum)
			}
		}
		return slices.Concat(host, mac, []byte{8, 0}, head, udp)
	}
	// A routed link has no use for the hardware address of who sends.
	heard := networktest.SendFrames(t, a.Namespace, guestLink, func() bool { return w.Got("own-address") == 1 },
		asks(1, own, a.Addr4, machine), asks(1, own, a.Addr4, gateway), asks(1, own, a.Addr4, b.Addr4), asks(1, own, netip.MustParseAddr("192.168.7.1"), machine),
		asks(2, own, gateway, gateway), asks(2, own, b.Addr4, b.Addr4), asks(1, own, networktest.World4, networktest.World4),
		packet(own, b.Addr4, "as-another"), packet(hardware(1, false), b.Addr4, "all-as-another"), packet(hardware(1, false), a.Addr4, "own-address"))
	if heard > 0 {
		t.Errorf("%d questions for a neighbour were answered", heard)
	}
	if w.Got("as-another")+w.Got("all-as-another") > 0 {
		t.Error("a packet of another source left")
	}
	if now := n.neighbours(); now != known {
		t.Errorf("the machine learnt: %s, before %s", now, known)
	}
	n.check(a, map[string]error{"1.1.1.1:443": nil})
	n.check(b, map[string]error{"1.1.1.1:443": nil})
}

// neighbours are those of the machine on the links of sandboxes, as text.
func (n *testNetwork) neighbours() string {
	n.t.Helper()
	all, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		n.t.Fatal(err)
	}
	var lines []string
	for _, x := range all {
		link, err := netlink.LinkByIndex(x.LinkIndex)
		if err != nil || x.IP.IsMulticast() {
			continue
		}
		if _, ok := n.slot(link.Attrs().Name); ok {
			lines = append(lines, fmt.Sprint(link.Attrs().Name, " ", x.IP, " ", x.HardwareAddr, " ", x.State))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}
