package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/bermhq/berm/internal/failpoint"
)

// Adopt takes over what an earlier server left, and removes what belongs to none of living. It is called once, before Attach. The
// rules of the earlier server hold until those of this one replace them in one step. Policies are those of today: what they close
// that an earlier server let through is closed.
//
// It returns the ids of living sandboxes that have no network any more.
func (n *Network) Adopt(living []Request) (lost []string, err error) {
	if _, err := os.Stat(n.dir); err != nil {
		return ids(living), n.sweepStray()
	}
	if n.refusal != "" {
		return ids(living), nil
	}
	n.starting.Lock()
	defer n.starting.Unlock()
	if err := n.findBlockOfEarlier(); err != nil {
		return ids(living), err
	}
	guests, lost := n.reunite(living)
	if len(guests) == 0 {
		return lost, errors.Join(n.sweepSpaces(nil), n.sweepAll())
	}
	n.firstTranslators()
	if err := n.setUp(guests); err != nil {
		return lost, err
	}
	failpoint.Hit(failAdopted)
	goesOn := lastNone
	if !n.anew {
		taken := map[ends]bool{}
		for _, s := range n.stale {
			taken[s.g.to(s.a)] = true
		}
		goesOn = lastBut(taken)
	}
	n.stale = nil
	err = errors.Join(n.sweepSpaces(guests), n.closeForbidden(goesOn))
	n.background(n.watch)
	return lost, errors.Join(err, n.startNames())
}

func ids(all []Request) []string {
	out := make([]string, len(all))
	for i, r := range all {
		out[i] = r.ID
	}
	return out
}

// findBlockOfEarlier reads which block an earlier server took; none is no error.
func (n *Network) findBlockOfEarlier() error {
	if _, err := os.Stat(n.names.block()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return n.findBlock()
}

// reunite matches sandboxes with the slots that an earlier server gave them.
func (n *Network) reunite(living []Request) (guests []*guest, lost []string) {
	for _, r := range living {
		slot, err := n.slotOf(r.ID)
		if err != nil {
			lost = append(lost, r.ID)
			continue
		}
		n.pool.reserve(slot)
		guests = append(guests, &guest{Request: r, slot: slot, addr4: n.block.addr4(slot), addr6: n.block.addr6(slot)})
	}
	return guests, lost
}

// slotOf returns the slot that a sandbox has, if it is all there.
func (n *Network) slotOf(id string) (int, error) {
	text, err := os.Readlink(n.assignment(id))
	if err != nil {
		return 0, err
	}
	slot, err := strconv.Atoi(text)
	if err != nil || !n.block.Range4.IsValid() || slot < 0 || slot >= n.block.slots() {
		return 0, fmt.Errorf("sandbox %s has slot %q, which does not exist", id, text)
	}
	if _, err := os.Stat(n.namespace(slot)); err != nil {
		return 0, err
	}
	link, err := netlink.LinkByName(n.link(slot))
	if err == nil {
		err = netlink.LinkSetARPOff(link) // A server before this one left it on.
	}
	return slot, err
}

// sweepSpaces removes namespaces, links and assignments of nobody.
func (n *Network) sweepSpaces(guests []*guest) error {
	mine, known := map[int]bool{}, map[string]bool{}
	for _, g := range guests {
		mine[g.slot], known[g.ID] = true, true
	}
	found, err := n.spaces()
	if err != nil {
		return err
	}
	var errs []error
	for slot := range found {
		if !mine[slot] {
			errs = append(errs, n.removeSpace(slot), n.forgetStray(slot))
		}
	}
	entries, err := os.ReadDir(n.assigned())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			errs = append(errs, os.Remove(n.assignment(e.Name())))
		}
	}
	return errors.Join(errs...)
}

// forgetStray closes the connections of a slot of nobody, and removes what its packets made.
func (n *Network) forgetStray(slot int) error {
	if !n.block.Range4.IsValid() || slot >= n.block.slots() {
		return nil
	}
	four, six := n.block.addr4(slot), n.block.addr6(slot)
	return errors.Join(closeFlows(func(f flow) bool { return f.of(four) || f.of(six) }), n.forgetSlot(slot))
}

