package resolver

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/bermhq/berm/internal/core/fault"
)

const noServer = "SERVFAIL (no name server gave an answer)"

// nobody returns an address that nobody answers at: a socket that is open and never read.
func nobody(t *testing.T) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// closed returns an address where nothing is.
func closed(t *testing.T) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestServersFail: a server that says nothing of a name is no answer, and the next one is asked.
func TestServersFail(t *testing.T) {
	w := newWorld(t)
	w.names.has(t, "x.example. 60 A 1.1.1.1")
	b := w.sandbox(internet())
	for _, rcode := range []int{dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotAuth} {
		w.names.handle(func(_ string, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, rcode) })
		equal(t, dns.RcodeToString[rcode], b.a("x.example"), noServer)
		if n := len(w.names.questions()); n != rounds {
			t.Errorf("asked %d times", n)
		}
		equal(t, "at once again", b.a("x.example"), noServer)
		equal(t, "asked at once again", len(w.names.questions()), 0)
		w.clock.advance(FailureTTL)
	}
	w.names.handle(nil)
	equal(t, "back", b.a("x.example"), "NOERROR 1.1.1.1")
	if s := b.Stats(b.id()); s.Failed != 6 || s.Answered != 1 {
		t.Errorf("counted: %+v", s)
	}

	for what, first := range map[string]netip.AddrPort{"silent": nobody(t), "closed": closed(t)} {
		w := newWorld(t, func(c *Config) { c.Servers = append([]netip.AddrPort{first}, c.Servers...) })
		w.names.has(t, "x.example. 60 A 1.1.1.1")
		equal(t, what, w.sandbox(internet()).a("x.example"), "NOERROR 1.1.1.1")
	}
	down := newWorld(t, func(c *Config) { c.Servers = []netip.AddrPort{closed(t)} })
	equal(t, "down", down.sandbox(internet()).a("x.example"), noServer)
	none := newWorld(t, func(c *Config) { c.Servers, c.ResolvConf = nil, filepath.Join(t.TempDir(), "missing") })
	equal(t, "none", none.sandbox(internet()).a("x.example"), noServer)
}

// TestTruncated: what does not fit into a datagram is asked for over TCP.
func TestTruncated(t *testing.T) {
	w := newWorld(t)
	w.names.has(t, "x.example. 60 A 1.1.1.1")
	w.names.handle(func(network string, q *dns.Msg) *dns.Msg {
		m := w.names.answer(network, q)
		if network == "udp" {
			m.Truncated, m.Answer = true, nil
		}
		return m
	})
	b := w.sandbox(internet())
	equal(t, "over TCP", b.a("x.example"), "NOERROR 1.1.1.1")
	equal(t, "asked", w.names.questions(), []string{"udp x.example. A", "tcp x.example. A"})
	w.names.handle(func(_ string, q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Truncated = true
		return m
	})
	equal(t, "never whole", b.a("y.example"), noServer)
	w.names.handle(func(network string, q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Truncated = network == "udp"
		for range MaxAnswerBytes / 200 {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: 1}, Txt: []string{strings.Repeat("x", 250)}})
		}
		if network == "udp" {
			m.Answer = nil
		}
		return m
	})
	equal(t, "too long", b.ask("z.example", dns.TypeTXT), noServer)
}

// TestOldServer: a server that knows no extensions is asked without.
func TestOldServer(t *testing.T) {
	w := newWorld(t)
	w.names.has(t, "x.example. 60 A 1.1.1.1")
	w.names.handle(func(n string, q *dns.Msg) *dns.Msg {
		if q.IsEdns0() != nil {
			m := new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
			m.Question = nil
			return m
		}
		return w.names.answer(n, q)
	})
	equal(t, "old", w.sandbox(internet()).a("x.example"), "NOERROR 1.1.1.1")
}

// TestStrays: datagrams that are no answer to the question are read past: from a server that guesses, another name, another type,
// an answer that is a question, nonsense.
func TestStrays(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ids, done := map[uint16]bool{}, make(chan struct{})
	ports := map[string]bool{}
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			ports[from.String()] = true
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			ids[q.Id] = true
			for i := range 6 {
				m := new(dns.Msg).SetReply(q)
				addr := net.IPv4(6, 6, 6, 6)
				switch i {
				case 0:
					m.Id++
				case 1:
					m.Question[0].Name = "other.example."
				case 2:
					m.Question[0].Qtype = dns.TypeAAAA
				case 3:
					m.Response = false
				case 4:
					_, _ = pc.WriteTo([]byte{byte(q.Id >> 8), byte(q.Id), 0x80, 0, 0, 9}, from)
					continue
				case 5:
					addr = net.IPv4(1, 1, 1, 1)
				}
				m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: 1, Ttl: 0}, A: addr}}
				data, err := m.Pack()
				if err == nil {
					_, _ = pc.WriteTo(data, from)
				}
			}
		}
	}()
	w := newWorld(t, func(c *Config) { c.Servers = []netip.AddrPort{pc.LocalAddr().(*net.UDPAddr).AddrPort()} })
	b := w.sandbox(internet())
	for i := range 8 {
		equal(t, "answer", b.a(fmt.Sprintf("x%d.example", i)), "NOERROR 1.1.1.1")
	}
	_ = pc.Close()
	<-done
	if len(ids) < 7 || len(ports) < 7 {
		t.Errorf("%d numbers and %d ports for 8 questions", len(ids), len(ports))
	}
}

