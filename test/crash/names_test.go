//go:build crash

package crash

import (
	"net"
	"testing"

	"github.com/miekg/dns"
)

// serveNames starts a name server on loopback that knows one address for every name.
func serveNames(t *testing.T) (addr string) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			h := dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}
			m.Answer = append(m.Answer, &dns.A{Hdr: h, A: net.IPv4(1, 1, 1, 1)})
		}
		_ = w.WriteMsg(m) // Whoever does not get it asks again.
	})}
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return pc.LocalAddr().String()
}
