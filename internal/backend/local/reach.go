package local

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/resolver"
	"github.com/bermhq/berm/internal/core/egress"
)

// Network returns what the port promises.
func (b *Backend) Network(_ context.Context, id string, target egress.Target) (*backend.Network, error) {
	slot := ""
	if id != "" {
		s, err := b.get(id)
		if err != nil {
			return nil, err
		}
		slot = s.slot
	}
	out := &backend.Network{}
	if b.net == nil { // This machine runs no sandboxes.
		return out, nil
	}
	// The names of members end in a domain of the resolver's.
	if member, ok := strings.CutSuffix(target.Name, "."+resolver.MemberDomain); ok {
		if s, err := b.get(member); err == nil {
			target.Name = s.slot
		}
	}
	var err error
	if out.Around, err = b.net.Around(slot, target); err != nil {
		return nil, err
	}
	for i, f := range out.Around.Facts {
		out.Around.Facts[i].Member = b.idOf(f.Member)
	}
	g, ok := b.net.Of(slot)
	if !ok {
		return out, nil
	}
	out.Addresses = slices.DeleteFunc([]netip.Addr{g.Addr4, g.Addr6}, func(a netip.Addr) bool { return !a.IsValid() })
	denied, err := b.net.Denied(slot)
	if err != nil {
		return nil, err
	}
	out.Connections = map[string]int64{}
	for why, n := range denied {
		out.Connections[string(why)] = int64(n) //nolint:gosec // nobody sends 2^63 packets
	}
	b.mu.Lock()
	r := b.resolver
	b.mu.Unlock()
	if r != nil {
		out.Names = nameCounts(r.Stats(slot))
	}
	return out, nil
}

// idOf returns the id of the sandbox in a slot, which is the slot's name unless it was prepared.
func (b *Backend) idOf(slot string) string {
	if !isSlot(slot) {
		return slot
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, s := range b.sandboxes {
		if s.slot == slot {
			return id
		}
	}
	return "" // Prepared, and nobody's.
}

// nameCounts converts what the resolver counted.
func nameCounts(s resolver.Stats) backend.NameCounts {
	c := backend.NameCounts{
		Questions: s.Questions, Answered: s.Answered, Denied: s.Denied, Filtered: s.Filtered, Limited: s.Limited, Failed: s.Failed, Malformed: s.Malformed,
	}
	for _, d := range s.Denials {
		if len(c.Denials) < backend.MaxDenials {
			c.Denials = append(c.Denials, backend.NameDenial{Name: d.Name, Why: d.Why, Count: d.Count, Last: d.Last})
		}
	}
	return c
}
