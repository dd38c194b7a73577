package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/nft"
)

// Network is the network of the sandboxes of one backend. Its methods may be called at the same time.
type Network struct {
	names
	cfg Config
	log *slog.Logger
	// refusal says why no sandbox can have a network here.
	refusal string

	// starting lets one start or end at a time.
	starting sync.Mutex
	stop     func()
	// six says that the machine can forward IPv6.
	six bool
	// lookEvery and hearBytes are lookEvery and nft.SocketBytes, but in tests. missed counts how often more was told than hearBytes had
	// room for.
	lookEvery time.Duration
	hearBytes int
	missed    atomic.Int64

	ctx     context.Context //nolint:containedctx // the lifetime of the network itself
	cancel  context.CancelFunc
	running sync.WaitGroup
	pool    pool

	// mu is for what follows, and for writing rules.
	mu     sync.Mutex
	up     bool
	block  block
	mtu    int
	k      *kernel
	around around
	// nat64 are the prefixes of translators that are known.
	nat64  []netip.Prefix
	ways   ways
	guests map[string]*guest
	byAddr map[netip.Addr]*guest
	// chains counts the sandboxes of each policy chain, scopes are the members of each scope.
	chains map[string]*shared
	scopes map[string]map[*guest]bool
	// stale are pins of an earlier server that are taken back once the rules are there, and their connections after that.
	stale []stalePin
	// anew says that there were no rules to take over: what went on meanwhile, nothing decided about.
	anew bool
}

var _ Names = (*Network)(nil)

// guest is a sandbox with a network. It is guarded by Network.mu.
type guest struct {
	Request
	slot         int
	addr4, addr6 netip.Addr
	policy       *egress.Policy
	scope        string
	chains       chains
	pins         pins
}

// Open looks what this machine can do. It changes nothing that lasts: the first sandbox with a network does, or Adopt, when an
// earlier server left some.
func Open(cfg Config) (*Network, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	n := &Network{
		names: newNames(cfg.Name, cfg.Dir), cfg: cfg, log: cfg.Logger, lookEvery: lookEvery, hearBytes: nft.SocketBytes, nat64: cfg.NAT64,
		guests: map[string]*guest{}, byAddr: map[netip.Addr]*guest{}, chains: map[string]*shared{}, scopes: map[string]map[*guest]bool{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.pool.init(n)
	if err := n.probe(); err != nil {
		n.refusal = err.Error()
	}
	n.six = forwardsSix()
	return n, nil
}

// Refusal says why no sandbox can have a network on this machine, "" when they can.
func (n *Network) Refusal() string { return n.refusal }

// Six reports whether sandboxes have IPv6.
func (n *Network) Six() bool { return n.six }

// Attach gives a sandbox a network. What an earlier attempt with the same id left is removed first. When it returns, the rules
// of the sandbox hold.
func (n *Network) Attach(r Request) (*Attachment, error) {
	if n.refusal != "" {
		return nil, fault.Preconditionf(fault.ReasonBackendUnsupported, "this machine gives sandboxes no network: %s", n.refusal)
	}
	if err := n.Detach(r.ID); err != nil {
		return nil, err
	}
	if err := n.start(); err != nil {
		return nil, err
	}
	sp, pooled, err := n.pool.take()
	if err != nil {
		return nil, err
	}
	g := &guest{Request: r, slot: sp.slot, addr4: n.block.addr4(sp.slot), addr6: n.block.addr6(sp.slot)}
	if err := n.assign(g); err != nil {
		return nil, errors.Join(err, os.RemoveAll(n.assignment(r.ID)), n.pool.discard(sp.slot))
	}
	return &Attachment{Namespace: sp.path, Addr4: g.addr4, Addr6: g.addr6, Resolvers: n.block.gateways(), Pooled: pooled}, nil
}

// assign writes down whose the slot is, then gives it the rules. The first is for the next server, should this one die.
func (n *Network) assign(g *guest) error {
	if err := os.Symlink(strconv.Itoa(g.slot), n.assignment(g.ID)); err != nil {
		return err
	}
	failpoint.Hit(failAssigned)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.compile(g); err != nil {
		return err
	}
	if err := n.install(g); err != nil {
		return err
	}
	failpoint.Hit(failInstalled)
	n.remember(g)
	return nil
}

func (n *Network) remember(g *guest) {
	n.guests[g.ID] = g
	for _, a := range n.addrs(g.slot) {
		n.byAddr[a] = g
	}
}

// compile sets the policy and scope of a guest for what is around now.
func (n *Network) compile(g *guest) error {
	p, err := egress.Compile(g.Mode, g.Egress, n.around.site)
	if err != nil {
		return err
	}
	g.policy, g.scope = p, scopeOf(p.Type, &g.Request)
	g.chains = n.k.chainsOf(p, g.scope)
	return nil
}

// scopeOf names the group that a sandbox of some type belongs to. Who is not known is alone.
func scopeOf(t egress.Type, r *Request) string {
	var who string
	switch t {
	case egress.User:
		who = r.User
	case egress.Profile:
		who = r.Profile
	case egress.Org:
		return fmt.Sprintf("org %q", r.Org)
	default:
		return ""
	}
	if who == "" {
		return fmt.Sprintf("sandbox %q", r.ID)
	}
	return fmt.Sprintf("%s %q of %q", t, who, r.Org)
}

// Detach takes the network of a sandbox away. When it returns, nothing that it sends goes anywhere any more; its connections, namespace
// and link go in the background, and the address is given to nobody before they are gone. Unknown ids succeed.
func (n *Network) Detach(id string) error {
	n.mu.Lock()
	g, ok := n.guests[id]
	if !ok {
		n.mu.Unlock()
		return nil
	}
	err := n.uninstall(g)
	if err == nil {
		delete(n.guests, id)
		for _, a := range n.addrs(g.slot) {
			delete(n.byAddr, a)
		}
	}
	n.mu.Unlock()
	if err != nil {
		return err
	}
	failpoint.Hit(failUninstalled)
	err = os.Remove(n.assignment(id))
	n.background(func() { n.dispose(g) })
	return err
}

// dispose removes what is left of a guest that has no rules any more. Its address is free after that.
func (n *Network) dispose(g *guest) {
	err := closeFlows(func(f flow) bool { return f.of(g.addr4) || f.of(g.addr6) })
	failpoint.Hit(failFlowsClosed)
	if err == nil {
		err = n.pool.discard(g.slot)
	}
	if err != nil {
		n.log.Error("what an ended sandbox had of the network could not all be removed; its address is not used again", "sandbox", g.ID, "error", err)
	}
}

// background runs f on its own; Close waits for it.
func (n *Network) background(f func()) { n.running.Go(f) }

// addrs are the addresses of a slot.
func (n *Network) addrs(slot int) []netip.Addr {
	if n.block.six() {
		return []netip.Addr{n.block.addr4(slot), n.block.addr6(slot)}
	}
	return []netip.Addr{n.block.addr4(slot)}
}

// Close lets go. Networks of living sandboxes stay as they are, and are enforced; without any, nothing is left on the machine.
func (n *Network) Close() error {
	n.starting.Lock()
	defer n.starting.Unlock()
	n.cancel()
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
	err := n.pool.drain()
	n.running.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.up && len(n.guests) == 0 {
		err = errors.Join(err, n.tearDown())
	}
	return err
}
