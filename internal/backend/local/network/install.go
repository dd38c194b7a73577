package network

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/nft"
)

// shared is a policy chain in the kernel, and how many sandboxes have it. Those of nobody stay for a while: the next sandbox
// mostly has the policy of the one before.
type shared struct {
	chains chains
	guests int
	idle   bool
}

// maxIdle is how many policies of nobody are kept.
const maxIdle = 16

// install gives a guest its rules, in one step. mu is held.
func (n *Network) install(g *guest) (err error) {
	defer n.k.dropOn(&err)
	if err := n.addChains(g); err != nil {
		return err
	}
	if err := n.k.addGuest(g); err != nil {
		return err
	}
	if err := n.k.commit(); err != nil {
		return err
	}
	n.hold(g)
	return nil
}

// addChains adds the chains of a guest's policy unless they are there.
func (n *Network) addChains(g *guest) error {
	if n.chains[g.chains.policy] != nil {
		return nil
	}
	for _, s := range []*nftables.Set{g.chains.scope4, g.chains.scope6} {
		if s == nil || n.scopes[g.scope] != nil {
			continue
		}
		if err := n.k.addSet(s, nil); err != nil {
			return err
		}
	}
	return n.k.transcribe(g.policy, g.chains)
}

// hold counts a guest that the kernel has taken.
func (n *Network) hold(g *guest) {
	c := n.chains[g.chains.policy]
	if c == nil {
		c = &shared{chains: g.chains}
		n.chains[g.chains.policy] = c
	}
	c.guests++
	c.idle = false
	if g.scope == "" {
		return
	}
	if n.scopes[g.scope] == nil {
		n.scopes[g.scope] = map[*guest]bool{}
	}
	n.scopes[g.scope][g] = true
}

// uninstall takes a guest's rules away, in one step: its link is then unknown, and nothing comes through. mu is held.
func (n *Network) uninstall(g *guest) (err error) {
	defer n.k.dropOn(&err)
	if err := n.k.delGuest(g); err != nil {
		return err
	}
	c := n.chains[g.chains.policy]
	var dropped []string
	if c.guests == 1 {
		dropped = n.expire(g)
	}
	if err := n.k.commit(); err != nil {
		return err
	}
	c.guests--
	c.idle = c.guests == 0
	for _, name := range dropped {
		delete(n.chains, name)
	}
	if g.scope != "" {
		delete(n.scopes[g.scope], g)
		if len(n.scopes[g.scope]) == 0 {
			delete(n.scopes, g.scope)
		}
	}
	return nil
}

// expire removes policies of nobody where there are too many, and that of a scope with its last member, before the scope goes. It
// returns those that go with the next commit.
func (n *Network) expire(last *guest) []string {
	var drop []string
	idle := 0
	for name, c := range n.chains {
		if c.idle {
			if idle++; idle >= maxIdle {
				drop = append(drop, name)
			}
		}
	}
	if last.scope != "" { // Nobody else has the policy: each scope has one of its own.
		drop = append(drop, last.chains.policy)
	}
	for _, name := range drop {
		n.k.delChains(n.chains[name].chains)
	}
	if last.scope != "" {
		n.k.conn.DelSet(last.chains.scope4)
		n.k.conn.DelSet(last.chains.scope6)
	}
	return drop
}

// change gives a guest another policy: what it may newly reach, and what it may not any more, in one step. mu is held.
func (n *Network) change(g *guest, old chains) (err error) {
	defer n.k.dropOn(&err)
	if old.policy == g.chains.policy {
		return nil
	}
	if err := n.addChains(g); err != nil {
		return err
	}
	link := nft.IfName(n.link(g.slot))
	del := []nftables.SetElement{{Key: link, VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: old.policy}}}
	add := []nftables.SetElement{{Key: link, VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: g.chains.policy}}}
	err = errors.Join(n.k.conn.SetDeleteElements(n.k.sets.policy, del), n.k.conn.SetAddElements(n.k.sets.policy, add))
	err = errors.Join(err, n.k.eachMachine(link, old, n.k.conn.SetDeleteElements), n.k.eachMachine(link, g.chains, n.k.conn.SetAddElements))
	if err != nil {
		return err
	}
	last := n.chains[old.policy].guests == 1
	if last {
		n.k.delChains(old)
	}
	if err := n.k.commit(); err != nil {
		return err
	}
	if n.chains[old.policy].guests--; last {
		delete(n.chains, old.policy)
	}
	c := n.chains[g.chains.policy]
	if c == nil {
		c = &shared{chains: g.chains}
		n.chains[g.chains.policy] = c
	}
	c.guests++
	c.idle = false
	return nil
}

