package local

import (
	"context"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/egress"
)

// Network returns what the port promises. Sandboxes here have none yet, so there is nothing around them.
func (b *Backend) Network(_ context.Context, id string, _ egress.Target) (*backend.Network, error) {
	if id != "" {
		if _, err := b.get(id); err != nil {
			return nil, err
		}
	}
	return &backend.Network{}, nil
}
