package fake

import (
	"context"
	"encoding/json"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// SetDrift makes this backend tell what differs of a sandbox.
func (b *Backend) SetDrift(id string, d *backend.Drift) {
	b.locked(func() {
		if b.drifts == nil {
			b.drifts = map[string]*backend.Drift{}
		}
		b.drifts[id] = d
	})
}

// Drift returns what a test set. Nothing else holds an object here.
func (b *Backend) Drift(_ context.Context, id string, _ json.RawMessage) (*backend.Drift, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.reachable(); err != nil {
		return nil, err
	}
	if b.sandboxes[id] == nil {
		return nil, fault.NotFoundf(fault.ReasonSandboxNotFound, "sandbox %s is not known here", id)
	}
	d, ok := b.drifts[id]
	if !ok {
		return nil, fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "nobody but the fake backend holds an object of its sandboxes")
	}
	return d, nil
}
