package remote

import (
	"context"
	"errors"
	"io"
	"sync"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/link"
)

// ReadFileFrom opens a file at an offset. The reader gives what the file had behind that, and no more.
func (l *Link) ReadFileFrom(ctx context.Context, id, path string, offset int64, prefix []byte) (io.ReadCloser, backend.FileInfo, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := l.bulk.ReadFileFrom(ctx, &linkv1.ReadFileFromRequest{SandboxId: id, Path: path, Offset: offset, Prefix: prefix})
	var first *linkv1.ReadFileFromResponse
	if err == nil {
		first, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) || err == nil && (first.GetInfo() == nil || first.GetInfo().GetSize() < offset) {
		err = link.Lied(l.cfg.RunnerID, "a file was opened at %d that has %d bytes", offset, first.GetInfo().GetSize())
	}
	if err != nil {
		err = l.fault(ctx, err)
		cancel()
		return nil, backend.FileInfo{}, err
	}
	next := func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), l.fault(ctx, err)
	}
	info := link.FileInfoOf(first.GetInfo())
	return &reader{l: l, next: next, left: info.Size - offset, cancel: cancel}, *info, nil
}

// WriteFileFrom writes a file from an offset on. When r fails, or the line, what came stays as a part.
func (l *Link) WriteFileFrom(ctx context.Context, id, path string, u backend.Upload, r io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.bulk.WriteFileFrom(ctx)
	if err != nil {
		return l.fault(ctx, err)
	}
	start := &linkv1.WriteFileFromRequest{Start: &linkv1.WriteFileFromStart{
		SandboxId: id, Path: path, Name: u.Name, Mode: u.Mode, ModifiedAt: link.Stamp(u.ModTime), Size: u.Size, Offset: u.Offset, Prefix: u.Prefix,
	}}
	breakOff := breakingOff(cancel, stream, &linkv1.WriteFileFromRequest{BrokeOff: true})
	begin := &begun{Reader: r, wait: func() { _, _ = stream.Header() }}
	if err := upload(breakOff, stream, start, func(b []byte) *linkv1.WriteFileFromRequest { return &linkv1.WriteFileFromRequest{Data: b} }, begin); err != nil {
		return err
	}
	_, err = stream.CloseAndRecv()
	return l.fault(ctx, unanswered(l, err))
}

// begun is a reader that is read once the runner wants it: from then on the runner knows of the file.
type begun struct {
	io.Reader
	once sync.Once
	wait func()
}

func (b *begun) Read(p []byte) (int, error) {
	b.once.Do(b.wait)
	return b.Reader.Read(p)
}

// FileState tells how far writing a file came.
func (l *Link) FileState(ctx context.Context, id, path, name string) (backend.FileState, error) {
	out, err := l.bulk.FileState(ctx, &linkv1.FileStateRequest{SandboxId: id, Path: path, Name: name})
	if err != nil {
		return backend.FileState{}, l.fault(ctx, err)
	}
	return backend.FileState{File: link.FileInfoOf(out.GetFile()), Partial: max(0, out.GetPartial()), Busy: out.GetBusy()}, nil
}
