package serve

import (
	"context"
	"errors"
	"io"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	linkv1rpc "github.com/bermhq/berm/gen/berm/link/v1rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link"
)

// errNoStart is a stream that does not begin with what it is about.
func errNoStart() error {
	return fault.Invalidf(fault.ReasonInvalidRequest, "the first message of the stream does not say what it is about")
}

// Exec implements the service. The command is killed when the stream ends, however that happens.
func (s *server) Exec(stream linkv1rpc.LinkService_ExecServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return errNoStart()
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	p, err := s.cfg.Link.Exec(ctx, start.GetSandboxId(), link.ExecOf(start))
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	if err := stream.Send(&linkv1.ExecResponse{Kind: &linkv1.ExecResponse_Started{Started: true}}); err != nil {
		return err
	}
	out := newExecOutput(stream)
	go feed(stream, p, out)
	for {
		f, err := p.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.frame(&f); err != nil {
			return err
		}
		if f.Kind == backend.FrameExit {
			return nil
		}
	}
}

// feed gives the command its input. It ends with the stream.
func feed(stream linkv1rpc.LinkService_ExecServer, p backend.Process, out *execOutput) {
	closed := false
	for {
		in, err := stream.Recv()
		if err != nil {
			return // the handler's context ends with the stream, and the command with that
		}
		switch k := in.GetKind().(type) {
		case *linkv1.ExecRequest_Stdin:
			if closed {
				continue
			}
			if err := p.Send(k.Stdin); err != nil {
				closed = true
				out.stdinClosed(err)
			}
		case *linkv1.ExecRequest_Close:
			err = p.CloseSend()
		case *linkv1.ExecRequest_Resize:
			err = p.Resize(link.Short(k.Resize.GetWidth()), link.Short(k.Resize.GetHeight()))
		}
		if err != nil && !closed {
			closed = true
			out.stdinClosed(err)
		}
	}
}

// ReadFile implements the service.
func (s *server) ReadFile(r *linkv1.ReadFileRequest, stream linkv1rpc.LinkService_ReadFileServer) error {
	file, size, err := s.cfg.Link.ReadFile(stream.Context(), r.GetSandboxId(), r.GetPath(), r.GetLimit())
	if err != nil {
		return err
	}
	defer file.Close()
	if err := stream.Send(&linkv1.ReadFileResponse{Size: size}); err != nil {
		return err
	}
	return pump(file, func(data []byte) error { return stream.Send(&linkv1.ReadFileResponse{Data: data}) })
}

// ReadArchive implements the service.
func (s *server) ReadArchive(r *linkv1.ReadArchiveRequest, stream linkv1rpc.LinkService_ReadArchiveServer) error {
	part := backend.ArchivePart{Bare: r.GetBare(), Skip: r.GetSkip(), Begun: link.Begun(r.GetBegun())}
	archive, err := s.cfg.Link.ReadArchive(stream.Context(), r.GetSandboxId(), r.GetPath(), part)
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := stream.Send(&linkv1.ReadArchiveResponse{}); err != nil {
		return err
	}
	return pump(archive, func(data []byte) error { return stream.Send(&linkv1.ReadArchiveResponse{Data: data}) })
}

// pump sends all of a reader in chunks.
func pump(r io.Reader, send func([]byte) error) error {
	buf := make([]byte, link.Chunk)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := send(buf[:n]); err != nil { // it was marshalled when Send returns
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// WriteFile implements the service.
func (s *server) WriteFile(stream linkv1rpc.LinkService_WriteFileServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return errNoStart()
	}
	body := &chunks{rest: first.GetData(), next: func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err }}
	if err := s.cfg.Link.WriteFile(stream.Context(), start.GetSandboxId(), start.GetPath(), start.GetMode(), body); err != nil {
		return err
	}
	return stream.SendAndClose(&linkv1.WriteFileResponse{})
}

// WriteArchive implements the service.
func (s *server) WriteArchive(stream linkv1rpc.LinkService_WriteArchiveServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return errNoStart()
	}
	body := &chunks{rest: first.GetData(), next: func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), brokenOff(m, err)
	}}
	if err := s.cfg.Link.WriteArchive(stream.Context(), start.GetSandboxId(), start.GetPath(), start.GetName(), body); err != nil {
		return err
	}
	return stream.SendAndClose(&linkv1.WriteArchiveResponse{})
}

// chunks reads a stream of messages. It ends with io.EOF only when the sender closed the stream: a connection that broke is an error.
type chunks struct {
	rest []byte
	next func() ([]byte, error)
}

func (c *chunks) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		var err error
		if c.rest, err = c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Logs implements the service.
func (s *server) Logs(r *linkv1.LogsRequest, stream linkv1rpc.LinkService_LogsServer) error {
	logs, err := s.cfg.Link.Logs(stream.Context(), r.GetSandboxId(), backend.LogQuery{
		Session: r.GetSession(), Offset: r.GetOffset(), Tail: r.Tail, Since: link.Time(r.GetSince()), Follow: r.GetFollow(),
	})
	if err != nil {
		return err
	}
	defer func() { _ = logs.Close() }()
	if err := stream.Send(&linkv1.LogsResponse{Session: logs.Session()}); err != nil {
		return err
	}
	for {
		f, err := logs.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&linkv1.LogsResponse{Kind: linkv1.LogKind(f.Kind), Data: f.Data, At: link.Stamp(f.At), Offset: f.Offset, Lost: f.Lost}); err != nil { //nolint:gosec // 1 to 3
			return err
		}
	}
}

// PullImage implements the service.
func (s *server) PullImage(r *linkv1.PullImageRequest, stream linkv1rpc.LinkService_PullImageServer) error {
	images := s.cfg.Link.Images()
	if images == nil {
		return noImages()
	}
	reports := newReports(stream)
	img, err := images.PullImage(stream.Context(), backend.ImagePull{Ref: r.GetRef(), Pin: r.GetPin()}, reports.add)
	if err := errors.Join(reports.close(), err); err != nil {
		return err
	}
	return stream.Send(&linkv1.PullImageResponse{Kind: &linkv1.PullImageResponse_Image{Image: link.ImageMessage(img)}})
}

// ImportImage implements the service.
func (s *server) ImportImage(stream linkv1rpc.LinkService_ImportImageServer) error {
	images := s.cfg.Link.Images()
	if images == nil {
		return noImages()
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return errNoStart()
	}
	body := &chunks{rest: first.GetData(), next: func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err }}
	all, err := images.ImportImage(stream.Context(), start.GetName(), start.GetPin(), body)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&linkv1.ImportImageResponse{Images: link.ImagesMessage(all)})
}
