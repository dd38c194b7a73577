package resolver

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/egress"
)

const notListed = "NXDOMAIN (the allowlist does not list the name)"

// TestListed: only names that are listed are looked up, whatever they look like, and what is answered becomes reachable.
func TestListed(t *testing.T) {
	w := newWorld(t)
	w.names.has(t, "allowed.example. 60 A 8.8.4.4", "a.wild.example. 60 A 1.1.1.1", "a.wild.example. 60 AAAA 2606:4700::1", "wild.example. 60 A 9.9.9.9",
		"evil-allowed.example. 60 A 6.6.6.6", "allowed.example.evil. 60 A 6.6.6.6", "_x.wild.example. 60 A 1.1.1.2", "xn--allwed-wxa.example. 60 A 6.6.6.6",
		"xwild.example. 60 A 6.6.6.6", "sub.allowed.example. 60 A 6.6.6.6")
	b := w.sandbox(listed("allowed.example", "*.wild.example"))
	for _, c := range []struct{ name, want, pinned string }{
		{"allowed.example", "NOERROR 8.8.4.4", "allowed.example 8.8.4.4"},
		{"ALLOWED.Example.", "NOERROR 8.8.4.4", "allowed.example 8.8.4.4"},
		{"a.wild.example", "NOERROR 1.1.1.1", "a.wild.example 1.1.1.1"},
		{"_x.wild.example", "NOERROR 1.1.1.2", "_x.wild.example 1.1.1.2"},
		{"missing.wild.example", "NXDOMAIN", ""},
		{"wild.example", notListed, ""}, {"xwild.example", notListed, ""}, {"sub.allowed.example", notListed, ""},
		{"evil-allowed.example", notListed, ""}, {"allowed.example.evil", notListed, ""}, {"xn--allwed-wxa.example", notListed, ""},
		{"_allowed.example", notListed, ""}, {"allowed.example.allowed.example.evil", notListed, ""}, {"localhost", notListed, ""},
		{`allowed\.example`, "NXDOMAIN (what is asked for is no name of a host)", ""}, {`allowed.example\000.evil`, "NXDOMAIN (what is asked for is no name of a host)", ""},
		{".", "NXDOMAIN (what is asked for is no name of a host)", ""},
	} {
		equal(t, c.name, b.a(c.name), c.want)
		var want []string
		if c.pinned != "" {
			want = []string{c.pinned}
		}
		equal(t, c.name+" pinned", b.pinned(), want)
	}
	equal(t, "IPv6", b.ask("a.wild.example", dns.TypeAAAA), "NOERROR 2606:4700::1")
	equal(t, "IPv6 pinned", b.pinned(), []string{"a.wild.example 2606:4700::1"})
	for _, q := range w.names.questions() {
		if !strings.Contains(q, " allowed.example.") && !strings.Contains(q, ".wild.example.") {
			t.Errorf("asked outside: %s", q)
		}
	}
	s := b.Stats(b.id())
	if s.Denied != 12 || s.Denials[0].Name != noName || s.Denials[0].Count != 3 || s.Denials[1].Name != "localhost" {
		t.Errorf("counted: %+v", s)
	}
}

// TestNone: who has no network is not answered at all.
func TestNone(t *testing.T) {
	w := newWorld(t)
	b := w.sandbox(&specpb.EgressMode{Type: "none"})
	stranger := &box{world: w, addr: netip.MustParseAddr("127.0.9.9")}
	for _, who := range []*box{b, stranger} {
		conn := who.dial("udp")
		m := new(dns.Msg).SetQuestion("x.example.", dns.TypeA)
		data, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(data); err != nil {
			t.Fatal(err)
		}
		if _, err := who.trySend("tcp", m); err == nil {
			t.Error("answered over TCP")
		}
		// The socket reads in order: once a later question of somebody else was answered, this one was dropped.
		equal(t, "another", w.sandbox(internet()).a("missing.example"), "NXDOMAIN")
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		if n, err := conn.Read(make([]byte, 512)); err == nil {
			t.Errorf("answered with %d bytes", n)
		}
	}
	equal(t, "asked outside", len(w.names.questions()), 1)
}

