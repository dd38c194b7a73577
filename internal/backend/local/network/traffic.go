package network

import "github.com/vishvananda/netlink"

// Traffic returns how many bytes went in and out over the network of a sandbox, its questions to the resolver among them; 0 for
// one that has none, or whose link is gone.
func (n *Network) Traffic(id string) int64 {
	n.mu.Lock()
	g, ok := n.guests[id]
	if !ok {
		n.mu.Unlock()
		return 0
	}
	name := n.link(g.slot)
	n.mu.Unlock()
	link, err := netlink.LinkByName(name)
	if err != nil || link.Attrs().Statistics == nil {
		return 0
	}
	return int64(link.Attrs().Statistics.RxBytes + link.Attrs().Statistics.TxBytes)
}