// addGuest and delGuest add and remove what the table has of one guest, but for what packets made.
func (k *kernel) addGuest(g *guest) error { return k.eachElement(g, k.conn.SetAddElements) }

func (k *kernel) delGuest(g *guest) error { return k.eachElement(g, k.conn.SetDeleteElements) }

// eachElement calls change with each element that a guest has in sets and maps.
func (k *kernel) eachElement(g *guest, change func(*nftables.Set, []nftables.SetElement) error) error {
	link := nft.IfName(k.link(g.slot))
	var errs []error
	one := func(s *nftables.Set, e nftables.SetElement) {
		if s != nil {
			errs = append(errs, change(s, []nftables.SetElement{e}))
		}
	}
	one(k.sets.source4, nftables.SetElement{Key: slices.Concat(link, g.addr4.AsSlice())})
	one(k.sets.policy, nftables.SetElement{Key: link, VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: g.chains.policy}})
	errs = append(errs, k.eachMachine(link, g.chains, change))
	one(g.chains.scope4, nftables.SetElement{Key: g.addr4.AsSlice()})
	if g.addr6.IsValid() {
		one(k.sets.source6, nftables.SetElement{Key: slices.Concat(link, g.addr6.AsSlice())})
		one(g.chains.scope6, nftables.SetElement{Key: g.addr6.AsSlice()})
	}
	return errors.Join(errs...)
}

// eachMachine calls change with the element that sends a link to what its policy opens of the machine, if it opens something.
func (k *kernel) eachMachine(link []byte, c chains, change func(*nftables.Set, []nftables.SetElement) error) error {
	if c.machine == "" {
		return nil
	}
	return change(k.sets.machine, []nftables.SetElement{{Key: link, VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: c.machine}}})
}

// delChains removes the chains of a policy that no link is sent to.
func (k *kernel) delChains(c chains) {
	for _, name := range []string{c.policy, c.machine} {
		if name == "" {
			continue
		}
		chain := &nftables.Chain{Name: name, Table: k.t}
		k.conn.FlushChain(chain)
		k.conn.DelChain(chain)
	}
}

// forgetSlot removes what packets of a slot made, so that the next sandbox with its address begins anew.
func (n *Network) forgetSlot(slot int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.k == nil {
		return nil
	}
	return n.k.forget(n.link(slot), n.addrs(slot)[0].AsSlice(), n.block.addr6(slot).AsSlice())
}

// forget removes counters and pins. Pins may expire on their own meanwhile: then what is left is looked at again.
func (k *kernel) forget(link string, addr4, addr6 []byte) error {
	for range attempts {
		err := k.forgetOnce(link, addr4, addr6)
		if !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return unix.ENOENT
}

// attempts is how often something is tried again that the kernel may do meanwhile itself.
const attempts = 5

func (k *kernel) forgetOnce(link string, addr4, addr6 []byte) error {
	found := false
	for s, prefix := range map[*nftables.Set][]byte{k.sets.denied: nft.IfName(link), k.sets.counted: nft.IfName(link), k.sets.asked: nft.IfName(link), k.sets.pace: nft.IfName(link), k.sets.begun: nft.IfName(link), k.sets.pins4: addr4, k.sets.pins6: addr6} {
		if len(prefix) == 0 {
			continue
		}
		old, err := k.elements(s, prefix)
		if err != nil {
			return err
		}
		for chunk := range slices.Chunk(old, maxElements) {
			found = true
			if err := k.conn.SetDeleteElements(s, chunk); err != nil {
				return err
			}
		}
	}
	if !found {
		return nil
	}
	return k.commit()
}

// elements lists the elements of a set whose key begins with prefix.
func (k *kernel) elements(s *nftables.Set, prefix []byte) ([]nftables.SetElement, error) {
	all, err := k.conn.GetSetElements(s)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(e nftables.SetElement) bool {
		return len(e.Key) < len(prefix) || !slices.Equal(e.Key[:len(prefix)], prefix)
	}), nil
}

// Denied returns how many connections of a sandbox were refused, by reason. Where the sandbox tries again, each try counts.
func (n *Network) Denied(id string) (map[Reason]uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	g, ok := n.guests[id]
	if !ok {
		return nil, nil
	}
	elements, err := n.k.elements(n.k.sets.denied, nft.IfName(n.link(g.slot)))
	if err != nil {
		return nil, err
	}
	out := map[Reason]uint64{}
	for _, e := range elements {
		i := int(binary.NativeEndian.Uint32(e.Key[unix.IFNAMSIZ:]))
		if i < len(reasons()) && e.Counter != nil {
			out[reasons()[i]] += e.Counter.Packets
		}
	}
	return out, nil
}
