package runner

import (
	"context"
	"io"

	"github.com/bermhq/berm/internal/backend"
)

// ReadFileFrom opens a file of a sandbox at an offset.
func (a *Agent) ReadFileFrom(ctx context.Context, id, path string, offset int64, prefix []byte) (io.ReadCloser, backend.FileInfo, error) {
	return a.backend.ReadFileFrom(ctx, id, path, offset, prefix)
}

// WriteFileFrom writes a file of a sandbox from an offset on.
func (a *Agent) WriteFileFrom(ctx context.Context, id, path string, u backend.Upload, r io.Reader) error {
	return a.backend.WriteFileFrom(ctx, id, path, u, r)
}

// FileState tells how far writing a file of a sandbox came.
func (a *Agent) FileState(ctx context.Context, id, path, name string) (backend.FileState, error) {
	return a.backend.FileState(ctx, id, path, name)
}

// Dial connects to a port of a sandbox.
func (a *Agent) Dial(ctx context.Context, id string, port uint16) (backend.Conn, error) {
	return a.backend.Dial(ctx, id, port)
}
