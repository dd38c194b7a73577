package network

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// watch keeps the rules true to what is around the machine, until the network is closed: to addresses and routes, and to whether the
// table is there, whoever's it is that goes. What the kernel does not tell of is looked at from time to time.
func (n *Network) watch() {
	changed, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	around := n.subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	n.background(func() {
		n.hear(ear{what: "addresses and routes", dial: around, concerns: n.foreign, woken: changed, pause: hearAgain})
	})
	tables := n.subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	n.background(func() {
		n.hear(ear{what: "firewall rules", dial: tables, concerns: tableGone, woken: gone, pause: hearAgain})
	})
	moved, found := make(chan struct{}, 1), make(chan struct{}, 1)
	if n.asksTranslators() {
		n.background(func() { n.watchTranslators(moved, found) })
	}
	every := time.NewTicker(n.lookEvery)
	defer every.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-every.C:
		case <-gone:
		case <-found:
		case <-changed:
			select { // More may follow: a link comes with addresses and routes.
			case <-time.After(settleTime):
			case <-n.ctx.Done():
				return
			}
			wake(moved)
		}
		if err := n.refresh(); err != nil {
			n.log.Error("the network around the machine changed, and the rules of sandboxes could not follow; it is tried again", "error", err)
		}
	}
}

// refresh looks around, and where that changed gives each sandbox the rules for it: new connections that are now closed are refused, and
// those that live are closed.
func (n *Network) refresh() error {
	restored, err := n.restore()
	if restored {
		_, e := n.follow()
		return errors.Join(err, e, n.closeForbidden(lastNone))
	}
	if err != nil {
		return err
	}
	changed, err := n.follow()
	if err != nil || !changed {
		return err
	}
	return n.closeForbidden(lastAll)
}

// follow changes the rules, and reports whether there was anything to change.
func (n *Network) follow() (changed bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.up || n.ctx.Err() != nil {
		return false, nil
	}
	a, err := n.look()
	if err != nil {
		return false, err
	}
	changed = !equalSites(a.site, n.around.site)
	n.around = *a
	if err := n.openWays(); err != nil || !changed {
		return changed, err
	}
	for _, g := range n.guests {
		old := *g
		err := n.compile(g)
		if err == nil {
			err = n.change(g, old.chains)
		}
		if err != nil {
			g.policy, g.scope, g.chains = old.policy, old.scope, old.chains
			n.around.site.Machine = nil // So that it counts as changed again.
			return true, err
		}
	}
	return true, nil
}

// ours reports whether an address is of this backend's block.
func (n *Network) ours(a netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.block.Range4.Contains(a) || n.block.Range6.Contains(a)
}
