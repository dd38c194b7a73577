package bermv1

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/payload"
	"github.com/bermhq/berm/internal/server/edge"
)

type fileService struct {
	bermv1rpc.UnsafeFileServiceServer
	*Front
}

var _ bermv1rpc.FileServiceServer = (*fileService)(nil)

// dataField is the number of the field with content, in every message of the service that has one but ReadArchiveResponse.
const (
	dataField        = 2
	archiveDataField = 1
)

// ReadArchive sends an archive. What was sent is whole when the stream ends with OK.
func (s *fileService) ReadArchive(r *bermv1.ReadArchiveRequest, stream grpc.ServerStreamingServer[bermv1.ReadArchiveResponse]) error {
	ctx, done := s.untilDrain(stream.Context())
	defer done()
	part := backend.ArchivePart{Bare: r.GetBare(), Skip: r.GetSkip()}
	for _, b := range r.GetBegun() {
		part.Begun = append(part.Begun, archive.Begun{Name: b.GetName(), Offset: b.GetOffset(), Prefix: b.GetPrefixSha256()})
	}
	in, err := s.control.ReadArchive(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetPath(), part)
	if err != nil {
		return drained(ctx, err)
	}
	defer func() { _ = in.Close() }() // what was read is sent
	return sendAll(ctx, in, stream, archiveDataField)
}

// sendAll sends what is read, piece by piece, to its end.
func sendAll(ctx context.Context, in io.Reader, stream grpc.ServerStream, field protowire.Number) error {
	for {
		piece := payload.New(field)
		n, err := fill(in, piece.Data)
		if piece.Data = piece.Data[:n]; n > 0 {
			if err := stream.SendMsg(piece); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return drained(ctx, err)
		}
	}
}

// WriteArchive unpacks what the client sends.
func (s *fileService) WriteArchive(stream grpc.ClientStreamingServer[bermv1.WriteArchiveRequest, bermv1.WriteArchiveResponse]) error {
	first, err := firstOf(stream.Recv())
	if err != nil {
		return err
	}
	init := first.GetInit()
	if init == nil {
		return notInit()
	}
	ctx, done := s.untilDrain(stream.Context())
	defer done()
	in := upload(ctx, stream, func() message { return &bermv1.WriteArchiveRequest{} })
	defer in.Close()
	if err := s.control.WriteArchive(ctx, edge.Principal(ctx), init.GetSandboxId(), init.GetPath(), init.GetName(), in); err != nil {
		return drained(ctx, err)
	}
	return stream.SendAndClose(&bermv1.WriteArchiveResponse{})
}

// WriteFile writes what the client sends.
func (s *fileService) WriteFile(stream grpc.ClientStreamingServer[bermv1.WriteFileRequest, bermv1.WriteFileResponse]) error {
	first, err := firstOf(stream.Recv())
	if err != nil {
		return err
	}
	init := first.GetInit()
	if init == nil {
		return notInit()
	}
	if init.GetMode() > maxMode {
		return fault.Invalidf(fault.ReasonInvalidRequest, "invalid init").WithField("init.mode", "%#o is more than %#o", init.GetMode(), maxMode)
	}
	ctx, done := s.untilDrain(stream.Context())
	defer done()
	in := upload(ctx, stream, func() message { return &bermv1.WriteFileRequest{} })
	defer in.Close()
	mode := init.GetMode()
	if mode == 0 {
		mode = defaultMode
	}
	if init.GetResumable() != nil {
		u, err := resumable(mode, init.GetResumable())
		if err != nil {
			return err
		}
		err = s.control.WriteFileFrom(ctx, edge.Principal(ctx), init.GetSandboxId(), init.GetPath(), u, in)
		if err != nil {
			return drained(ctx, err)
		}
		return stream.SendAndClose(&bermv1.WriteFileResponse{})
	}
	if err := s.control.WriteFile(ctx, edge.Principal(ctx), init.GetSandboxId(), init.GetPath(), mode, in); err != nil {
		return drained(ctx, err)
	}
	return stream.SendAndClose(&bermv1.WriteFileResponse{})
}

// fill reads until buf is full or the reader has no more.
func fill(in io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = in.Read(buf[n:])
		n += m
	}
	return n, err
}

const (
	// maxMode is the highest mode of a file: permissions and the three bits above them.
	maxMode = 0o7777
	// defaultMode is that of a new file.
	defaultMode = 0o644
)

// firstOf says of a stream without a message what is missing.
func firstOf[M any](m *M, err error) (*M, error) {
	if errors.Is(err, io.EOF) {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "the stream ended before its first message, init")
	}
	return m, err
}

func notInit() error {
	return fault.Invalidf(fault.ReasonInvalidRequest, "the first message is not init")
}

// message is a request that has content where it is not the first.
type message interface {
	proto.Message
	GetData() []byte
}

// uploaded reads what a client sends. Its end is io.EOF only when the client ended it.
type uploaded struct {
	*payload.Received
	ctx    context.Context //nolint:containedctx // a reader lives as long as its call
	stream grpc.ServerStream
}

func upload(ctx context.Context, stream grpc.ServerStream, other func() message) *uploaded {
	return &uploaded{Received: payload.Receive(dataField, func() proto.Message { return other() }), ctx: ctx, stream: stream}
}

// Read implements io.Reader.
func (u *uploaded) Read(p []byte) (int, error) {
	for u.Remaining() == 0 {
		if u.ctx.Err() != nil {
			return 0, context.Cause(u.ctx)
		}
		if err := u.stream.RecvMsg(u.Received); err != nil {
			return 0, err
		}
		if u.Other == nil {
			continue
		}
		m := u.Other.ProtoReflect()
		if m.Has(m.Descriptor().Fields().ByName("init")) {
			return 0, fault.Invalidf(fault.ReasonInvalidRequest, "init came twice")
		}
		u.Accept(u.Other.(message).GetData()) //nolint:forcetypeassert // it is what upload was given
	}
	return u.Received.Read(p)
}
