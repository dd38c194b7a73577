package network

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// pins are the addresses answered to a guest: until when, by name. The kernel has for each address the latest of its times.
type pins map[netip.Addr]map[string]time.Time

// expiryGrace is how long what is over is remembered: the kernel's clock is not ours, and it may have it still.
const expiryGrace = time.Minute

// until returns the latest time of an address, zero when it is over.
func (p pins) until(a netip.Addr, now time.Time) time.Time {
	var last time.Time
	for _, t := range p[a] {
		if t.After(last) && t.After(now) {
			last = t
		}
	}
	return last
}

// sweep forgets what is over.
func (p pins) sweep(now time.Time) {
	for a, names := range p {
		maps.DeleteFunc(names, func(_ string, t time.Time) bool { return !t.After(now) })
		if len(names) == 0 {
			delete(p, a)
		}
	}
}

func nobody(a netip.Addr) *fault.Error {
	return fault.NotFoundf(fault.ReasonSandboxNotFound, "no sandbox has the address %s", a)
}

// Pin implements Names.
func (n *Network) Pin(sandbox netip.Addr, name string, addrs []netip.Addr, ttl time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	g, ok := n.byAddr[sandbox]
	if !ok {
		return nobody(sandbox)
	}
	if !g.policy.Lookup(name).Pin {
		return fault.Preconditionf(fault.ReasonInvalidRequest, "the policy of sandbox %s does not list the name %.80q", g.ID, name)
	}
	now := time.Now()
	end := now.Add(min(max(ttl, MinPin), MaxPin))
	if g.pins == nil {
		g.pins = pins{}
	}
	g.pins.sweep(now.Add(-expiryGrace))
	var fresh []netip.Addr
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		// A second more or less is not worth a change of the rules.
		if a.IsValid() && g.pins.until(a, now).Before(end.Add(-time.Second)) && (a.Is4() || g.addr6.IsValid()) && !slices.Contains(fresh, a) {
			fresh = append(fresh, a)
		}
	}
	added := 0
	for _, a := range fresh {
		if g.pins[a] == nil {
			added++
		}
	}
	if len(g.pins)+added > MaxPins {
		return fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "sandbox %s has %d addresses of names; there is no room for more", g.ID, len(g.pins))
	}
	if err := n.k.pin(g, name, fresh, end.Sub(now)); err != nil {
		return err
	}
	if len(fresh) > 0 {
		failpoint.Hit(failPinned)
	}
	for _, a := range fresh {
		if g.pins[a] == nil {
			g.pins[a] = map[string]time.Time{}
		}
	}
	for _, a := range addrs { // Also those that another name holds open for longer: that one may be taken back.
		if names := g.pins[a.Unmap().WithZone("")]; names != nil && names[name].Before(end) {
			names[name] = end
		}
	}
	return nil
}

// pinKey is how the kernel knows an address answered to a guest.
func (g *guest) pinKey(a netip.Addr) []byte {
	e := g.to(a)
	return slices.Concat(e.source.AsSlice(), e.destination.AsSlice())
}

func (k *kernel) pinSet(a netip.Addr) *nftables.Set {
	if a.Is4() {
		return k.sets.pins4
	}
	return k.sets.pins6
}

// pin lets a guest reach addresses for some time. Not every kernel prolongs an element that is there, so it is replaced; adding it
// first makes the deletion succeed whether it has expired or not. Deletions make the kernel wait, so that what is new has none. The
// name is for the next server.
func (k *kernel) pin(g *guest, name string, addrs []netip.Addr, ttl time.Duration) error {
	for chunk := range slices.Chunk(addrs, maxElements) {
		for _, a := range chunk {
			s, e := k.pinSet(a), []nftables.SetElement{{Key: g.pinKey(a), Timeout: ttl, Comment: name}}
			err := k.conn.SetAddElements(s, e)
			if g.pins[a] != nil {
				err = errors.Join(err, k.conn.SetDeleteElements(s, []nftables.SetElement{{Key: g.pinKey(a)}}), k.conn.SetAddElements(s, e))
			}
			if err != nil {
				return err
			}
		}
		if err := k.commit(); err != nil {
			return err
		}
	}
	return nil
}

