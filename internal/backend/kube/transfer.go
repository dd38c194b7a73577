package kube

import (
	"context"
	"io"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/shim"
)

// ReadFileFrom opens a file of a sandbox at an offset.
func (b *Backend) ReadFileFrom(ctx context.Context, id, path string, offset int64, prefix []byte) (io.ReadCloser, backend.FileInfo, error) {
	client, err := b.await(ctx, id)
	if err != nil {
		return nil, backend.FileInfo{}, err
	}
	r, info, err := client.ReadFrom(ctx, path, offset, prefix)
	if err != nil {
		return nil, backend.FileInfo{}, b.explain(id, err)
	}
	return r, backend.FileInfo(info), nil
}

// WriteFileFrom writes a file of a sandbox from an offset on.
func (b *Backend) WriteFileFrom(ctx context.Context, id, path string, u backend.Upload, r io.Reader) error {
	client, err := b.await(ctx, id)
	if err != nil {
		return err
	}
	return b.explain(id, client.WriteFrom(ctx, path, shim.Upload(u), r))
}

// FileState tells how far writing a file of a sandbox came.
func (b *Backend) FileState(ctx context.Context, id, path, name string) (backend.FileState, error) {
	client, err := b.await(ctx, id)
	if err != nil {
		return backend.FileState{}, err
	}
	s, err := client.FileState(ctx, path, name)
	if err != nil {
		return backend.FileState{}, b.explain(id, err)
	}
	state := backend.FileState{Partial: s.Partial, Busy: s.Busy}
	if s.File != nil {
		info := backend.FileInfo(*s.File)
		state.File = &info
	}
	return state, nil
}
