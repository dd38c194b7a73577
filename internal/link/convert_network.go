package link

import (
	"math"
	"net/netip"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/egress"
)

// TargetMessage returns a destination.
func TargetMessage(t *egress.Target) *linkv1.Target {
	out := &linkv1.Target{Text: t.Text, Name: t.Name, Port: uint32(t.Port), Protocol: string(t.Protocol), Note: t.Note}
	if t.Addr.IsValid() {
		out.Address = t.Addr.String()
	}
	return out
}

// TargetOf is the reverse.
func TargetOf(m *linkv1.Target) egress.Target {
	out := egress.Target{Text: m.GetText(), Name: m.GetName(), Port: uint16(min(m.GetPort(), math.MaxUint16)), Protocol: egress.Protocol(m.GetProtocol()), Note: m.GetNote()} //nolint:gosec // bounded
	out.Addr, _ = netip.ParseAddr(m.GetAddress())
	return out
}

// NetworkMessage returns what is known of a network.
func NetworkMessage(n *backend.Network) *linkv1.NetworkResponse {
	out := &linkv1.NetworkResponse{
		Addresses: texts(n.Addresses), Resolvers: texts(n.Around.Resolvers), Connections: n.Connections,
		Site: &linkv1.Site{
			Denied: texts(n.Around.Site.Denied), Machine: texts(n.Around.Site.Machine), OnLink: texts(n.Around.Site.OnLink), Sandboxes: texts(n.Around.Site.Sandboxes),
			Nat64: texts(n.Around.Site.NAT64),
		},
		Names: &linkv1.NameCounts{
			Questions: n.Names.Questions, Answered: n.Names.Answered, Denied: n.Names.Denied, Filtered: n.Names.Filtered,
			Limited: n.Names.Limited, Failed: n.Names.Failed, Malformed: n.Names.Malformed,
		},
	}
	for _, f := range n.Around.Facts {
		out.Facts = append(out.Facts, &linkv1.Fact{Address: f.Addr.String(), Member: f.Member, Pinned: f.Pinned})
	}
	for _, d := range n.Names.Denials {
		out.Names.Denials = append(out.Names.Denials, &linkv1.NameDenial{Name: clip(d.Name, MaxText), Why: clip(d.Why, MaxText), Count: d.Count, Last: Stamp(d.Last)})
	}
	return out
}

// NetworkOf is the reverse.
func NetworkOf(m *linkv1.NetworkResponse) *backend.Network {
	site, names := m.GetSite(), m.GetNames()
	out := &backend.Network{
		Addresses: addrs(m.GetAddresses()),
		Around: egress.Around{
			Resolvers: addrs(m.GetResolvers()),
			Site: egress.Site{
				Denied: prefixes(site.GetDenied()), Machine: prefixes(site.GetMachine()), OnLink: prefixes(site.GetOnLink()), Sandboxes: prefixes(site.GetSandboxes()),
				NAT64: prefixes(site.GetNat64()),
			},
		},
		Names: backend.NameCounts{
			Questions: names.GetQuestions(), Answered: names.GetAnswered(), Denied: names.GetDenied(), Filtered: names.GetFiltered(),
			Limited: names.GetLimited(), Failed: names.GetFailed(), Malformed: names.GetMalformed(),
		},
	}
	for why, n := range m.GetConnections() {
		if len(out.Connections) == MaxList {
			break
		}
		if out.Connections == nil {
			out.Connections = map[string]int64{}
		}
		out.Connections[clip(why, MaxText)] = n
	}
	for i, f := range m.GetFacts() {
		addr, err := netip.ParseAddr(f.GetAddress())
		if i == MaxList || err != nil {
			break
		}
		out.Around.Facts = append(out.Around.Facts, egress.Fact{Addr: addr, Member: clip(f.GetMember(), MaxText), Pinned: clip(f.GetPinned(), MaxText)})
	}
	for i, d := range names.GetDenials() {
		if i == backend.MaxDenials {
			break
		}
		out.Names.Denials = append(out.Names.Denials, backend.NameDenial{Name: clip(d.GetName(), MaxText), Why: clip(d.GetWhy(), MaxText), Count: d.GetCount(), Last: Time(d.GetLast())})
	}
	return out
}
