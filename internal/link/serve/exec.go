package serve

import (
	"context"
	"errors"
	"io"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	linkv1rpc "github.com/bermhq/berm/gen/berm/link/v1rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/link"
)

// CreateExec implements the service.
func (s *server) CreateExec(ctx context.Context, r *linkv1.CreateExecRequest) (*linkv1.ExecState, error) {
	return execState(s.cfg.Link.CreateExec(ctx, r.GetStart().GetSandboxId(), link.KeptExecOf(r)))
}

// SignalExec implements the service.
func (s *server) SignalExec(ctx context.Context, r *linkv1.SignalExecRequest) (*linkv1.ExecState, error) {
	return execState(s.cfg.Link.SignalExec(ctx, r.GetSandboxId(), r.GetId(), int(r.GetSignal())))
}

// ResizeExec implements the service.
func (s *server) ResizeExec(ctx context.Context, r *linkv1.ResizeExecRequest) (*linkv1.ExecState, error) {
	return execState(s.cfg.Link.ResizeExec(ctx, r.GetSandboxId(), r.GetId(), link.Short(r.GetSize().GetWidth()), link.Short(r.GetSize().GetHeight())))
}

func execState(st backend.ExecState, err error) (*linkv1.ExecState, error) {
	if err != nil {
		return nil, err
	}
	return link.ExecStateMessage(&st), nil
}

// DeleteExec implements the service.
func (s *server) DeleteExec(ctx context.Context, r *linkv1.DeleteExecRequest) (*linkv1.DeleteExecResponse, error) {
	if err := s.cfg.Link.DeleteExec(ctx, r.GetSandboxId(), r.GetId()); err != nil {
		return nil, err
	}
	return &linkv1.DeleteExecResponse{}, nil
}

// ListExecs implements the service.
func (s *server) ListExecs(ctx context.Context, r *linkv1.ListExecsRequest) (*linkv1.ListExecsResponse, error) {
	all, err := s.cfg.Link.ListExecs(ctx, r.GetSandboxId(), r.GetId())
	if err != nil {
		return nil, err
	}
	out := &linkv1.ListExecsResponse{}
	for i := range all {
		out.Execs = append(out.Execs, link.ExecStateMessage(&all[i]))
	}
	return out, nil
}

// AttachExec implements the service. The command goes on when the stream ends.
func (s *server) AttachExec(stream linkv1rpc.LinkService_AttachExecServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return errNoStart()
	}
	a, err := s.cfg.Link.AttachExec(stream.Context(), start.GetSandboxId(), start.GetId(), backend.Attach{
		Output: start.GetOutput(), Offset: start.GetOffset(), Follow: start.GetFollow(), Stdin: start.GetStdin(),
	})
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }()
	st := a.State()
	if err := stream.Send(&linkv1.AttachExecResponse{Kind: &linkv1.AttachExecResponse_State{State: link.ExecStateMessage(&st)}}); err != nil {
		return err
	}
	go feedAttached(stream, a)
	for {
		f, err := a.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(attachFrame(&f)); err != nil {
			return err
		}
	}
}

func attachFrame(f *backend.AttachFrame) *linkv1.AttachExecResponse {
	out := &linkv1.AttachExecResponse{Offset: f.Offset, At: link.Stamp(f.At), StdinClosed: f.InputClosed}
	switch f.Kind {
	case backend.AttachStdout:
		out.Kind = &linkv1.AttachExecResponse_Stdout{Stdout: f.Data}
	case backend.AttachStderr:
		out.Kind = &linkv1.AttachExecResponse_Stderr{Stderr: f.Data}
	case backend.AttachTaken:
		out.Kind = &linkv1.AttachExecResponse_Taken{Taken: f.Taken}
	case backend.AttachExit:
		out.Kind = &linkv1.AttachExecResponse_Exit{Exit: link.ExecStateMessage(f.End)}
	}
	return out
}

// feedAttached passes on what the caller says. It ends with the stream, or with the attachment, whose Recv says why. Nothing here waits
// for the command: the gateway sends no input that there is no room for.
func feedAttached(stream linkv1rpc.LinkService_AttachExecServer, a backend.Attachment) {
	for {
		in, err := stream.Recv()
		if err != nil {
			return
		}
		switch k := in.GetKind().(type) {
		case *linkv1.AttachExecRequest_Received:
			err = a.Received(k.Received)
		case *linkv1.AttachExecRequest_Stdin:
			err = a.Send(k.Stdin)
		case *linkv1.AttachExecRequest_Close:
			err = a.CloseSend()
		}
		if err != nil {
			return
		}
	}
}
