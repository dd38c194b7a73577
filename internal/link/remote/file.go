package remote

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/link"
)

// breakOffTimeout bounds how long a runner may take to keep what it was sent of a file that broke off.
const breakOffTimeout = 10 * time.Second

// ReadFile opens a file. The reader gives no more than limit bytes, whatever the runner sends.
func (l *Link) ReadFile(ctx context.Context, id, path string, limit int64) (io.ReadCloser, int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := l.bulk.ReadFile(ctx, &linkv1.ReadFileRequest{SandboxId: id, Path: path, Limit: limit})
	if err != nil {
		err = l.fault(ctx, err) // before ctx ends
		cancel()
		return nil, 0, err
	}
	first, err := stream.Recv()
	if err == nil && (first.GetSize() < 0 || first.GetSize() > limit) {
		err = link.Lied(l.cfg.RunnerID, "a file of %d bytes, where at most %d were asked for", first.GetSize(), limit)
	}
	if errors.Is(err, io.EOF) {
		err = link.Lied(l.cfg.RunnerID, "a file was neither opened nor refused")
	}
	if err != nil {
		err = l.fault(ctx, err) // before ctx ends
		cancel()
		return nil, 0, err
	}
	next := func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), l.fault(ctx, err)
	}
	return &reader{l: l, next: next, rest: first.GetData(), left: limit, cancel: cancel}, first.GetSize(), nil
}

// ReadArchive packs what is at a path.
func (l *Link) ReadArchive(ctx context.Context, id, path string, part backend.ArchivePart) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := l.bulk.ReadArchive(ctx, &linkv1.ReadArchiveRequest{
		SandboxId: id, Path: path, Bare: part.Bare, Skip: part.Skip, Begun: link.BegunMessages(part.Begun),
	})
	if err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		err = link.Lied(l.cfg.RunnerID, "an archive was neither begun nor refused")
	}
	if err != nil {
		err = l.fault(ctx, err)
		cancel()
		return nil, err
	}
	next := func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), l.fault(ctx, err)
	}
	return &reader{l: l, next: next, left: -1, cancel: cancel}, nil
}

// reader is a stream of pieces. io.EOF comes only when the runner said that it was all.
type reader struct {
	l      *Link
	next   func() ([]byte, error)
	rest   []byte
	left   int64 // how many bytes may come, negative for any number
	err    error
	cancel context.CancelFunc
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.rest, r.err = r.next(); r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.rest)
	if r.left >= 0 {
		if r.left -= int64(n); r.left < 0 {
			r.cancel()
			r.rest, r.left = nil, 0
			r.err = link.Lied(r.l.cfg.RunnerID, "a file has more bytes than were asked for")
			return 0, r.err
		}
	}
	r.rest = r.rest[n:]
	return n, nil
}

func (r *reader) Close() error {
	r.cancel()
	return nil
}

// sender is a stream of pieces to the runner.
type sender[T any] interface {
	Send(*T) error
	CloseSend() error
}

// upload sends all of a reader in pieces. When the reader fails the runner is told by breakOff, so that it never takes a part for the
// whole. Why the stream ended early is for the caller to ask.
func upload[T any](breakOff func(), stream sender[T], start *T, piece func([]byte) *T, r io.Reader) error {
	if err := stream.Send(start); err != nil {
		return nil //nolint:nilerr // the answer says why
	}
	buf := make([]byte, link.Chunk)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := stream.Send(piece(buf[:n])); err != nil {
				return nil //nolint:nilerr // the answer says why
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			breakOff()
			return err
		}
	}
}

// breakingOff tells the runner behind what came that nothing comes any more, so that it keeps what came: a cancelled stream loses what is
// on its way. The stream stays open meanwhile, because its end would say that this was all. A runner of the version before, which does
// not know the message, waits for more: it is not waited for long.
func breakingOff(cancel context.CancelFunc, stream grpc.ClientStream, last proto.Message) func() {
	return func() {
		defer time.AfterFunc(breakOffTimeout, cancel).Stop()
		if stream.SendMsg(last) == nil {
			_ = stream.RecvMsg(new(emptypb.Empty)) // its own error is that it broke off
		}
		cancel()
	}
}

