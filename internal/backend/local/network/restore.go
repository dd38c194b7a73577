package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Whoever loads rules of their own into a machine mostly takes away all that are there before, ours too: `nft flush ruleset` is the first
// line of many a configuration. Without rules a sandbox reaches the machine and all around it. So the table is missed, and made anew.

// missRules tells when a table goes, whoever's it is: what is true then is looked at. Where that cannot be heard it is looked at from
// time to time.
func (n *Network) missRules(gone chan<- struct{}) (stop func()) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err == nil {
		err = errors.Join(c.SetReadBuffer(socketBytes), c.JoinGroup(unix.NFNLGRP_NFTABLES))
	}
	if err != nil {
		n.log.Warn("changes of firewall rules cannot be heard; they are looked at from time to time", "error", err)
		return func() {}
	}
	n.background(func() {
		for {
			all, err := c.Receive()
			switch {
			case errors.Is(err, unix.ENOBUFS): // Some were missed.
				wake(gone)
			case err != nil:
				if !errors.Is(err, os.ErrClosed) && n.ctx.Err() == nil {
					n.log.Warn("changes of firewall rules are not heard any more; they are looked at from time to time", "error", err)
				}
				return
			case slices.ContainsFunc(all, func(m netlink.Message) bool { return m.Header.Type == tableGone }):
				wake(gone)
			}
		}
	})
	return func() { _ = c.Close() }
}

// tableGone is the type of the message that says that a table is gone.
const tableGone = netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE)

// restore makes the table anew where it is gone, with the rules of all sandboxes and what was answered to them, and reports whether it was.
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