// TestClosedAddresses: what must not be reached is not answered, whatever the name and however it is spelled.
func TestClosedAddresses(t *testing.T) {
	closed := []string{
		"A 127.0.0.1", "A 10.0.0.1", "A 172.16.0.1", "A 192.168.1.1", "A 169.254.169.254", "A 100.100.100.200", "A 168.63.129.16", "A 100.64.0.1",
		"A 0.0.0.0", "A 224.0.0.1", "A 255.255.255.255", "A 203.0.114.10", "A 203.0.114.11", "A 198.18.0.5",
		"AAAA ::1", "AAAA ::", "AAAA fd00::1", "AAAA fe80::1", "AAAA fd00:ec2::254", "AAAA ::ffff:169.254.169.254", "AAAA ::ffff:1.1.1.1", "AAAA ::a9fe:a9fe",
		"AAAA 64:ff9b::a9fe:a9fe", "AAAA 64:ff9b:1::a9fe:a9fe", "AAAA 2002:a9fe:a9fe::1", "AAAA 2001:0:a9fe:a9fe::1", "AAAA ff02::1", "AAAA 2a02:8109:1::7", "AAAA fd62:6572:6d00::5",
	}
	w := newWorld(t)
	boxes := map[string]*box{"listed": w.sandbox(listed("*.evil.example")), "internet": w.sandbox(internet()), "ranged": w.sandbox(ranged("0.0.0.0/0", "::/0"))}
	for i, record := range closed {
		name := fmt.Sprintf("n%d.evil.example", i)
		w.names.has(t, name+". 60 "+record)
		typ := dns.StringToType[strings.Fields(record)[0]]
		for what, b := range boxes {
			equal(t, what+" "+record, b.ask(name, typ), "NOERROR (the name has only addresses that may not be reached)")
			if s := b.Stats(b.id()); s.Filtered != int64(i+1) || s.Denials[0].Name != name {
				t.Errorf("counted: %+v", s)
			}
		}
	}
	equal(t, "pinned", len(w.pinned()), 0)
	// The others of an answer are told, and only they are reachable.
	w.names.has(t, "mixed.evil.example. 60 A 10.0.0.1", "mixed.evil.example. 60 A 1.1.1.1", "mixed.evil.example. 60 A 169.254.169.254")
	for what, b := range boxes {
		equal(t, what, b.a("mixed.evil.example"), "NOERROR 1.1.1.1")
	}
	equal(t, "pinned", w.pinned(), []string{"mixed.evil.example 1.1.1.1"})
}

// TestRebinding: each lookup is judged anew, cached or not.
func TestRebinding(t *testing.T) {
	w := newWorld(t)
	b := w.sandbox(listed("x.example"))
	w.names.has(t, "x.example. 0 A 1.1.1.1")
	equal(t, "first", b.a("x.example"), "NOERROR 1.1.1.1")
	w.names.forget("x.example")
	w.names.has(t, "x.example. 0 A 169.254.169.254")
	equal(t, "then", b.a("x.example"), "NOERROR (the name has only addresses that may not be reached)")
	equal(t, "pinned", b.pinned(), []string{"x.example 1.1.1.1"})

	w.names.forget("x.example")
	w.names.has(t, "x.example. 300 A 1.1.1.2")
	equal(t, "kept", b.a("x.example"), "NOERROR 1.1.1.2")
	p, err := egress.Compile("m", listed("y.example"), site())
	if err != nil {
		t.Fatal(err)
	}
	w.locked(func() { w.policies[b.addr] = p })
	w.names.questions()
	equal(t, "after the policy changed", b.a("x.example"), notListed)
	equal(t, "asked outside", len(w.names.questions()), 0)
}

