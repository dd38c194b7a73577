package app

import (
	"net/netip"

	"github.com/bermhq/berm/internal/backend/local/network"
)

// Network is how sandboxes of the embedded runners are connected; the zero value is a sane one.
type Network struct {
	// Ranges are where sandboxes get their addresses from, at most one per family.
	Ranges []netip.Prefix
	// Denied are ranges that no sandbox reaches, whatever profiles say.
	Denied []netip.Prefix
	// NAT64 are the prefixes of translators that this machine reaches IPv4 by; without any its name servers are asked.
	NAT64 []netip.Prefix
	// NameServers are asked for names instead of those of the machine.
	NameServers []netip.AddrPort
	// Connections, ConnectionsPerSecond and BytesPerSecond bound each sandbox, AllConnections those of a runner together; Pool is how many namespaces each runner
	// prepares ahead.
	Connections          int
	ConnectionsPerSecond int
	AllConnections       int
	BytesPerSecond       uint64
	Pool                 int
}

// config is what the network of a runner is told.
func (n *Network) config() network.Config {
	c := network.Config{
		Denied: n.Denied, NAT64: n.NAT64, Connections: n.Connections, ConnectionsPerSecond: n.ConnectionsPerSecond, AllConnections: n.AllConnections,
		BytesPerSecond: n.BytesPerSecond, Pool: n.Pool,
	}
	for _, r := range n.Ranges {
		if r.Addr().Is4() {
			c.Range4 = r
		} else {
			c.Range6 = r
		}
	}
	return c
}