// takePins reads what an earlier server answered. What a policy does not list any more is taken back.
func (n *Network) takePins(guests []*guest) error {
	now := time.Now()
	for _, s := range []*nftables.Set{n.k.sets.pins4, n.k.sets.pins6} {
		all, err := n.k.conn.GetSetElements(s)
		if err != nil {
			return err
		}
		for _, e := range all {
			half := len(e.Key) / 2
			a, _ := netip.AddrFromSlice(e.Key[half:])
			i := slices.IndexFunc(guests, func(g *guest) bool {
				return slices.Equal(g.addr4.AsSlice(), e.Key[:half]) || slices.Equal(g.addr6.AsSlice(), e.Key[:half])
			})
			if i < 0 {
				continue // Of a slot of nobody: it goes with that.
			}
			g := guests[i]
			if !g.policy.Lookup(e.Comment).Pin {
				n.stale = append(n.stale, stalePin{g, a})
				continue
			}
			if g.pins == nil {
				g.pins = pins{}
			}
			g.pins[a] = map[string]time.Time{e.Comment: now.Add(e.Expires)}
		}
	}
	return nil
}

// stalePin is an address that an earlier server answered and that may not be reached any more.
type stalePin struct {
	g *guest
	a netip.Addr
}

// unpin takes addresses back. Those that have expired meanwhile are no error.
func (k *kernel) unpin(g *guest, addrs []netip.Addr) error {
	var errs []error
	for _, a := range addrs {
		if err := k.conn.SetDeleteElements(k.pinSet(a), []nftables.SetElement{{Key: g.pinKey(a)}}); err != nil {
			return err
		}
		if err := k.commit(); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Guest implements Names.
func (n *Network) Guest(addr netip.Addr) (Guest, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	g, ok := n.byAddr[addr.Unmap()]
	if !ok {
		return Guest{}, false
	}
	return g.view(), true
}

func (g *guest) view() Guest {
	return Guest{ID: g.ID, Addr4: g.addr4, Addr6: g.addr6, Policy: g.policy, Scope: g.scope}
}

// Peer implements Names.
func (n *Network) Peer(asking netip.Addr, id string) (Guest, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	g, ok := n.byAddr[asking.Unmap()]
	other, found := n.guests[id]
	if !ok || !found || g.scope == "" || other.scope != g.scope {
		return Guest{}, false
	}
	return other.view(), true
}

// Gateways implements Names.
func (n *Network) Gateways() []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.block.Range4.IsValid() {
		return nil
	}
	return n.block.gateways()
}

// Of returns the sandbox with an id, and whether it has a network.
func (n *Network) Of(id string) (Guest, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	g, ok := n.guests[id]
	if !ok {
		return Guest{}, false
	}
	return g.view(), true
}

// member reports whether an address is that of a member of a guest's scope. mu is held.
func (n *Network) member(g *guest, a netip.Addr) bool {
	other, ok := n.byAddr[a]
	return ok && g.scope != "" && other.scope == g.scope
}

// pinned returns a name that an address was answered for. mu is held.
func (g *guest) pinned(a netip.Addr) string {
	now := time.Now()
	for _, name := range slices.Sorted(maps.Keys(g.pins[a])) {
		if g.pins[a][name].After(now) {
			return name
		}
	}
	return ""
}

// live is what changes while a guest lives. mu is held, also when its functions are called.
func (n *Network) live(g *guest) egress.Live {
	return egress.Live{
		Resolver: func(a netip.Addr) bool { return slices.Contains(n.block.gateways(), a) },
		Member:   func(a netip.Addr) bool { return n.member(g, a) },
		Pinned:   g.pinned,
	}
}
