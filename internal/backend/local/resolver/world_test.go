package resolver

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/egress"
)

// patience bounds what must happen.
const patience = 20 * time.Second

// site is a machine with an address and a network of its own.
func site() egress.Site {
	p := netip.MustParsePrefix
	return egress.Site{
		Machine: []netip.Prefix{p("203.0.114.10/32")}, OnLink: []netip.Prefix{p("203.0.114.0/24"), p("2a02:8109:1::/64")},
		Sandboxes: []netip.Prefix{p("198.18.0.0/15"), p("fd62:6572:6d00::/48")},
	}
}

// guests is a Network in memory: sandboxes by the loopback address that they ask from.
type guests struct {
	mu       sync.Mutex
	policies map[netip.Addr]*egress.Policy
	members  map[string][]netip.Addr
	pins     []pin
	refuse   error
}

type pin struct {
	sandbox, name string
	addrs         []netip.Addr
	ttl           time.Duration
}

func (g *guests) Sandbox(a netip.Addr) (string, *egress.Policy, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.policies[a]
	return "sb-" + a.String(), p, ok
}

func (g *guests) Pin(a netip.Addr, name string, addrs []netip.Addr, ttl time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse != nil {
		return g.refuse
	}
	g.pins = append(g.pins, pin{"sb-" + a.String(), name, addrs, ttl})
	return nil
}

func (g *guests) Member(_ netip.Addr, id string) []netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.members[id]
}

// pinned returns and forgets what was pinned: "name addr addr".
func (g *guests) pinned() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for _, p := range g.pins {
		text := p.name
		for _, a := range p.addrs {
			text += " " + a.String()
		}
		out = append(out, text)
	}
	g.pins = nil
	return out
}

// world is a resolver, the names that exist outside, and sandboxes.
type world struct {
	t testing.TB
	*guests
	*Resolver
	at    netip.AddrPort
	names *outside
	clock *clock
	next  int
}

// clock is a clock that stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, guests: &guests{policies: map[netip.Addr]*egress.Policy{}, members: map[string][]netip.Addr{}}, clock: &clock{at: time.Unix(1_800_000_000, 0)}}
	w.names = newOutside(t)
	cfg := Config{Network: w.guests, Servers: []netip.AddrPort{w.names.at}, Now: w.clock.now, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if w.Resolver, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	for range 20 { // A port that is free for UDP may be taken for TCP.
		if w.at, err = w.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0")); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// sandbox adds a sandbox with an egress mode. It asks from an address of its own.
func (w *world) sandbox(mode *specpb.EgressMode) *box {
	w.t.Helper()
	p, err := egress.Compile("m", mode, site())
	if err != nil {
		w.t.Fatal(err)
	}
	w.next++
	b := &box{world: w, addr: netip.AddrFrom4([4]byte{127, 0, 1, byte(w.next)})}
	w.locked(func() { w.policies[b.addr] = p })
	return b
}

func (w *world) locked(f func()) {
	w.guests.mu.Lock()
	defer w.guests.mu.Unlock()
	f()
}

func internet() *specpb.EgressMode { return &specpb.EgressMode{Type: "internet"} }

func listed(names ...string) *specpb.EgressMode {
	return &specpb.EgressMode{Type: "allowlist", DnsNames: names}
}

func ranged(cidrs ...string) *specpb.EgressMode {
	return &specpb.EgressMode{Type: "allowlist", Cidrs: cidrs}
}

// box is a sandbox, as the resolver sees it.
type box struct {
	*world
	addr netip.Addr
}

func (b *box) id() string { return "sb-" + b.addr.String() }

// dial opens a socket to the resolver.
func (b *box) dial(network string) net.Conn {
	b.t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.UDPAddr{IP: b.addr.AsSlice()}}
	if network == "tcp" {
		d.LocalAddr = &net.TCPAddr{IP: b.addr.AsSlice()}
	}
	conn, err := d.DialContext(b.t.Context(), network, b.world.at.String())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		b.t.Fatal(err)
	}
	return conn
}

