// Package resolver answers the names that sandboxes ask for, each by what its egress policy lets it reach.
//
// A sandbox can ask nobody else: its rules close the ports of name services. What it may ask is decided by egress.Policy.Lookup,
// what it is told by egress.Policy.Answers, on every lookup anew, whatever is cached:
//
//	none                   has no interface, so nothing comes; a question that does is dropped
//	allowlist, dnsNames    names that are listed; the addresses answered become reachable, as long as the answer holds
//	allowlist, cidrs only  any name, addresses alone, and of those the ones that are listed: a tunnel of bounded width, see below
//	internet               any name, without private and other closed addresses, and without names that only mean something nearby
//	user, org, profile     sandboxes of the same scope, by their id: ID or ID.berm.internal; nothing is asked of anybody
//
// An address of a closed class is never answered, whatever the name: the policy is asked about each. Aliases (CNAME) are followed
// by the upstream and judged by the name that was asked for: the answer is given under that name, and is pinned under it.
// Where any name may be asked for, an alias of a name that may not is not followed.
//
// A name that may not be looked up does not exist for the sandbox (NXDOMAIN), with the reason as an extended error: other codes
// make some C libraries wait for a better answer until they give up. What is over a limit is REFUSED, and an upstream that does
// not answer is SERVFAIL: neither is a statement about the name.
//
// # Tunnels
//
// Who may ask for names that somebody outside answers can send something out with each. Every mode bounds that: questions per
// second, different names per minute, texts per minute, bytes of a name; nothing else of a question is passed on: no options, no
// spelling, no record types but the listed ones. Names that are listed one by one carry nothing. What is left is in docs/local.md.
//
// # Bounds
//
// A sandbox has so many questions and connections under way, and all together have; what comes on top is dropped and counted.
// Questions are parsed, and answers checked, before anything is believed: see query.go and chain.go.
package resolver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
)

// Network is what the resolver asks of those who make networks, and tells them. Its methods are called concurrently.
type Network interface {
	// Sandbox returns the sandbox that has an address, and what it may reach now.
	Sandbox(addr netip.Addr) (id string, policy *egress.Policy, ok bool)
	// Pin makes addresses reachable for the sandbox that has an address, as answers for a name, for so long from now: longer,
	// where an answer holds too short to be used. When it returns they are.
	Pin(sandbox netip.Addr, name string, addrs []netip.Addr, ttl time.Duration) error
	// Member returns the addresses of a sandbox by its id, when it is in the scope of the one that asks.
	Member(sandbox netip.Addr, id string) []netip.Addr
}

// Config shapes a Resolver.
type Config struct {
	Network Network
	// Servers are asked instead of those of ResolvConf, in their order.
	Servers []netip.AddrPort
	// ResolvConf is the file that names the servers to ask; "" is /etc/resolv.conf. It is read again when it changed.
	ResolvConf string
	Logger     *slog.Logger
	// Now is the clock of the cache; nil is time.Now.
	Now func() time.Time
}

// Resolver is a running resolver. It serves nothing before Listen.
type Resolver struct {
	network  Network
	log      *slog.Logger
	now      func() time.Time
	upstream *upstream
	cache    *cache

	// questions and connections are slots: those of all sandboxes together.
	questions, connections chan struct{}

	mu      sync.Mutex
	clients map[string]*client
	open    []interface{ Close() error }
	closed  bool

	ctx     context.Context //nolint:containedctx // the lifetime of the resolver itself
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// complete fills in defaults. Errors are servers that make no sense.
func (cfg *Config) complete() error {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	return CheckServers(cfg.Servers)
}

// New returns a resolver. Errors are servers that make no sense.
func New(cfg Config) (*Resolver, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	r := &Resolver{
		network: cfg.Network, log: cfg.Logger, now: cfg.Now, clients: map[string]*client{},
		questions: make(chan struct{}, MaxQuestions), connections: make(chan struct{}, MaxConnections),
	}
	r.upstream = newUpstream(cfg.Servers, cfg.ResolvConf, cfg.Logger)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.cache = newCache(r.upstream.ask, cfg.Now)
	return r, nil
}

// CheckServers reports servers that make no sense.
func CheckServers(servers []netip.AddrPort) error {
	if len(servers) > MaxServers {
		return fault.Invalidf(fault.ReasonFieldInvalid, "%d name servers are more than %d", len(servers), MaxServers)
	}
	for _, s := range servers {
		if !s.IsValid() || s.Port() == 0 || s.Addr().IsUnspecified() || s.Addr().IsMulticast() {
			return fault.Invalidf(fault.ReasonFieldInvalid, "%s is no address of a name server", s)
		}
	}
	return nil
}

// Listen serves an address over UDP and TCP until Close. With port 0 one that is free is taken for both; which, is returned.
func (r *Resolver) Listen(ctx context.Context, addr netip.AddrPort) (netip.AddrPort, error) {
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(ctx, "udp", addr.String())
	if err != nil {
		return addr, listenFault(addr, err)
	}
	udp, ok := pc.(*net.UDPConn)
	if !ok {
		return addr, fault.Internalf(pc.Close(), "a UDP socket of type %T", pc)
	}
	at := udp.LocalAddr().(*net.UDPAddr).AddrPort() //nolint:forcetypeassert // of a UDP socket
	tcp, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return addr, errors.Join(listenFault(at, err), udp.Close())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return addr, errors.Join(fault.New(fault.Unavailable, fault.ReasonResolverUnavailable, "the resolver is closed"), udp.Close(), tcp.Close())
	}
	r.open = append(r.open, udp, tcp)
	r.running.Go(func() { r.serveUDP(udp) })
	r.running.Go(func() { r.serveTCP(tcp) })
	return at, nil
}

func listenFault(addr netip.AddrPort, err error) error {
	return fault.New(fault.Unavailable, fault.ReasonResolverUnavailable, "cannot answer names at %s: %v", addr, err).WithCause(err)
}

// Close ends everything and waits for it.
func (r *Resolver) Close() error {
	r.mu.Lock()
	already := r.closed
	r.closed = true
	open := r.open
	r.open = nil
	r.mu.Unlock()
	if already {
		return nil
	}
	r.cancel()
	var errs []error
	for _, c := range open {
		errs = append(errs, c.Close())
	}
	r.running.Wait()
	return errors.Join(errs...)
}

// Stats returns the counters of a sandbox, zero for one that never asked anything.
func (r *Resolver) Stats(id string) Stats {
	r.mu.Lock()
	c := r.clients[id]
	r.mu.Unlock()
	if c == nil {
		return Stats{}
	}
	return c.stats()
}

// Forget drops what is kept of a sandbox that has ended.
func (r *Resolver) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.clients, id)
}

// client returns what is kept of a sandbox.
func (r *Resolver) client(id string) *client {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.clients[id]
	if c == nil {
		c = newClient()
		r.clients[id] = c
	}
	return c
}