// sweepAll removes what all sandboxes shared, when none lives.
func (n *Network) sweepAll() error {
	k, err := newKernel(n.names, n.block, &n.cfg)
	if err != nil {
		return err
	}
	if n.ways.opened4, err = k.links(k.sets.opened4); err != nil {
		return err
	}
	if n.ways.opened6, err = k.links(k.sets.opened6); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	err = n.tearDown()
	n.block = block{}
	return err
}

// sweepStray removes links and rules of this backend when its directory is gone: somebody emptied it by hand.
func (n *Network) sweepStray() error {
	if n.refusal != "" {
		return nil
	}
	links, err := whole(netlink.LinkList)
	if err != nil {
		return err
	}
	for _, l := range links {
		if n.own(l.Attrs().Name) {
			return errors.Join(n.sweepSpaces(nil), n.sweepAll())
		}
	}
	return nil
}

// writeTable makes the table with the rules of some guests, or makes them anew when there is one. mu is held.
func (n *Network) writeTable(guests []*guest) error {
	for _, g := range guests {
		if err := n.compile(g); err != nil {
			return fmt.Errorf("sandbox %s: %w", g.ID, err)
		}
	}
	err := n.tryTable(guests, len(guests) > 0)
	if err != nil && len(guests) > 0 { // Of another version: what it counted and answered is lost, nothing else.
		n.log.Warn("the rules of an earlier server could not be taken over; they are made anew", "error", err)
		for _, g := range guests {
			g.pins = nil
		}
		n.stale, n.anew = nil, true
		err = n.tryTable(guests, false)
	}
	if err != nil {
		return err
	}
	for _, g := range guests {
		n.hold(g)
		n.remember(g)
	}
	for _, s := range n.stale {
		err = errors.Join(err, n.k.unpin(s.g, []netip.Addr{s.a}))
	}
	return err
}

// tryTable writes the table in one step: the rules before hold until all of it is there.
func (n *Network) tryTable(guests []*guest, keep bool) (err error) {
	defer n.k.dropOn(&err)
	if keep {
		if err := n.k.clear(); err != nil {
			return err
		}
		if n.ways.opened4, err = n.k.links(n.k.sets.opened4); err != nil {
			return err
		}
		if n.ways.opened6, err = n.k.links(n.k.sets.opened6); err != nil {
			return err
		}
		if err := n.takePins(guests); err != nil {
			return err
		}
	} else {
		n.k.wipe()
	}
	if err := n.k.begin(); err != nil {
		return err
	}
	made, scopes := map[string]bool{}, map[string]bool{}
	for _, g := range guests {
		if g.scope != "" && !scopes[g.scope] {
			scopes[g.scope] = true
			for _, s := range []*nftables.Set{g.chains.scope4, g.chains.scope6} {
				if err := n.k.addSet(s, nil); err != nil {
					return err
				}
			}
		}
		if !made[g.chains.policy] {
			made[g.chains.policy] = true
			if err := n.k.transcribe(g.policy, g.chains); err != nil {
				return err
			}
		}
		if err := n.k.addGuest(g); err != nil {
			return err
		}
	}
	return n.k.commit()
}

// clear removes the rules, chains and sets that begin and addGuest make, and keeps what packets and names made: counters,
// connections and pins.
func (k *kernel) clear() error {
	chains, err := k.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	all, err := k.conn.GetSets(k.t)
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, s := range []*nftables.Set{k.sets.source4, k.sets.source6, k.sets.policy, k.sets.machine} {
		k.conn.FlushSet(s)
	}
	for _, c := range chains {
		if c.Table.Name == k.t.Name {
			k.conn.FlushChain(c)
		}
	}
	for _, c := range chains {
		if c.Table.Name == k.t.Name && (strings.HasPrefix(c.Name, "policy-") || strings.HasPrefix(c.Name, "machine-")) {
			k.conn.DelChain(c)
		}
	}
	for _, s := range all {
		switch {
		case strings.HasPrefix(s.Name, "scope4-") || strings.HasPrefix(s.Name, "scope6-"):
			k.conn.DelSet(s)
		case s.Name == k.sets.begun.Name: // What is in it goes on by the limit that it was made with.
			k.conn.FlushSet(s)
		}
	}
	return nil
}
