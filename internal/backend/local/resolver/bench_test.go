package resolver

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/time/rate"
)

// BenchmarkAnswer is what one question costs, without sockets: one that is kept, one that is denied.
func BenchmarkAnswer(b *testing.B) {
	r, a, _ := still(b, listed("allowed.example"), func(question) (*found, error) {
		rr := &dns.A{Hdr: dns.RR_Header{Name: "allowed.example.", Rrtype: dns.TypeA, Class: 1, Ttl: 300}, A: netip.MustParseAddr("1.1.1.1").AsSlice()}
		return &found{records: []dns.RR{rr}, ttl: MaxTTL}, nil
	})
	a.rate = rate.NewLimiter(rate.Inf, 1)
	for what, name := range map[string]string{"kept": "allowed.example.", "denied": "evil.example."} {
		data, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, m := r.answer(a, data)
				if _, err := m.Pack(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLookup is a question and its answer over UDP on loopback: one that is kept, and one that is asked of a server on loopback.
func BenchmarkLookup(b *testing.B) {
	w := newWorld(b)
	w.names.has(b, "allowed.example. 300 A 1.1.1.1", "fresh.example. 0 A 1.1.1.2")
	sandbox := w.sandbox(listed("allowed.example", "fresh.example"))
	w.Resolver.client(sandbox.id()).rate = rate.NewLimiter(rate.Inf, 1)
	for what, name := range map[string]string{"kept": "allowed.example.", "asked": "fresh.example."} {
		conn := &dns.Conn{Conn: sandbox.dial("udp")}
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				_ = conn.SetDeadline(time.Now().Add(patience))
				if err := conn.WriteMsg(q); err != nil {
					b.Fatal(err)
				}
				if m, err := conn.ReadMsg(); err != nil || len(m.Answer) != 1 {
					b.Fatal(m, err)
				}
			}
		})
	}
}
