package network

import (
	"errors"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
)

// watch keeps the rules true to what is around the machine, until the network is closed.
func (n *Network) watch() {
	changed, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	stop := n.subscribe(changed)
	defer stop()
	defer n.missRules(gone)()
	every := time.NewTicker(lookEvery)
	defer every.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-every.C:
		case <-gone:
		case <-changed:
			select { // More may follow: a link comes with addresses and routes.
			case <-time.After(settleTime):
			case <-n.ctx.Done():
				return
			}
		}
		if err := n.refresh(); err != nil {
			n.log.Error("the network around the machine changed, and the rules of sandboxes could not follow; it is tried again", "error", err)
		}
	}
}

// subscribe tells of changes of addresses and routes that are not this backend's own. What cannot be subscribed to is looked at from time
// to time anyway.
func (n *Network) subscribe(changed chan<- struct{}) (stop func()) {
	done := make(chan struct{})
	addrs, routes := make(chan netlink.AddrUpdate, 64), make(chan netlink.RouteUpdate, 64)
	failed := func(err error) { n.log.Debug("changes of the network are not told of any more", "error", err) }
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: failed}); err != nil {
		failed(err)
		close(addrs)
	}
	if err := netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ErrorCallback: failed}); err != nil {
		failed(err)
		close(routes)
	}
	tell := func() { wake(changed) }
	n.background(func() {
		for u := range addrs {
			if p, ok := netipx.FromStdIPNet(&u.LinkAddress); !ok || !n.ours(p.Addr()) {
				tell()
			}
		}
	})
	n.background(func() {
		for u := range routes {
			if u.Dst == nil {
				tell()
				continue
			}
			if p, ok := netipx.FromStdIPNet(u.Dst); !ok || !n.ours(p.Addr()) && !p.Addr().IsMulticast() {
				tell()
			}
		}
	})
	return func() { close(done) }
}

// wake tells who waits, once however often it is called.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
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
