package network

import (
	"errors"
	"net/netip"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/core/egress"
)

// check compares what a sandbox reaches over TCP: nil where it connects, else the kernel's word for a refusal.
func (n *testNetwork) check(a *Attachment, want map[string]error) {
	n.t.Helper()
	for to, w := range want {
		if err := n.reaches(a, to); !errors.Is(err, w) || (err == nil) != (w == nil) {
			n.t.Errorf("%s: %v, want %v", to, err, w)
		}
	}
}

// TestInternet: everything public and nothing else, over IPv4 and IPv6, and what was refused is counted by why.
func TestInternet(t *testing.T) {
	n := open(t, networktest.New(t))
	a := n.attach("one", mode("internet"))
	n.check(a, map[string]error{
		"1.1.1.1:443": nil, "[2606:4700::1]:443": nil, "1.1.1.1:80": nil, "[64:ff9b::1.1.1.1]:443": nil,
		"10.0.0.1:443": unix.ECONNREFUSED, "172.16.0.1:443": unix.ECONNREFUSED, "192.168.7.1:80": unix.ECONNREFUSED, "100.64.0.1:443": unix.ECONNREFUSED,
		"[fd12::1]:443": unix.ECONNREFUSED, "[2a02:8109:7::1]:80": unix.ECONNREFUSED, "192.168.7.2:10250": unix.ECONNREFUSED, "[2a02:8109:7::2]:80": unix.ECONNREFUSED,
		"8.8.8.8:53": unix.ECONNREFUSED, "1.1.1.1:853": unix.ECONNREFUSED, "[2001:4860:4860::8888]:53": unix.ECONNREFUSED, "198.18.0.1:80": unix.ECONNREFUSED,
	})
	denied, err := n.Denied("one")
	if err != nil || denied["private"] < 5 || denied["machine"] < 2 || denied["on-link"] < 1 || denied["ports"] < 3 || denied["sandboxes"] < 1 {
		t.Errorf("denied: %v %v", denied, err)
	}
	if err := networktest.Ping(a.Namespace, netip.MustParseAddr("1.1.1.1")); err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := networktest.Ping(a.Namespace, netip.MustParseAddr("10.0.0.1")); err == nil {
		t.Error("a private address answers an echo request")
	}
}

// TestMetadata: no spelling of an address of a metadata service leads there, whatever is listed around it.
func TestMetadata(t *testing.T) {
	n := open(t, networktest.New(t))
	boxes := []*Attachment{
		n.attach("internet", mode("internet")), n.attach("everything", mode("allowlist", "0.0.0.0/0", "::/0", "169.254.0.0/16", "fd00::/8", "64:ff9b::/96")),
	}
	for _, a := range boxes {
		for _, to := range []string{
			"169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200", "169.254.170.2", "fd20:ce::254",
			"::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::1",
			"::169.254.169.254", "::ffff:0:169.254.169.254", "64:ff9b::100.100.100.200",
		} {
			if err := n.reaches(a, netip.AddrPortFrom(netip.MustParseAddr(to), 80).String()); err == nil {
				t.Errorf("%s was reached", to)
			}
		}
	}
	// Spellings of numbers are the C library's: what it makes of them is an address, and decided about as such.
	exact := n.attach("exact", mode("allowlist", "169.254.169.254/32"))
	n.check(exact, map[string]error{"169.254.169.254:80": nil, "[64:ff9b::169.254.169.254]:80": unix.ECONNREFUSED, "1.1.1.1:80": unix.ECONNREFUSED})
}

// TestAllowlist: ranges open what they are written for.
func TestAllowlist(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	w.Listen("", netip.IPv6Unspecified(), 80)
	a := n.attach("one", mode("allowlist", "198.51.100.0/24", "2001:db8:1::/48", "10.0.0.0/8"))
	n.check(a, map[string]error{
		"198.51.100.7:443": nil, "[2001:db8:1::7]:443": nil, "10.1.2.3:443": nil,
		"198.51.101.7:443": unix.ECONNREFUSED, "[2001:db8:2::7]:443": unix.ECONNREFUSED, "1.1.1.1:443": unix.ECONNREFUSED, "192.168.7.2:80": unix.ECONNREFUSED,
	})
	own := n.attach("own", mode("allowlist", "192.168.7.2/32", "2a02:8109:7::2/128"))
	n.check(own, map[string]error{"192.168.7.2:80": nil, "[2a02:8109:7::2]:80": nil, "192.168.7.1:80": unix.ECONNREFUSED})
}

