package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
)

// restore makes the table anew where it is gone, with the rules of all sandboxes and what was answered to them, and reports whether it was.
//
// Whoever loads rules of their own into a machine mostly takes away all that are there before, ours too: `nft flush ruleset` is the first
// line of many a configuration. Without rules a sandbox reaches the machine and all around it. So the table is missed, and made anew.
func (n *Network) restore() (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.up || n.ctx.Err() != nil {
		return false, nil
	}
	there, err := n.k.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil || slices.ContainsFunc(there, func(t *nftables.Table) bool { return t.Name == n.table }) {
		return false, err
	}
	n.log.Error("somebody removed the firewall rules of the sandboxes, which reached what they must not until now; they are made anew", "table", n.table, "sandboxes", len(n.guests))
	guests := slices.Collect(maps.Values(n.guests))
	if err := n.tryTable(guests, false); err != nil {
		return false, fmt.Errorf("the rules that were removed could not be made anew: %w", err)
	}
	n.chains, n.scopes = map[string]*shared{}, map[string]map[*guest]bool{}
	for _, g := range guests {
		n.hold(g)
		err = errors.Join(err, n.k.pinAgain(g, time.Now()))
	}
	return true, errors.Join(err, n.openWays())
}

// pinAgain lets a guest reach what was answered to it, as long as that holds.
func (k *kernel) pinAgain(g *guest, now time.Time) error {
	var errs []error
	for a, names := range g.pins {
		for name, end := range names {
			if end.After(now) && end.Equal(g.pins.until(a, now)) {
				errs = append(errs, k.pin(g, name, []netip.Addr{a}, end.Sub(now)))
				break
			}
		}
	}
	return errors.Join(errs...)
}