// TestUnasked: of an answer only what is about the question is believed.
func TestUnasked(t *testing.T) {
	w := newWorld(t)
	w.names.handle(func(_ string, q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		for _, text := range []string{
			"x.example. 60 A 1.1.1.1", "bank.example. 60 A 6.6.6.6", "x.example. 60 AAAA 2606:4700::1", "other.example. 60 CNAME x.example.",
		} {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Error(err)
				continue
			}
			m.Answer, m.Ns, m.Extra = append(m.Answer, rr), append(m.Ns, rr), append(m.Extra, rr)
		}
		chaos := &dns.A{Hdr: dns.RR_Header{Name: "x.example.", Rrtype: dns.TypeA, Class: dns.ClassCHAOS}, A: net.IPv4(6, 6, 6, 6)}
		m.Answer = append(m.Answer, chaos)
		return m
	})
	b := w.sandbox(listed("x.example", "bank.example"))
	r := b.send("udp", new(dns.Msg).SetQuestion("x.example.", dns.TypeA))
	if words(r) != "NOERROR 1.1.1.1" || len(r.Ns) != 0 || len(r.Extra) != 0 {
		t.Errorf("answered %v", r)
	}
	w.names.handle(nil)
	equal(t, "not poisoned", b.a("bank.example"), "NXDOMAIN")
}

// TestNoneTTL: that there is nothing holds as long as the authority says, within bounds.
func TestNoneTTL(t *testing.T) {
	soa := func(owner string, ttl, minimum uint32) []dns.RR {
		return []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeSOA, Class: 1, Ttl: ttl}, Minttl: minimum}}
	}
	for _, c := range []struct {
		authority []dns.RR
		want      time.Duration
	}{
		{nil, NoneTTL}, {soa("example.", 20, 100), 20 * time.Second}, {soa("example.", 100, 5), 5 * time.Second}, {soa("example.", 9000, 9000), MaxNoneTTL},
		{soa("other.", 1, 1), NoneTTL}, {soa("example.", 1<<31, 5), 0},
	} {
		f, err := believe(&dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeNameError}, Ns: c.authority}, question{"x.example", dns.TypeA})
		if err != nil || f.ttl != c.want {
			t.Errorf("%v: %+v %v", c.authority, f, err)
		}
	}
}

// TestServersOfTheMachine: the file that names the servers is read again when it changed, and what it cannot say changes nothing.
func TestServersOfTheMachine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	s := &servers{path: path, log: newTestLog(t)}
	look := func() string {
		s.looked = time.Time{}
		return fmt.Sprint(s.list())
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "no file", look(), "[]")
	write("# comment\nsearch example.org\nnameserver 192.0.2.1\nnameserver nonsense\nnameserver fe80::1%eth0\noptions ndots:5\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n")
	equal(t, "first", look(), "[192.0.2.1:53 [fe80::1%eth0]:53 192.0.2.3:53]")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	equal(t, "gone for a moment", look(), "[192.0.2.1:53 [fe80::1%eth0]:53 192.0.2.3:53]")
	write("nameserver 192.0.2.9\n")
	equal(t, "changed", look(), "[192.0.2.9:53]")
	write("nameserver 192.0.2.8\n")
	if got := fmt.Sprint(s.list()); got != "[192.0.2.9:53]" {
		t.Errorf("looked at again at once: %s", got)
	}
}

// TestNewRefuses: servers that cannot be asked.
func TestNewRefuses(t *testing.T) {
	ap := netip.MustParseAddrPort
	for _, bad := range [][]netip.AddrPort{
		{{}}, {ap("192.0.2.1:0")}, {ap("0.0.0.0:53")}, {ap("224.0.0.1:53")}, {ap("192.0.2.1:53"), ap("192.0.2.2:53"), ap("192.0.2.3:53"), ap("192.0.2.4:53")},
	} {
		if _, err := New(Config{Servers: bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// TestClose: nothing is left, whatever was under way, and nothing is served any more.
func TestClose(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Servers = []netip.AddrPort{nobody(t)} })
	b := w.sandbox(internet())
	idle := b.dial("tcp")
	conn := &dns.Conn{Conn: b.dial("udp")}
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion("x.example.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	for len(w.Resolver.questions) == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("a connection is left")
	}
	if _, err := w.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("listens again: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