// WriteFile creates or replaces a file with all of r, or leaves what was there.
func (l *Link) WriteFile(ctx context.Context, id, path string, mode uint32, r io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.bulk.WriteFile(ctx)
	if err != nil {
		return l.fault(ctx, err)
	}
	start := &linkv1.WriteFileRequest{Start: &linkv1.WriteFileStart{SandboxId: id, Path: path, Mode: mode}}
	if err := upload(cancel, stream, start, func(b []byte) *linkv1.WriteFileRequest { return &linkv1.WriteFileRequest{Data: b} }, r); err != nil {
		return err
	}
	_, err = stream.CloseAndRecv()
	return l.fault(ctx, unanswered(l, err))
}

// unanswered is a stream that the runner ended without an answer.
func unanswered(l *Link, err error) error {
	if errors.Is(err, io.EOF) {
		return link.Lied(l.cfg.RunnerID, "it ended a stream without an answer")
	}
	return err
}

// WriteArchive unpacks an archive. When r fails, or the line, what came of a large file stays as a part.
func (l *Link) WriteArchive(ctx context.Context, id, path, name string, r io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.bulk.WriteArchive(ctx)
	if err != nil {
		return l.fault(ctx, err)
	}
	start := &linkv1.WriteArchiveRequest{Start: &linkv1.WriteArchiveStart{SandboxId: id, Path: path, Name: name}}
	breakOff := breakingOff(cancel, stream, &linkv1.WriteArchiveRequest{BrokeOff: true})
	if err := upload(breakOff, stream, start, func(b []byte) *linkv1.WriteArchiveRequest { return &linkv1.WriteArchiveRequest{Data: b} }, r); err != nil {
		return err
	}
	_, err = stream.CloseAndRecv()
	return l.fault(ctx, unanswered(l, err))
}

// Logs reads what a main process printed.
func (l *Link) Logs(ctx context.Context, id string, q backend.LogQuery) (backend.LogReader, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := l.bulk.Logs(ctx, &linkv1.LogsRequest{
		SandboxId: id, Session: q.Session, Offset: q.Offset, Tail: q.Tail, Since: link.Stamp(q.Since), Follow: q.Follow,
	})
	var first *linkv1.LogsResponse
	if err == nil {
		first, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		err = link.Lied(l.cfg.RunnerID, "output was neither begun nor refused")
	}
	if err != nil {
		err = l.fault(ctx, err)
		cancel()
		return nil, err
	}
	next := func() (*linkv1.LogsResponse, error) {
		m, err := stream.Recv()
		return m, l.fault(ctx, err)
	}
	return &logs{l: l, next: next, session: first.GetSession(), cancel: cancel}, nil
}

// logs is output of a main process.
type logs struct {
	l       *Link
	next    func() (*linkv1.LogsResponse, error)
	session string
	cancel  context.CancelFunc
}

func (r *logs) Session() string { return r.session }

func (r *logs) Recv() (backend.LogFrame, error) {
	m, err := r.next()
	if err != nil {
		return backend.LogFrame{}, err
	}
	f := backend.LogFrame{Kind: backend.LogKind(m.GetKind()), Data: m.GetData(), At: link.Time(m.GetAt()), Offset: m.GetOffset(), Lost: m.GetLost()}
	if f.Kind < backend.LogStdout || f.Kind > backend.LogGap || len(f.Data) > backend.MaxExecChunk || f.Offset < 0 || f.Lost < 0 || f.End() < f.Offset {
		r.cancel()
		return backend.LogFrame{}, link.Lied(r.l.cfg.RunnerID, "a piece of output of kind %d with %d bytes at %d", f.Kind, len(f.Data), f.Offset)
	}
	return f, nil
}

func (r *logs) Close() error {
	r.cancel()
	return nil
}
