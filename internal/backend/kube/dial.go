package kube

import (
	"context"

	"github.com/bermhq/berm/internal/backend"
)

// Dial connects to a port of a sandbox.
func (b *Backend) Dial(ctx context.Context, id string, port uint16) (backend.Conn, error) {
	client, err := b.await(ctx, id)
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, port)
	if err != nil {
		return nil, b.explain(id, err)
	}
	return c, nil
}
