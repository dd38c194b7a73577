package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/egress"
)

// probe finds out whether this machine can do what is needed, by doing it in a network namespace that is gone afterwards: links,
// settings, every sort of rule, and connection tracking. The machine's own network is not touched.
func (n *Network) probe() error {
	if os.Geteuid() != 0 {
		return errors.New("it needs root: network namespaces, links and firewall rules are made for each sandbox")
	}
	return inNewNamespace(n.probeHere)
}

func (n *Network) probeHere() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.link(0)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: n.peer()}); err != nil {
		return fmt.Errorf("pairs of links cannot be made (veth): %w", err)
	}
	link, err := netlink.LinkByName(attrs.Name)
	if err != nil {
		return err
	}
	six := forwardsSix()
	for _, s := range append(insideSettings(six), hostSettings(attrs.Name, six)...) {
		if err := s.write(); err != nil {
			return err
		}
	}
	if err := n.shape(nil, link); err != nil {
		return err
	}
	if err := n.probeRules(six); err != nil {
		return fmt.Errorf("the kernel does not take the firewall rules: %w", err)
	}
	if _, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET); err != nil {
		return fmt.Errorf("connections cannot be listed (nf_conntrack_netlink): %w", err)
	}
	return nil
}

// probeRules writes rules of every sort, for a sandbox that is not there.
func (n *Network) probeRules(six bool) error {
	b := block{Range4: nth(netip.MustParsePrefix(DefaultRange4), blockBits4, 0)}
	if six {
		b.Range6 = nth(netip.MustParsePrefix(DefaultRange6), blockBits6, 0)
	}
	k, err := newKernel(n.names, b, &n.cfg)
	if err != nil {
		return err
	}
	if err := k.begin(); err != nil {
		return err
	}
	for _, mode := range []*specpb.EgressMode{
		{Type: string(egress.Internet)}, {Type: string(egress.Org)},
		{Type: string(egress.Allowlist), Cidrs: []string{"192.0.2.0/24", "192.0.2.1/32"}, DnsNames: []string{"name.example"}},
	} {
		p, err := egress.Compile("probe", mode, egress.Site{Machine: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}})
		if err != nil {
			return err
		}
		g := &guest{policy: p, addr4: b.addr4(0), addr6: b.addr6(0), chains: k.chainsOf(p, "probe")}
		for _, s := range []*nftables.Set{g.chains.scope4, g.chains.scope6} {
			if s != nil {
				if err := k.addSet(s, nil); err != nil {
					return err
				}
			}
		}
		if err := k.transcribe(p, g.chains); err != nil {
			return err
		}
		if mode.GetType() != string(egress.Allowlist) {
			continue
		}
		if err := k.addGuest(g); err != nil {
			return err
		}
	}
	return k.commit()
}
