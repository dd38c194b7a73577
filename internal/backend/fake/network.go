package fake

import (
	"context"
	"maps"
	"slices"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
)

// SetNetwork makes this backend know the network of a sandbox, or with the id "" what is around those that may come.
func (b *Backend) SetNetwork(id string, n *backend.Network) {
	b.locked(func() {
		if b.networks == nil {
			b.networks = map[string]*backend.Network{}
		}
		b.networks[id] = n
	})
}

// Network returns what a test set. Nothing runs here, so otherwise nothing is known.
func (b *Backend) Network(_ context.Context, id string, target egress.Target) (*backend.Network, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id != "" {
		if _, err := b.alive(id); err != nil {
			return nil, err
		}
	}
	n, ok := b.networks[id]
	if !ok {
		return nil, fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "the fake backend has no networks")
	}
	out := *n
	out.Connections = maps.Clone(n.Connections)
	out.Around.Facts = slices.DeleteFunc(slices.Clone(n.Around.Facts), func(f egress.Fact) bool {
		return f.Addr != target.Addr && (target.Name == "" || f.Pinned != target.Name && f.Member != target.Name)
	})
	return &out, nil
}