// TestPin: what is answered is reachable before it is answered, as long as the answer holds; what cannot be is not answered.
func TestPin(t *testing.T) {
	w := newWorld(t)
	b := w.sandbox(&specpb.EgressMode{Type: "allowlist", DnsNames: []string{"x.example"}, Cidrs: []string{"10.0.0.0/8"}})
	w.names.has(t, "x.example. 100 A 1.1.1.1", "x.example. 40 A 10.0.0.7", "x.example. 100 A 1.1.1.1")
	m := b.send("udp", new(dns.Msg).SetQuestion("X.example.", dns.TypeA))
	if len(m.Answer) < 2 || m.Answer[0].Header().Ttl != 40 || m.Answer[0].Header().Name != "X.example." {
		t.Errorf("answered %v", m.Answer)
	}
	w.clock.advance(15 * time.Second)
	if m = b.send("udp", new(dns.Msg).SetQuestion("x.example.", dns.TypeA)); m.Answer[0].Header().Ttl != 25 {
		t.Errorf("answered %v from the cache", m.Answer)
	}
	want := []pin{
		{b.id(), "x.example", []netip.Addr{netip.MustParseAddr("1.1.1.1")}, 40*time.Second + PinSlack}, // The other is reachable by its range.
		{b.id(), "x.example", []netip.Addr{netip.MustParseAddr("1.1.1.1")}, 25*time.Second + PinSlack},
	}
	w.locked(func() {
		equal(t, "pinned", fmt.Sprint(w.pins), fmt.Sprint(want))
		w.refuse = errors.New("full")
	})
	equal(t, "refused", b.a("x.example"), "SERVFAIL (the addresses could not be made reachable)")
	w.locked(func() { w.refuse = nil })
	w.names.has(t, "long.example. 86400 A 1.1.1.3")
	b2 := w.sandbox(listed("long.example"))
	if m := b2.send("udp", new(dns.Msg).SetQuestion("long.example.", dns.TypeA)); m.Answer[0].Header().Ttl != uint32(MaxTTL/time.Second) {
		t.Errorf("answered %v", m.Answer)
	}
}

// TestAliases: a chain is judged by the name that was asked for, and answered under it.
func TestAliases(t *testing.T) {
	w := newWorld(t)
	w.names.has(t, "www.example. 60 CNAME edge.cdn.test.", "edge.cdn.test. 20 A 1.1.1.1", "inner.example. 60 CNAME vault.corp.internal.", "vault.corp.internal. 60 A 1.1.1.9",
		"inner.example. 60 TXT secret", "rev.example. 60 CNAME 1.0.0.10.in-addr.arpa.", "1.0.0.10.in-addr.arpa. 60 A 1.1.1.8", "loop.example. 60 CNAME loop2.example.", "loop2.example. 60 CNAME loop.example.")
	b := w.sandbox(listed("www.example", "inner.example", "loop.example"))
	equal(t, "by name", b.a("www.example"), "NOERROR 1.1.1.1")
	equal(t, "pinned", b.pinned(), []string{"www.example 1.1.1.1"})
	equal(t, "the alias itself", b.a("edge.cdn.test"), notListed)
	equal(t, "listed inner", b.a("inner.example"), "NOERROR 1.1.1.9")
	equal(t, "loop", b.a("loop.example"), "SERVFAIL (no name server gave an answer)")
	open := w.sandbox(internet())
	const alias = "NXDOMAIN (the name is an alias of one that may not be looked up)"
	equal(t, "inner", open.a("inner.example"), alias)
	equal(t, "special", open.a("www.example"), alias)
	equal(t, "reverse", open.a("rev.example"), alias)
}

