package resolver

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/egress"
)

func newTestLog(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// still is a resolver without sockets: what it finds is what an upstream said.
func still(t testing.TB, mode *specpb.EgressMode, says func(question) (*found, error)) (*Resolver, asker, *guests) {
	t.Helper()
	p, err := egress.Compile("m", mode, site())
	if err != nil {
		t.Fatal(err)
	}
	from := netip.MustParseAddr("198.18.0.9")
	g := &guests{policies: map[netip.Addr]*egress.Policy{from: p}, members: map[string][]netip.Addr{}}
	r, err := New(Config{Network: g, Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	r.cache = newCache(func(_ context.Context, q question) (*found, error) { return says(q) }, time.Now)
	a, ok := r.asker(from)
	if !ok {
		t.Fatal("no sandbox")
	}
	return r, a, g
}

// FuzzQuestion: whatever a sandbox sends, what comes back is an answer to it and can be parsed, and nobody is asked for a name that
// is not listed.
func FuzzQuestion(f *testing.F) {
	for _, name := range []string{"x.example.", "a.wild.example.", "evil.example.", ".", `a\.b.example.`, "1.0.0.10.in-addr.arpa."} {
		for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypePTR, dns.TypeANY, dns.TypeHTTPS} {
			m := new(dns.Msg).SetQuestion(name, typ)
			m.SetEdns0(4096, true)
			data, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, a, _ := still(t, listed("x.example", "*.wild.example"), func(q question) (*found, error) {
			if q.name != "x.example" && !strings.HasSuffix(q.name, ".wild.example") {
				t.Errorf("asked for %q", q.name)
			}
			f := &found{ttl: time.Second}
			if q.typ == dns.TypeA {
				f.records = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "x.", Rrtype: q.typ, Class: 1}, A: []byte{1, 1, 1, 1}}}
			}
			return f, nil
		})
		q, m := r.answer(a, data)
		if m == nil {
			if len(data) >= headerBytes && data[2]&0x80 == 0 {
				t.Fatalf("no answer")
			}
			return
		}
		if q != nil {
			m.Truncate(q.size)
		}
		out, err := m.Pack()
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		back := new(dns.Msg)
		if err := back.Unpack(out); err != nil || !back.Response || out[0] != data[0] || out[1] != data[1] {
			t.Fatalf("%v: %v", back, err)
		}
	})
}

// FuzzAnswer: whatever an upstream says, nothing closed comes out of it, and nothing that is not pinned under the name asked for.
func FuzzAnswer(f *testing.F) {
	q := new(dns.Msg).SetQuestion("x.example.", dns.TypeA)
	q.Id = 1
	for _, records := range []string{"x.example. 60 A 1.1.1.1", "x.example. 60 A 10.0.0.1", "x.example. 60 CNAME y.example.\ny.example. 0 A 169.254.169.254", "x.example. 60 CNAME x.example."} {
		m := new(dns.Msg).SetReply(q)
		for text := range strings.SplitSeq(records, "\n") {
			rr, err := dns.NewRR(text)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		data, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, dns.TypeA)
	}
	question6 := new(dns.Msg).SetQuestion("x.example.", dns.TypeAAAA)
	f.Add([]byte{0, 1, 0x80, 0}, question6.Question[0].Qtype)
	f.Fuzz(func(t *testing.T, data []byte, typ uint16) {
		r, a, g := still(t, listed("x.example"), func(asked question) (*found, error) {
			sent := new(dns.Msg).SetQuestion(dns.Fqdn(asked.name), asked.typ)
			sent.Id = 1
			m, err := matching(sent, data)
			if err != nil {
				return nil, err
			}
			return believe(m, asked)
		})
		ask, err := new(dns.Msg).SetQuestion("x.example.", typ).Pack()
		if err != nil {
			t.Skip()
		}
		_, m := r.answer(a, ask)
		if m == nil {
			t.Fatal("no answer")
		}
		pinned := g.pinned()
		for _, rr := range m.Answer {
			if rr.Header().Name != "x.example." {
				t.Fatalf("answered %v", rr)
			}
			if addr, is := address(rr); is && (!a.policy.Answers(addr, true) || len(pinned) != 1 || !strings.Contains(pinned[0]+" ", " "+addr.String()+" ")) {
				t.Fatalf("answered %v, pinned %v", rr, pinned)
			}
		}
		if _, err := m.Pack(); err != nil {
			t.Logf("cannot be written: %v", err) // Answered as a failure then.
		}
	})
}
