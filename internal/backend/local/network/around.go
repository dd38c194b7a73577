package network

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/bermhq/berm/internal/core/egress"
)

// Around returns what is known now around a sandbox and of a target; with the id "" what is around one that may come. A sandbox without
// a network has nothing around it but the machine.
func (n *Network) Around(id string, target egress.Target) (egress.Around, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := egress.Around{Site: n.around.site}
	if !n.up { // Nobody has a network, and the machine is not watched.
		a, err := n.look()
		if err != nil {
			return out, err
		}
		out.Site = a.site
	}
	g, ok := n.guests[id]
	if !ok {
		return out, nil
	}
	out.Resolvers = n.block.gateways()
	switch {
	case target.Addr.IsValid():
		out.Facts = []egress.Fact{n.fact(g, target.Addr.Unmap())}
	case target.Name != "":
		out.Facts = n.named(g, target.Name)
	}
	return out, nil
}

// fact is what is known of an address. mu is held.
func (n *Network) fact(g *guest, a netip.Addr) egress.Fact {
	f := egress.Fact{Addr: a, Pinned: g.pinned(a)}
	if n.member(g, a) {
		f.Member = n.byAddr[a].ID
	}
	return f
}

// named are the addresses that a name stands for now: those answered, and those of the sandbox of the scope with that id. mu is held.
func (n *Network) named(g *guest, name string) []egress.Fact {
	now := time.Now()
	var out []egress.Fact
	for _, a := range slices.SortedFunc(maps.Keys(g.pins), netip.Addr.Compare) {
		if g.pins[a][name].After(now) && len(out) < egress.MaxFacts {
			f := n.fact(g, a)
			f.Pinned = name
			out = append(out, f)
		}
	}
	if other, ok := n.guests[name]; ok && g.scope != "" && other.scope == g.scope {
		for _, a := range n.addrs(other.slot) {
			out = append(out, egress.Fact{Addr: a, Member: other.ID})
		}
	}
	return out
}