// TestNames: what the resolver answered can be reached, by who asked for it; and nothing that is closed.
func TestNames(t *testing.T) {
	n := open(t, networktest.New(t))
	m := mode("allowlist")
	m.DnsNames = []string{"a.example", "*.b.example"}
	a, b := n.attach("a", m), n.attach("b", m)
	n.check(a, map[string]error{"1.1.1.1:443": unix.ECONNREFUSED})
	addrs := []netip.Addr{netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("2606:4700::1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("169.254.169.254")}
	for range 2 { // Again prolongs.
		if err := n.Pin(a.Addr6, "x.b.example", addrs, 0); err != nil {
			t.Fatal(err)
		}
	}
	n.check(a, map[string]error{"1.1.1.1:443": nil, "[2606:4700::1]:443": nil, "10.0.0.1:443": unix.ECONNREFUSED, "169.254.169.254:80": unix.ECONNREFUSED, "1.1.1.1:53": unix.ECONNREFUSED})
	n.check(b, map[string]error{"1.1.1.1:443": unix.ECONNREFUSED})
	if err := n.Pin(a.Addr4, "c.example", addrs, 0); err == nil {
		t.Error("a name that is not listed was pinned")
	}
	if err := n.Pin(netip.MustParseAddr("198.18.1.1"), "a.example", addrs, 0); err == nil {
		t.Error("pinned for nobody")
	}
	var many []netip.Addr
	for i := range MaxPins + 1 {
		many = append(many, add(netip.MustParseAddr("11.0.0.0"), i))
	}
	if err := n.Pin(a.Addr4, "a.example", many, 0); err == nil {
		t.Error("more was pinned than may be")
	}
}

// TestScopes: sandboxes of one user, organization or profile reach each other, and nobody else does.
func TestScopes(t *testing.T) {
	w := networktest.New(t)
	n := open(t, w)
	boxes := map[string]*Attachment{}
	for _, r := range []Request{
		{ID: "user-1", Egress: mode("user"), Org: "o", User: "u", Profile: "p"}, {ID: "user-2", Egress: mode("user"), Org: "o", User: "u", Profile: "q"},
		{ID: "user-3", Egress: mode("user"), Org: "o", User: "v", Profile: "p"}, {ID: "user-4", Egress: mode("user"), Org: "x", User: "u", Profile: "p"},
		{ID: "org-1", Egress: mode("org"), Org: "o", User: "u"}, {ID: "org-2", Egress: mode("org"), Org: "o", User: "v"}, {ID: "org-3", Egress: mode("org"), Org: "x", User: "u"},
		{ID: "profile-1", Egress: mode("profile"), Org: "o", User: "u", Profile: "p"}, {ID: "profile-2", Egress: mode("profile"), Org: "o", User: "v", Profile: "p"},
		{ID: "profile-3", Egress: mode("profile"), Org: "o", User: "u", Profile: "q"}, {ID: "internet", Egress: mode("internet"), Org: "o", User: "u", Profile: "p"},
		{ID: "nobody-1", Egress: mode("user"), Org: "o"}, {ID: "nobody-2", Egress: mode("user"), Org: "o"},
	} {
		r.Mode = "m"
		a, err := n.Attach(r)
		if err != nil {
			t.Fatal(err)
		}
		boxes[r.ID] = a
		w.Listen(a.Namespace, netip.IPv6Unspecified(), 443)
	}
	reach := map[[2]string]bool{
		{"user-1", "user-2"}: true, {"user-2", "user-1"}: true, {"org-1", "org-2"}: true, {"org-2", "org-1"}: true,
		{"profile-1", "profile-2"}: true, {"profile-2", "profile-1"}: true,
	}
	for from, a := range boxes {
		for to, b := range boxes {
			for _, addr := range []netip.Addr{b.Addr4, b.Addr6} {
				if from == to {
					continue // It does not leave the sandbox.
				}
				err := n.reaches(a, netip.AddrPortFrom(addr, 443).String())
				if want := reach[[2]string{from, to}]; (err == nil) != want {
					t.Errorf("%s to %s at %s: %v, want %v", from, to, addr, err, want)
				}
			}
		}
	}
	n.check(boxes["org-1"], map[string]error{"1.1.1.1:443": unix.ECONNREFUSED})
	if g, ok := n.Peer(boxes["org-1"].Addr4, "org-2"); !ok || g.Addr4 != boxes["org-2"].Addr4 {
		t.Errorf("the peer of org-1: %+v %v", g, ok)
	}
	if g, ok := n.Peer(boxes["org-1"].Addr4, "user-1"); ok {
		t.Errorf("a peer of another scope: %+v", g)
	}
	// A member that goes takes its connections with it.
	c, err := networktest.Connect(boxes["org-1"].Namespace, netip.AddrPortFrom(boxes["org-2"].Addr4, 443))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := n.Detach("org-2"); err != nil {
		t.Fatal(err)
	}
	n.check(boxes["org-1"], map[string]error{netip.AddrPortFrom(boxes["org-2"].Addr4, 443).String(): unix.ECONNREFUSED})
	if err := c.Talk(); err == nil {
		t.Error("a connection to a sandbox lives on that is gone")
	}
}

// TestLimits: what makes no sense is refused, before anything is made.
func TestLimits(t *testing.T) {
	for _, c := range []Config{
		{Connections: -1}, {Connections: MaxConnections + 1}, {Pool: MaxPool + 1}, {ConnectionsPerSecond: -1}, {ConnectionsPerSecond: MaxConnectionsPerSecond + 1},
		{ConnectionBurst: MaxConnections + 1}, {BytesPerSecond: 1}, {Denied: []netip.Prefix{{}}},
		{Range4: netip.MustParsePrefix("10.0.0.0/30")}, {Range4: netip.MustParsePrefix("fd00::/64")}, {Range6: netip.MustParsePrefix("10.0.0.0/24")},
		{Denied: make([]netip.Prefix, MaxDenied+1)}, {NAT64: []netip.Prefix{netip.MustParsePrefix("2001:db8::/33")}}, {NAT64: make([]netip.Prefix, egress.MaxNAT64+1)},
	} {
		if _, err := Open(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// TestAddresses: the arithmetic of ranges.
func TestAddresses(t *testing.T) {
	b := block{Range4: netip.MustParsePrefix("10.0.240.0/20"), Range6: netip.MustParsePrefix("fd00:1::/64")}
	for slot, want := range map[int][2]string{0: {"10.0.240.2", "fd00:1::2"}, 253: {"10.0.240.255", "fd00:1::ff"}, 254: {"10.0.241.0", "fd00:1::100"}, 3999: {"10.0.255.161", "fd00:1::fa1"}} {
		if b.addr4(slot).String() != want[0] || b.addr6(slot).String() != want[1] {
			t.Errorf("slot %d: %s %s, want %v", slot, b.addr4(slot), b.addr6(slot), want)
		}
	}
	if small := (block{Range4: netip.MustParsePrefix("10.0.0.0/29")}); small.slots() != 5 {
		t.Errorf("a /29 has %d", small.slots())
	}
	seen := map[netip.Prefix]bool{}
	all := netip.MustParsePrefix(DefaultRange4)
	for i := range 32 {
		p := nth(all, blockBits4, i)
		if seen[p] || !all.Contains(p.Addr()) || p != p.Masked() {
			t.Errorf("block %d: %s", i, p)
		}
		seen[p] = true
	}
	n := newNames("berm-x", "/run/x")
	if slot, ok := n.slot(n.link(3999)); !ok || slot != 3999 || len(n.link(3999)) > unix.IFNAMSIZ-1 || !n.own(n.anchor()) {
		t.Errorf("%s: %s %d", n.link(3999), strconv.Itoa(slot), len(n.link(3999)))
	}
}
