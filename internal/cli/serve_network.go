package cli

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/bermhq/berm/internal/app"
	"github.com/bermhq/berm/internal/backend/local/network"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
)

// networkFlags are the flags of `berm serve` about the network of sandboxes.
type networkFlags struct {
	ranges, denied, nat64, servers    []string
	bandwidth                         string
	connections, perSecond, all, pool int
}

func (n *networkFlags) bind(f *pflag.FlagSet) {
	f.StringArrayVar(&n.ranges, "sandbox-range", nil, "CIDR that sandboxes get their addresses from, one for IPv4 and one for IPv6 (default "+network.DefaultRange4+" and "+network.DefaultRange6+")")
	f.StringArrayVar(&n.denied, "deny-egress", nil, "CIDR that no sandbox reaches, whatever profiles say, repeatable")
	f.StringArrayVar(&n.nat64, "nat64-prefix", nil, "prefix of a translator (NAT64) by which this machine reaches IPv4, repeatable (default: what its name servers say)")
	f.StringArrayVar(&n.servers, "name-server", nil, "ADDRESS[:PORT] to ask for the names of sandboxes, repeatable (default: those of the machine)")
	f.IntVar(&n.connections, "sandbox-connections", network.DefaultConnections, "connections that a sandbox may have at a time")
	f.IntVar(&n.perSecond, "sandbox-connection-rate", network.DefaultConnectionsPerSecond, "connections that a sandbox may begin per second")
	f.IntVar(&n.all, "all-sandbox-connections", 0, "connections that all sandboxes of a runner may have together (default: half of what the machine keeps track of)")
	f.StringVar(&n.bandwidth, "sandbox-bandwidth", "", "bytes per second that a sandbox may send, and receive, such as 10Mi (default: no bound)")
	f.IntVar(&n.pool, "network-pool", network.DefaultPool, "network namespaces that are prepared ahead once a sandbox has used one; 0 prepares none")
}

// read converts the flags and says which of them makes no sense.
func (n *networkFlags) read() (out app.Network, err error) {
	if out.Ranges, err = prefixes("--sandbox-range", n.ranges); err != nil {
		return out, err
	}
	if len(out.Ranges) > 2 || len(out.Ranges) == 2 && out.Ranges[0].Addr().Is4() == out.Ranges[1].Addr().Is4() {
		return out, fault.Invalidf("USAGE", "--sandbox-range is given more than once for a family").WithHint("Give one IPv4 and one IPv6 range.")
	}
	if out.Denied, err = prefixes("--deny-egress", n.denied); err != nil {
		return out, err
	}
	if out.NAT64, err = prefixes("--nat64-prefix", n.nat64); err != nil {
		return out, err
	}
	if i := slices.IndexFunc(out.NAT64, func(p netip.Prefix) bool { return !egress.ValidNAT64(p) }); i >= 0 || len(out.NAT64) > egress.MaxNAT64 {
		return out, fault.Invalidf("USAGE", "--nat64-prefix %s", strings.Join(n.nat64, " ")).
			WithHint("Give at most %d prefixes of IPv6 of 32, 40, 48, 56, 64 or 96 bits, such as 2001:db8:64::/96.", egress.MaxNAT64)
	}
	for _, text := range n.servers {
		s, err := nameServer(text)
		if err != nil {
			return out, err
		}
		out.NameServers = append(out.NameServers, s)
	}
	if n.bandwidth != "" {
		q, err := resource.ParseQuantity(n.bandwidth)
		if err != nil || q.Value() < network.MinBytesPerSecond {
			return out, fault.Invalidf("USAGE", "--sandbox-bandwidth %q", n.bandwidth).WithHint("Give at least %d bytes per second, such as 10Mi.", network.MinBytesPerSecond)
		}
		out.BytesPerSecond = uint64(q.Value())
	}
	if n.connections < 1 || n.connections > network.MaxConnections {
		return out, fault.Invalidf("USAGE", "--sandbox-connections %d", n.connections).WithHint("Give 1 to %d.", network.MaxConnections)
	}
	if n.perSecond < 1 || n.perSecond > network.MaxConnectionsPerSecond {
		return out, fault.Invalidf("USAGE", "--sandbox-connection-rate %d", n.perSecond).WithHint("Give 1 to %d.", network.MaxConnectionsPerSecond)
	}
	if n.all < 0 || n.all > network.MaxAllConnections {
		return out, fault.Invalidf("USAGE", "--all-sandbox-connections %d", n.all).WithHint("Give 1 to %d.", network.MaxAllConnections)
	}
	if n.pool < 0 || n.pool > network.MaxPool {
		return out, fault.Invalidf("USAGE", "--network-pool %d", n.pool).WithHint("Give 0 to %d.", network.MaxPool)
	}
	out.Connections, out.ConnectionsPerSecond, out.AllConnections, out.Pool = n.connections, n.perSecond, n.all, n.pool
	if n.pool == 0 {
		out.Pool = -1
	}
	return out, nil
}

func prefixes(flag string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Is4In6() {
			return nil, fault.Invalidf("USAGE", "%s %q is no range of addresses", flag, text).WithHint("Write it like 10.88.0.0/16 or fd00:88::/64.")
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// nameServer reads an address with or without a port.
func nameServer(text string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	s, err := netip.ParseAddrPort(text)
	if err != nil {
		return s, fault.Invalidf("USAGE", "--name-server %q is no address", text).WithHint("Write it like 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53.")
	}
	return s, nil
}