// send sends a question and returns the answer.
func (b *box) send(network string, m *dns.Msg) *dns.Msg {
	b.t.Helper()
	r, err := b.trySend(network, m)
	if err != nil {
		b.t.Fatalf("%v: %v", m.Question, err)
	}
	return r
}

func (b *box) trySend(network string, m *dns.Msg) (*dns.Msg, error) {
	b.t.Helper()
	c := &dns.Conn{Conn: b.dial(network), UDPSize: dns.MaxMsgSize}
	defer c.Close()
	if err := c.WriteMsg(m); err != nil {
		return nil, err
	}
	r, err := c.ReadMsg()
	if err == nil && r.Id != m.Id {
		err = errors.New("an answer to something else")
	}
	return r, err
}

// ask asks for a name, and returns the answer in words: "NOERROR 1.2.3.4" or "NXDOMAIN (why)".
func (b *box) ask(name string, typ uint16) string {
	b.t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), typ)
	m.SetEdns0(MaxReplyBytes, false)
	return words(b.send("udp", m))
}

func (b *box) a(name string) string { b.t.Helper(); return b.ask(name, dns.TypeA) }

func words(m *dns.Msg) string {
	out := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		if a, ok := address(rr); ok {
			out = append(out, a.String())
			continue
		}
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				out = append(out, "("+e.ExtraText+")")
			}
		}
	}
	return strings.Join(out, " ")
}

// outside is a name server on loopback: what it answers is text in the form of a zone file.
type outside struct {
	at netip.AddrPort

	mu sync.Mutex
	// handler, when set, answers instead. It may return nil for no answer.
	handler func(network string, q *dns.Msg) *dns.Msg
	zone    map[string][]dns.RR
	asked   []string
}

func newOutside(t testing.TB) *outside {
	t.Helper()
	o := &outside{zone: map[string][]dns.RR{}}
	var pc net.PacketConn
	var l net.Listener
	for l == nil { // A port that is free for UDP may be taken for TCP.
		var err error
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		o.at = pc.LocalAddr().(*net.UDPAddr).AddrPort()
		if l, err = net.Listen("tcp", o.at.String()); err != nil {
			l = nil
			_ = pc.Close()
		}
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: o.on("udp")}, {Listener: l, Handler: o.on("tcp")}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		done := make(chan error, 1)
		go func() { done <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	return o
}

func (o *outside) on(network string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		o.mu.Lock()
		o.asked = append(o.asked, network+" "+q.Question[0].Name+" "+dns.TypeToString[q.Question[0].Qtype])
		handler := o.handler
		o.mu.Unlock()
		if handler == nil {
			handler = o.answer
		}
		if m := handler(network, q); m != nil {
			_ = w.WriteMsg(m)
		}
	}
}

// answer answers from the zone, following aliases as a recursive server does.
func (o *outside) answer(_ string, q *dns.Msg) *dns.Msg {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	owner := dns.CanonicalName(q.Question[0].Name)
	for range 20 {
		next := ""
		for _, rr := range o.zone[owner] {
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			} else if c, ok := rr.(*dns.CNAME); ok {
				m.Answer = append(m.Answer, rr)
				next = dns.CanonicalName(c.Target)
			}
		}
		if next == "" {
			break
		}
		owner = next
	}
	if _, ok := o.zone[owner]; !ok {
		m.Rcode = dns.RcodeNameError
	}
	return m
}

// has makes names exist.
func (o *outside) has(t testing.TB, records ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		name := dns.CanonicalName(rr.Header().Name)
		o.zone[name] = append(o.zone[name], rr)
	}
}

// forget makes a name not exist.
func (o *outside) forget(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.zone, dns.CanonicalName(name))
}

func (o *outside) handle(f func(network string, q *dns.Msg) *dns.Msg) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handler = f
}

// questions returns and forgets what was asked.
func (o *outside) questions() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.asked
	o.asked = nil
	return out
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, ok := got.([]string); ok {
		if w, _ := want.([]string); slices.Equal(g, w) {
			return
		}
	} else if got == want {
		return
	}
	t.Errorf("%s: %v, want %v", what, got, want)
}
