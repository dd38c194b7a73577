package local

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/network/networktest"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
)

// nameServer answers names on this machine's loopback: what a name server outside would say.
type nameServer struct {
	at netip.AddrPort
	// rebound makes names below rebind.example be those of the metadata service.
	rebound atomic.Bool
	// asked counts the questions, but for what the server asks for itself: which translators (NAT64) there are.
	asked atomic.Int64
}

func newNameServer(t *testing.T, records ...string) *nameServer {
	t.Helper()
	zone := map[string][]dns.RR{}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		zone[rr.Header().Name] = append(zone[rr.Header().Name], rr)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{at: pc.LocalAddr().(*net.UDPAddr).AddrPort()}
	started := make(chan struct{})
	s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := q.Question[0].Name
		if name != egress.NAT64Name+"." {
			n.asked.Add(1)
		}
		all, ok := zone[name]
		if n.rebound.Load() && strings.HasSuffix(name, "rebind.example.") {
			all = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(169, 254, 169, 254)}}
		}
		for _, rr := range all {
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if !ok {
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
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
	return n
}

func (b *testBackend) network(id, target string) *backend.Network {
	b.t.Helper()
	parsed, err := egress.ParseTarget(target)
	if err != nil {
		b.t.Fatal(err)
	}
	n, err := b.Network(b.t.Context(), id, parsed)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func withNames(n *nameServer, runtime string) func(*Config) {
	return func(c *Config) { c.Runtimes, c.NameServers = []string{runtime}, []netip.AddrPort{n.at} }
}

// eachStack runs a test with the machine's network stack in sandboxes, and with gVisor's.
func eachStack(t *testing.T, f func(t *testing.T, runtime string)) {
	for _, runtime := range []string{"crun", "runsc"} {
		t.Run(runtime, func(t *testing.T) { f(t, runtime) })
	}
}

func namedWork(names ...string) *backend.Work {
	w := networkedWork("allowlist")
	w.Spec.Network.Egress.Modes["net"].DnsNames = names
	return w
}

// TestNames: a name that is listed is answered and opens its addresses, for the sandbox that asked; others do not, nor do addresses
// that nobody may reach, whatever their name. What was denied is counted, and explained.
func TestNames(t *testing.T) { eachStack(t, namesTruth) }

func namesTruth(t *testing.T, runtime string) {
	networktest.New(t)
	outside := newNameServer(t, "allowed.example. 60 A 1.1.1.1", "allowed.example. 60 AAAA 2606:4700::1", "a.wild.example. 60 A 9.9.9.9", "evil-allowed.example. 60 A 6.6.6.6",
		"allowed.example.evil. 60 A 6.6.6.6", "inside.wild.example. 60 A 10.0.0.1", "x.rebind.example. 0 A 8.8.4.4", "other.example. 60 A 6.6.6.6")
	b := open(t, withNames(outside, runtime))
	id, other := b.launch(namedWork("allowed.example", "*.wild.example", "*.rebind.example")), b.launch(namedWork("allowed.example"))
	b.connects(id, map[string]bool{"1.1.1.1:443": false, "9.9.9.9:443": false})
	names := map[string]bool{
		"allowed.example:443": true, "ALLOWED.example.:443": true, "a.wild.example:443": true, "x.rebind.example:443": true,
		"evil-allowed.example:443": false, "allowed.example.evil:443": false, "other.example:443": false, "inside.wild.example:443": false, "missing.wild.example:443": false,
		"allowed.example:53": false, "allowed.example:853": false,
	}
	b.connects(id, names)
	b.connects(id, map[string]bool{"1.1.1.1:443": true, "[2606:4700::1]:443": true, "9.9.9.9:443": true, "8.8.4.4:443": true, "6.6.6.6:443": false, "10.0.0.1:443": false})
	b.connects(other, map[string]bool{"1.1.1.1:443": false}) // It did not ask.
	b.connects(other, map[string]bool{"allowed.example:443": true, "a.wild.example:443": false})

	// The same name, later: the metadata service. It is neither answered nor reached.
	outside.rebound.Store(true)
	b.connects(id, map[string]bool{"x.rebind.example:80": false, "169.254.169.254:80": false})

	n := b.network(id, "allowed.example")
	if n.Names.Denied < 3 || n.Names.Filtered < 2 || n.Names.Answered < 4 || len(n.Names.Denials) == 0 || n.Connections["metadata"] == 0 || n.Connections["any"] == 0 || n.Connections["ports"] == 0 {
		t.Errorf("counted: %+v %v", n.Names, n.Connections)
	}
	denied := map[string]bool{}
	for _, d := range n.Names.Denials {
		denied[d.Name] = true
	}
	for _, name := range []string{"other.example", "evil-allowed.example", "inside.wild.example", "x.rebind.example"} {
		if !denied[name] {
			t.Errorf("%s is not among the denials: %+v", name, n.Names.Denials)
		}
	}
	if len(n.Addresses) != 2 || len(n.Around.Resolvers) != 2 || len(n.Around.Facts) != 2 || n.Around.Facts[0] != (egress.Fact{Addr: netip.MustParseAddr("1.1.1.1"), Pinned: "allowed.example"}) {
		t.Errorf("around: %+v", n)
	}
	if f := b.network(id, "9.9.9.9").Around.Facts; len(f) != 1 || f[0].Pinned != "a.wild.example" {
		t.Errorf("of an address: %+v", f)
	}

	// What was answered stays reachable over a restart of the server, and names are answered again.
	b.reopen()
	b.connects(id, map[string]bool{"1.1.1.1:443": true, "6.6.6.6:443": false})
	b.connects(id, map[string]bool{"allowed.example:443": true, "other.example:443": false})

	// How often something was denied is told with the end, and kept.
	if err := b.Stop(t.Context(), id, 0, core.EndStopped); err != nil {
		t.Fatal(err)
	}
	events := b.ended(id).Events
	if i := slices.IndexFunc(events, func(e core.Event) bool { return e.Name == "ended" }); i < 0 || events[i].Attrs["denied_packets"] == "" || events[i].Attrs["denied_names"] == "" {
		t.Errorf("told at the end: %+v", events)
	}
}

// TestNamesPerMode: what is looked up in each of the other modes.
func TestNamesPerMode(t *testing.T) { eachStack(t, namesPerModeTruth) }

func namesPerModeTruth(t *testing.T, runtime string) {
	networktest.New(t)
	outside := newNameServer(t, "in.example. 60 A 198.51.100.7", "out.example. 60 A 1.1.1.1", "inside.example. 60 A 192.168.7.1")
	b := open(t, withNames(outside, runtime))
	ranged, web, none := b.launch(networkedWork("allowlist", "198.51.100.0/24")), b.launch(networkedWork("internet")), b.launch(work("sleep", "infinity"))
	b.connects(ranged, map[string]bool{"in.example:443": true, "out.example:443": false, "inside.example:443": false})
	b.connects(web, map[string]bool{"in.example:443": false, "out.example:443": true, "inside.example:443": false, "vault.internal:443": false})
	before := outside.asked.Load()
	b.connects(none, map[string]bool{"in.example:443": false, "out.example:443": false})
	// A sandbox of the same scope is found by its id, one of another is not, and nothing is asked outside.
	w := networkedWork("user")
	w.Launch.Command, w.Launch.Args = "python3", []string{"-m", "http.server", "--bind", "::", "8080"}
	peer := b.launch(w)
	stranger := networkedWork("user")
	stranger.UserID = "somebody else"
	asking, strange := b.launch(networkedWork("user")), b.launch(stranger)
	b.isRunning(peer)
	if got := b.shell(asking, "for i in $(seq 200); do python3 -c 'import socket; socket.create_connection((\""+peer+"\", 8080), 5)' 2>/dev/null && echo yes && break; sleep 0.05; done"); got.out != "yes\n" {
		t.Errorf("a sandbox of the same user: %+v", got)
	}
	b.connects(asking, map[string]bool{peer + ".berm.internal:8080": true, strange + ":8080": false, "out.example:443": false})
	b.connects(strange, map[string]bool{peer + ":8080": false})
	if n := outside.asked.Load() - before; n != 0 {
		t.Errorf("%d questions were asked outside", n)
	}
	if f := b.network(asking, peer).Around.Facts; len(f) != 2 || f[0].Member != peer {
		t.Errorf("of a sandbox: %+v", f)
	}
	if f := b.network(strange, peer).Around.Facts; len(f) != 0 {
		t.Errorf("of a sandbox of another user: %+v", f)
	}
	// Of the machine alone, and of who has no network or has ended.
	if n := b.network("", "192.168.7.2"); !slices.Contains(n.Around.Site.Machine, netip.PrefixFrom(networktest.Machine4, 32)) {
		t.Errorf("around: %+v", n.Around.Site)
	}
	if n := b.network(none, "pypi.org"); len(n.Addresses) != 0 || len(n.Around.Facts) != 0 {
		t.Errorf("without a network: %+v", n)
	}
	if err := b.Stop(t.Context(), none, 0, core.EndStopped); err != nil {
		t.Fatal(err)
	}
	b.ended(none)
	if n, err := b.Network(t.Context(), none, egress.Target{}); err != nil || len(n.Addresses) != 0 {
		t.Errorf("ended: %+v %v", n, err)
	}
}

// TestNameServerDown: a name server that does not answer is a failure, never an answer.
func TestNameServerDown(t *testing.T) {
	networktest.New(t)
	b := open(t, func(c *Config) {
		c.Runtimes, c.NameServers = []string{"crun"}, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}
	})
	id := b.launch(networkedWork("internet"))
	got := b.shell(id, `python3 -c '
import socket
try: socket.getaddrinfo("pypi.org", 443)
except socket.gaierror as e: print(e.errno == socket.EAI_AGAIN)'`)
	if got.out != "True\n" {
		t.Errorf("%+v", got)
	}
	if n := b.network(id, "pypi.org"); n.Names.Failed == 0 || n.Names.Answered != 0 {
		t.Errorf("counted: %+v", n.Names)
	}
}

// TestQuestionFlood: a sandbox that floods the resolver keeps no other from being answered, and most of it never gets there.
func TestQuestionFlood(t *testing.T) { eachStack(t, questionFloodTruth) }

func questionFloodTruth(t *testing.T, runtime string) {
	networktest.New(t)
	outside := newNameServer(t, "allowed.example. 60 A 1.1.1.1")
	b := open(t, withNames(outside, runtime))
	id, other := b.launch(namedWork("allowed.example")), b.launch(namedWork("allowed.example"))
	b.isRunning(other)
	const datagrams = 20000
	flood := make(chan ran, 1)
	go func() {
		r, err := b.tryExec(t.Context(), id, backend.Exec{Argv: []string{"python3", "-c", `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((open("/etc/resolv.conf").read().split()[1], 53))
q = b"\0\7\1\0\0\1\0\0\0\0\0\0\4evil\7example\0\0\1\0\1"
for _ in range(20000):
    try: s.send(q)
    except OSError: pass
print("sent")`}})
		if err != nil {
			r.err = err.Error()
		}
		flood <- r
	}()
	b.connects(other, map[string]bool{"allowed.example:443": true})
	if r := <-flood; r.out != "sent\n" {
		t.Fatalf("%+v", r)
	}
	b.connects(other, map[string]bool{"allowed.example:443": true})
	if n := b.network(id, "evil.example"); n.Connections["questions"] < datagrams/4 || n.Names.Denied == 0 || n.Names.Denied+n.Names.Limited > datagrams/2 {
		t.Errorf("counted: %+v %v", n.Names, n.Connections)
	}
	if n := b.network(other, "evil.example"); n.Names.Limited != 0 || n.Connections["questions"] != 0 {
		t.Errorf("of another sandbox: %+v %v", n.Names, n.Connections)
	}
}
