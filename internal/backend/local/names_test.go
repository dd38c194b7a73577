package local

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/core/egress"
)

// answerNames is a name server of the world: *.allowed.example is 93.184.215.14 and an IPv6 address, *.inside.example a metadata service
// and a private host.
func answerNames(t *testing.T, w *networktest.World) netip.AddrPort {
	t.Helper()
	at := netip.MustParseAddrPort("9.9.9.9:5353")
	var c net.PacketConn
	var err error
	networktest.In(t, w.Path, func() { c, err = net.ListenPacket("udp", at.String()) })
	if err != nil {
		t.Fatal(err)
	}
	records := map[string][2]string{"allowed.example.": {"93.184.215.14", "2606:4700::14"}, "inside.example.": {"169.254.169.254", "fd00:ec2::254"}, "denied.example.": {"1.1.1.1", "2606:4700::1"}}
	s := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.RecursionAvailable = true
		_, domain, _ := strings.Cut(q.Question[0].Name, ".")
		addrs, ok := records[domain]
		if !ok {
			m.Rcode = dns.RcodeNameError
		}
		h := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
		switch {
		case ok && h.Rrtype == dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: h, A: net.ParseIP(addrs[0])})
		case ok && h.Rrtype == dns.TypeAAAA:
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: h, AAAA: net.ParseIP(addrs[1])})
		}
		_ = rw.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-done
	})
	return at
}

// TestNamesOfSandboxes: a sandbox looks names up at its own resolver, and reaches what was answered, and nothing by other names, other
// servers, or an address that nobody answered with.
func TestNamesOfSandboxes(t *testing.T) {
	w := networktest.New(t)
	server := answerNames(t, w)
	b := open(t, withRuntime("crun"), func(c *Config) { c.NameServers = []netip.AddrPort{server} })
	listed := networkedWork("allowlist")
	listed.Spec.Network.Egress.Modes["net"].DnsNames = []string{"*.allowed.example", "x.inside.example"}
	id, wide := b.launch(listed), b.launch(networkedWork("internet"))
	b.connects(id, map[string]bool{"93.184.215.14:443": false})
	b.connects(id, map[string]bool{"a.allowed.example:443": true, "a.denied.example:443": false, "x.inside.example:80": false, "evil-allowed.example:443": false})
	b.connects(id, map[string]bool{"93.184.215.14:443": true, "1.1.1.1:443": false, "9.9.9.9:53": false})
	b.connects(wide, map[string]bool{"a.allowed.example:443": true, "a.denied.example:443": true, "x.inside.example:80": false})
	target, err := egress.ParseTarget("a.allowed.example:443")
	if err != nil {
		t.Fatal(err)
	}
	n, err := b.Network(t.Context(), id, target)
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Addresses) != 2 || len(n.Around.Resolvers) != 2 || len(n.Around.Facts) == 0 || n.Around.Facts[0].Pinned != target.Name || len(n.Around.Site.Machine) == 0 {
		t.Errorf("%+v", n)
	}
	if n.Names.Denied == 0 || n.Names.Answered == 0 || n.Connections["any"] == 0 || n.Connections["ports"] == 0 {
		t.Errorf("counted: %+v %v", n.Names, n.Connections)
	}
	// What was answered holds over a restart.
	b.reopen()
	b.connects(id, map[string]bool{"93.184.215.14:443": true, "a.allowed.example:443": true})
	if n, err := b.Network(t.Context(), id, target); err != nil || len(n.Around.Facts) == 0 {
		t.Errorf("after a restart: %+v %v", n, err)
	}
	if n, err := b.Network(t.Context(), "", target); err != nil || len(n.Around.Site.Machine) == 0 || len(n.Addresses) > 0 {
		t.Errorf("of a sandbox that may come: %+v %v", n, err)
	}
}
