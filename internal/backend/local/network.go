package local

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/backend/local/network"
	"github.com/bermhq/berm/internal/backend/local/resolver"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
)

// eventNetwork tells of the network that a sandbox has.
const eventNetwork = "network"

// openNetwork finds out whether sandboxes can have a network here. Nothing is made before the first does.
func (b *Backend) openNetwork() error {
	cfg := b.cfg.Network
	cfg.Name, cfg.Dir, cfg.Logger, cfg.Up = b.place.name, b.place.network(), b.log, b.startResolver
	var err error
	if cfg.Translators, err = resolver.Translators(resolver.Config{Servers: b.cfg.NameServers, Logger: b.log}); err != nil {
		return err
	}
	if b.net, err = network.Open(cfg); err != nil {
		return fault.Invalidf("USAGE", "the network of sandboxes: %v", err)
	}
	switch why := b.net.Refusal(); {
	case why != "":
		b.machine.lack(featureNetwork, "%s", why)
		b.machine.lack(featureNetwork6, "%s", "needs "+featureNetwork)
	case !b.net.Six():
		b.machine.lack(featureNetwork6, "%s", "this machine does not forward IPv6, and switching that on changes how it uses IPv6 itself: net.ipv6.conf.all.forwarding")
	}
	return nil
}

// adoptNetworks takes over the networks of an earlier server's sandboxes. One whose network is gone is cut off, and can be stopped.
func (b *Backend) adoptNetworks(left []*found) error {
	var living []network.Request
	for _, f := range left {
		if f.broken != nil {
			continue
		}
		o, _ := read(f.work, b.machine)
		if o.networked() {
			living = append(living, o.request(f.work, f.slot))
		}
	}
	lost, err := b.net.Adopt(living)
	for _, id := range lost {
		b.log.Debug("a sandbox of an earlier server has no network", "slot", id)
	}
	return err
}

// networked reports whether a sandbox is to have any network.
func (o *order) networked() bool {
	return o.egress != nil && egress.Type(o.egress.GetType()) != egress.None && o.egress.GetType() != ""
}

// request asks for a network. It belongs to the slot, which a prepared sandbox has before it has an id.
func (o *order) request(w *backend.Work, slot string) network.Request {
	return network.Request{ID: slot, Mode: o.mode, Egress: o.egress, Org: w.OrgID, User: w.UserID, Profile: w.ProfileName}
}

// connect gives a sandbox its network: the namespace that its processes run in, and the file that names its resolver.
func (b *Backend) connect(x *boxed, s *sandbox, o *order, dir string) error {
	if !o.networked() {
		return nil
	}
	at := b.cfg.Now()
	a, err := b.net.Attach(o.request(s.work, s.slot))
	if err != nil {
		return err
	}
	x.bundle.Network = a.Namespace
	source := filepath.Join(dir, "resolv.conf")
	var text strings.Builder
	for _, r := range a.Resolvers {
		text.WriteString("nameserver " + r.String() + "\n")
	}
	if err := os.WriteFile(source, []byte(text.String()), 0o644); err != nil {
		return err
	}
	x.bundle.Binds = append(x.bundle.Binds, bundle.Bind{Source: source, Target: "/etc/resolv.conf"})
	e := b.event(eventNetwork, "it has the address "+a.Addr4.String())
	e.Attrs = map[string]string{"address": a.Addr4.String(), "prepared": strconv.FormatBool(a.Pooled), "duration_ms": strconv.FormatInt(b.cfg.Now().Sub(at).Milliseconds(), 10)}
	if a.Addr6.IsValid() {
		e.Attrs["address6"] = a.Addr6.String()
	}
	b.publish(s, backend.Observation{Phase: backend.PhaseCreating, Events: []core.Event{e}})
	return nil
}

// checkPrepared refuses to prepare a sandbox whose network depends on who launches it.
func checkPrepared(o *order) error {
	if !o.networked() || egress.Type(o.egress.GetType()) != egress.User {
		return nil
	}
	return fault.Preconditionf(fault.ReasonBackendUnsupported, "mode %q reaches the sandboxes of one user, and whose a prepared sandbox will be is not known", o.mode)
}

// checkNetwork reports an egress mode that the runtime of an order does not carry.
func (b *Backend) checkNetwork(o *order) error {
	rt, err := b.runtime(o.runtime)
	if err != nil || !o.networked() || rt.seen.noNetwork == "" {
		return nil //nolint:nilerr // an unknown runtime is reported as such
	}
	return fault.Preconditionf(fault.ReasonBackendUnsupported, "runtime %s has no network here", rt.name).
		WithField("network.egress.selected", "mode %q is of type %s: with the runtime %s only type none works here; choose another runtime class. %s", o.mode, o.egress.GetType(), rt.name, rt.seen.noNetwork)
}

// startResolver answers names at the gateways of the sandboxes.
func (b *Backend) startResolver(n network.Names) (stop func(), err error) {
	r, err := resolver.New(resolver.Config{Network: names{n, b}, Servers: b.cfg.NameServers, Logger: b.log})
	if err != nil {
		return nil, err
	}
	for _, gw := range n.Gateways() {
		if _, err := r.Listen(b.ctx, netip.AddrPortFrom(gw, egress.PortDNS)); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	b.mu.Lock()
	b.resolver = r
	b.mu.Unlock()
	return func() {
		if err := r.Close(); err != nil {
			b.log.Warn("the resolver of the sandboxes did not end well", "error", err)
		}
	}, nil
}

// names is what the resolver asks of networks, in its words. It knows sandboxes by their slots, as networks do; only where a sandbox
// names another is that an id.
type names struct {
	network.Names
	b *Backend
}

// Sandbox implements resolver.Network.
func (n names) Sandbox(addr netip.Addr) (id string, policy *egress.Policy, ok bool) {
	g, ok := n.Guest(addr)
	return g.ID, g.Policy, ok
}

// Member implements resolver.Network.
func (n names) Member(sandbox netip.Addr, id string) []netip.Addr {
	s, err := n.b.get(id)
	if err != nil {
		return nil
	}
	g, ok := n.Peer(sandbox, s.slot)
	if !ok {
		return nil
	}
	return slices.DeleteFunc([]netip.Addr{g.Addr4, g.Addr6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// disconnect takes the network of a sandbox away, and what the resolver knows of it.
func (b *Backend) disconnect(slot string) error {
	if b.net == nil {
		return nil
	}
	b.mu.Lock()
	r := b.resolver
	b.mu.Unlock()
	err := b.net.Detach(slot)
	if r != nil {
		r.Forget(slot)
	}
	return err
}

// egressMode reads the mode in force, and refuses what this machine has no network for.
func (r *reader) egressMode(e *specpb.Egress, m machine) (name string, mode *specpb.EgressMode) {
	name, mode = egress.Selected(e)
	if name == "" {
		return "", nil
	}
	if mode == nil {
		r.refuse("network.egress.selected", "mode %q is not declared", name)
		return name, nil
	}
	t := egress.Type(mode.GetType())
	if t == "" || t == egress.None {
		return name, mode
	}
	if !slices.Contains(egress.Types(), t) {
		r.refuse("network.egress.selected", "mode %q is of type %.40q, which does not exist", name, t)
	}
	if why, ok := m.lacks[featureNetwork]; ok {
		r.refuse("network.egress.selected", "mode %q is of type %s; on this machine only type none works: %s", name, t, why)
	}
	return name, mode
}
