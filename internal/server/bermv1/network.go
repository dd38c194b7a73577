package bermv1

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

func (s *explainService) ExplainNetwork(ctx context.Context, r *bermv1.ExplainNetworkRequest) (*bermv1.NetworkDecision, error) {
	d, err := s.control.ExplainNetwork(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetDestination())
	if err != nil {
		return nil, err
	}
	return decision(d), nil
}

// networkState returns what is known of the network of a sandbox. Not to know it is no error: it may have ended, or its runner be
// out of contact.
func (s *explainService) networkState(ctx context.Context, id string) *bermv1.NetworkState {
	n, err := s.control.Network(ctx, edge.Principal(ctx), id)
	if err != nil {
		return nil
	}
	out := &bermv1.NetworkState{Addresses: texts(n.Addresses), Resolvers: texts(n.Around.Resolvers), Names: nameCounts(n.Names)}
	for _, why := range slices.SortedFunc(maps.Keys(n.Connections), func(a, b string) int {
		return cmp.Or(cmp.Compare(n.Connections[b], n.Connections[a]), cmp.Compare(a, b))
	}) {
		out.DeniedConnections = append(out.DeniedConnections, &bermv1.DeniedConnections{Why: why, Packets: n.Connections[why]})
	}
	return out
}

func texts(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

func nameCounts(n backend.NameCounts) *bermv1.NameCounts {
	out := &bermv1.NameCounts{
		Questions: n.Questions, Answered: n.Answered, Denied: n.Denied, Filtered: n.Filtered, Limited: n.Limited, Failed: n.Failed, Malformed: n.Malformed,
	}
	for _, d := range n.Denials {
		out.Denials = append(out.Denials, &bermv1.DeniedName{Name: d.Name, Why: d.Why, Count: d.Count, Last: wire.Time(d.Last)})
	}
	return out
}

func decision(d *control.NetworkDecision) *bermv1.NetworkDecision {
	j := d.Judgement
	out := &bermv1.NetworkDecision{
		SandboxId: d.SandboxID, RunnerId: d.RunnerID, Destination: d.Target.Text, Name: d.Target.Name, Port: int32(d.Target.Port), Protocol: string(d.Target.Protocol),
		Note: d.Target.Note, Verdict: string(j.Verdict), Why: j.Why, Rule: rule(d.Rule), Mode: d.Mode, Type: string(d.Type),
		ChosenBy: one(d.Chosen), Modes: one(d.Modes), Live: d.Live, LiveNote: d.Note,
	}
	if d.Target.Addr.IsValid() {
		out.Address = d.Target.Addr.String()
	}
	if l := j.Lookup; l != nil {
		out.Lookup = &bermv1.NameLookup{Allowed: l.Allow, Pins: l.Pin, Scope: l.Scope, Why: l.Why}
	}
	for _, a := range d.Addresses {
		out.Addresses = append(out.Addresses, &bermv1.NetworkAddress{
			Address: a.Addr.String(), Allowed: a.Allow, PinnedFor: a.Pinned, Member: a.Member, Rule: rule(a.Rule),
		})
	}
	return out
}

func rule(r *control.NetworkRule) *bermv1.NetworkRule {
	if r == nil {
		return nil
	}
	out := &bermv1.NetworkRule{
		Allow: r.Allow, Kind: string(r.Kind), Class: string(r.Class), Path: r.Path, Why: r.Why, Name: r.Name,
		Layer: r.Layer, Object: r.Object, Revision: r.Revision, By: r.By,
	}
	if len(r.Ranges) == 1 {
		out.Range = r.Ranges[0].String()
	}
	return out
}

func one(f *control.ExplainedField) *bermv1.ExplainedField {
	if f == nil {
		return nil
	}
	return explained([]control.ExplainedField{*f})[0]
}
