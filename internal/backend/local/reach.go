package local

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/resolver"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
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
	// The name of a member is its id, also in a domain of the resolver's.
	if s, err := b.get(strings.TrimSuffix(target.Name, "."+resolver.MemberDomain)); err == nil {
		target.Name = s.slot
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
	out.Names = b.nameCounts(slot)
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

// nameCounts returns what became of the names that a sandbox asked for.
func (b *Backend) nameCounts(slot string) backend.NameCounts {
	b.mu.Lock()
	r := b.resolver
	b.mu.Unlock()
	if r == nil {
		return backend.NameCounts{}
	}
	s := r.Stats(slot)
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

// withDenials adds to the event of the end how often something was denied to a sandbox. Nothing else remembers it afterwards.
func (b *Backend) withDenials(slot string, events []core.Event) []core.Event {
	i := slices.IndexFunc(events, func(e core.Event) bool { return e.Name == "ended" })
	if b.net == nil || i < 0 {
		return events
	}
	if _, ok := b.net.Of(slot); !ok {
		return events
	}
	attrs := map[string]string{}
	denied, err := b.net.Denied(slot)
	if err != nil {
		b.log.Warn("what was denied to a sandbox could not be counted at its end", "slot", slot, "error", err)
	}
	var packets uint64
	for _, n := range denied {
		packets += n
	}
	if packets > 0 {
		attrs["denied_packets"] = strconv.FormatUint(packets, 10)
	}
	if n := b.nameCounts(slot); n.Denied > 0 {
		attrs["denied_names"] = strconv.FormatInt(n.Denied, 10)
	}
	if len(attrs) > 0 {
		events[i].Attrs = attrs
	}
	return events
}

// Drift is not known: the runtime keeps no object that anybody else could change.
func (b *Backend) Drift(_ context.Context, id string, _ json.RawMessage) (*backend.Drift, error) {
	if _, err := b.get(id); err != nil {
		return nil, err
	}
	return nil, fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "nobody but Berm holds an object of sandbox %s, so that none could differ", id).
		WithHint("Only sandboxes on Kubernetes have one. berm explain %s --submitted shows what was given to the runtime.", id)
}