// TestOtherTypes: what else is looked up, and where.
func TestOtherTypes(t *testing.T) {
	w := newWorld(t)
	w.names.has(t, "x.example. 60 TXT hello", "x.example. 60 MX 10 mail.example.", "x.example. 60 A 1.1.1.1", "_s._tcp.x.example. 60 SRV 1 1 80 x.example.",
		"x.example. 60 HTTPS 1 . ipv4hint=169.254.169.254", "al.example. 60 CNAME x.example.", "1.1.1.1.in-addr.arpa. 60 PTR one.example.", "1.0.0.10.in-addr.arpa. 60 PTR vault.corp.internal.")
	open, names, ranges := w.sandbox(internet()), w.sandbox(listed("x.example", "*.x.example")), w.sandbox(ranged("1.0.0.0/8"))
	const only, not = "NOERROR (only addresses are answered)", "NOTIMP (records of this type are not looked up)"
	for _, c := range []struct {
		b    *box
		name string
		typ  uint16
		want string
	}{
		{open, "x.example", dns.TypeTXT, `NOERROR "hello"`}, {names, "x.example", dns.TypeTXT, `NOERROR "hello"`}, {ranges, "x.example", dns.TypeTXT, only},
		{open, "x.example", dns.TypeMX, "NOERROR 10 mail.example."}, {names, "_s._tcp.x.example", dns.TypeSRV, "NOERROR 1 1 80 x.example."}, {ranges, "x.example", dns.TypeMX, only},
		{open, "x.example", dns.TypeHTTPS, only}, {names, "x.example", dns.TypeHTTPS, only}, {open, "x.example", dns.TypeNULL, not}, {open, "x.example", dns.TypeANY, not},
		{open, "x.example", dns.TypeAXFR, not}, {ranges, "x.example", 65280, not}, {open, "al.example", dns.TypeCNAME, "NOERROR x.example."},
		{open, "1.1.1.1.in-addr.arpa", dns.TypePTR, "NOERROR one.example."}, {ranges, "1.1.1.1.in-addr.arpa", dns.TypePTR, only},
		{open, "1.0.0.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN (the address that the name is of may not be reached)"},
		{open, "10.in-addr.arpa", dns.TypeNS, "NXDOMAIN (the address that the name is of may not be reached)"},
		{open, "x.1.1.1.in-addr.arpa", dns.TypePTR, "NXDOMAIN (the address that the name is of may not be reached)"},
		{open, strings.Repeat("0.", 30) + "d.f.ip6.arpa", dns.TypePTR, "NXDOMAIN (the address that the name is of may not be reached)"},
	} {
		equal(t, fmt.Sprint(c.b.policies[c.b.addr].Type, c.name, dns.TypeToString[c.typ]), c.b.ask(c.name, c.typ), c.want)
	}
}

// TestRanged: with ranges alone any name is answered, with addresses in them.
func TestRanged(t *testing.T) {
	w := newWorld(t)
	w.names.has(t, "in.example. 60 A 1.1.1.1", "out.example. 60 A 8.8.8.8", "both.example. 60 A 8.8.8.8", "both.example. 60 A 1.2.3.4", "vault.internal. 60 A 1.1.1.1")
	b := w.sandbox(ranged("1.0.0.0/8"))
	equal(t, "in", b.a("in.example"), "NOERROR 1.1.1.1")
	equal(t, "out", b.a("out.example"), "NOERROR (the name has only addresses that may not be reached)")
	equal(t, "both", b.a("both.example"), "NOERROR 1.2.3.4")
	equal(t, "nearby", b.a("vault.internal"), "NXDOMAIN (the name means something else on every network)")
	equal(t, "pinned", len(b.pinned()), 0)
	w.names.questions()
	long := strings.Repeat("a.", egress.MaxOpenName/2) + "example"
	equal(t, "long", b.a(long), "NXDOMAIN (the name is longer than those that are looked up without a list of names)")
	equal(t, "asked outside", len(w.names.questions()), 0)
}

// TestMembers: sandboxes of the scope have names, others do not, and nothing is asked outside.
func TestMembers(t *testing.T) {
	w := newWorld(t)
	w.names.has(t, "x.example. 60 A 1.1.1.1")
	w.members["sb-1"] = []netip.Addr{netip.MustParseAddr("198.18.0.7"), netip.MustParseAddr("fd62:6572:6d00::7")}
	for _, typ := range []string{"user", "org", "profile"} {
		b := w.sandbox(&specpb.EgressMode{Type: typ})
		for name, want := range map[string]string{
			"sb-1": "NOERROR 198.18.0.7", "sb-1.berm.internal": "NOERROR 198.18.0.7", "SB-1.Berm.Internal": "NOERROR 198.18.0.7",
			"sb-2": "NXDOMAIN (only names of sandboxes of the same " + scopeName(typ) + " are answered)", "x.example": "NXDOMAIN (only names of sandboxes of the same " + scopeName(typ) + " are answered)",
			"a.sb-1.berm.internal": "NXDOMAIN (only names of sandboxes of the same " + scopeName(typ) + " are answered)",
		} {
			equal(t, typ+" "+name, b.a(name), want)
		}
		equal(t, "IPv6", b.ask("sb-1", dns.TypeAAAA), "NOERROR fd62:6572:6d00::7")
		equal(t, "other", b.ask("sb-1", dns.TypeTXT), "NOERROR")
	}
	equal(t, "asked outside", len(w.names.questions()), 0)
	equal(t, "pinned", len(w.pinned()), 0)
}

func scopeName(typ string) string {
	if typ == "org" {
		return "organization"
	}
	return typ
}
