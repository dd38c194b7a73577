package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/egress"
)

// flow is a connection that the kernel keeps track of, as who began it asked for it.
type flow struct {
	source, destination netip.Addr
	port                uint16
	protocol            uint8
}

// of reports whether a flow is from or to an address.
func (f flow) of(a netip.Addr) bool { return a.IsValid() && (f.source == a || f.destination == a) }

// asked is the flow as a destination of a policy.
func (f flow) asked() egress.Destination {
	d := egress.Destination{Addr: f.destination, Port: f.port, Protocol: egress.Other}
	switch f.protocol {
	case unix.IPPROTO_TCP:
		d.Protocol = egress.TCP
	case unix.IPPROTO_UDP:
		d.Protocol = egress.UDP
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		d.Protocol, d.Port = egress.Echo, 0 // Of these, only echo requests begin a flow that was let through.
	}
	return d
}

// closing is a filter that package netlink deletes flows by.
type closing func(flow) bool

func (c closing) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	return c(flow{source: addrOf(f.Forward.SrcIP), destination: addrOf(f.Forward.DstIP), port: f.Forward.DstPort, protocol: f.Forward.Protocol})
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// closeFlows makes the kernel forget flows: the next packet of one is then a new connection, and decided about as such.
func closeFlows(which func(flow) bool) error {
	var errs []error
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, closing(which))
		if errors.Is(err, netlink.ErrDumpInterrupted) { // Some may have been missed.
			_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, closing(which))
		}
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			errs = append(errs, fmt.Errorf("connections: %w", err))
		}
	}
	return errors.Join(errs...)
}

// ends are the two ends of a flow.
type ends struct{ source, destination netip.Addr }

// lasting says of a connection to what no rule but a name opens whether it goes on when the answer is over.
type lasting func(ends) bool

func lastAll(ends) bool  { return true }
func lastNone(ends) bool { return false }
func lastBut(some map[ends]bool) lasting {
	return func(e ends) bool { return !some[e] }
}

// closeForbidden closes connections that sandboxes began and that their policies do not allow any more.
func (n *Network) closeForbidden(goesOn lasting) error {
	return closeFlows(func(f flow) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.block.Range4.Contains(f.source) && !n.block.Range6.Contains(f.source) {
			return false
		}
		g, ok := n.byAddr[f.source]
		if !ok { // The gateway's own, or of nobody.
			return !n.gateway(f.source)
		}
		i := g.policy.Decide(f.asked(), n.live(g))
		if i < 0 {
			return true
		}
		r := &g.policy.Rules[i]
		return !r.Allow && !(r.Kind == egress.KindAny && g.named() && goesOn(ends{f.source, f.destination}))
	})
}

// named reports whether a guest may reach what was answered for names.
func (g *guest) named() bool {
	return slices.ContainsFunc(g.policy.Rules, func(r egress.Rule) bool { return r.Kind == egress.KindName })
}

// to is the flow from a guest to an address.
func (g *guest) to(a netip.Addr) ends {
	if a.Is4() {
		return ends{g.addr4, a}
	}
	return ends{g.addr6, a}
}

// gateway reports whether an address is one of the gateways. mu is held.
func (n *Network) gateway(a netip.Addr) bool {
	return a == n.block.gateway4() || a == n.block.gateway6()
}
