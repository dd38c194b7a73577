package remote

import (
	"context"
	"errors"
	"io"
	"sync"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	linkv1rpc "github.com/bermhq/berm/gen/berm/link/v1rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/link"
	"github.com/bermhq/berm/internal/shim/wire"
)

// CreateExec starts a command that goes on without its caller.
func (l *Link) CreateExec(ctx context.Context, sandbox string, e backend.KeptExec) (backend.ExecState, error) {
	out, err := l.bulk.CreateExec(ctx, link.KeptExecMessage(sandbox, &e))
	return l.execState(ctx, out, err)
}

// SignalExec sends it a signal.
func (l *Link) SignalExec(ctx context.Context, sandbox, id string, signal int) (backend.ExecState, error) {
	out, err := l.bulk.SignalExec(ctx, &linkv1.SignalExecRequest{SandboxId: sandbox, Id: id, Signal: int32(signal)}) //nolint:gosec // a signal
	return l.execState(ctx, out, err)
}

// ResizeExec sets the size of its terminal.
func (l *Link) ResizeExec(ctx context.Context, sandbox, id string, width, height uint16) (backend.ExecState, error) {
	out, err := l.bulk.ResizeExec(ctx, &linkv1.ResizeExecRequest{SandboxId: sandbox, Id: id, Size: &linkv1.Size{Width: uint32(width), Height: uint32(height)}})
	return l.execState(ctx, out, err)
}

func (l *Link) execState(ctx context.Context, m *linkv1.ExecState, err error) (backend.ExecState, error) {
	if err != nil {
		return backend.ExecState{}, l.fault(ctx, err)
	}
	return link.ExecStateOf(m), nil
}

// DeleteExec kills it and forgets it.
func (l *Link) DeleteExec(ctx context.Context, sandbox, id string) error {
	_, err := l.bulk.DeleteExec(ctx, &linkv1.DeleteExecRequest{SandboxId: sandbox, Id: id})
	return l.fault(ctx, err)
}

// ListExecs returns the commands of a sandbox.
func (l *Link) ListExecs(ctx context.Context, sandbox, id string) ([]backend.ExecState, error) {
	m, err := l.bulk.ListExecs(ctx, &linkv1.ListExecsRequest{SandboxId: sandbox, Id: id})
	if err != nil {
		return nil, l.fault(ctx, err)
	}
	if id != "" && len(m.GetExecs()) != 1 {
		return nil, link.Lied(l.cfg.RunnerID, "one command was asked for, and %d came", len(m.GetExecs()))
	}
	var out []backend.ExecState
	for _, e := range m.GetExecs() {
		out = append(out, link.ExecStateOf(e))
	}
	return out, nil
}

// AttachExec joins a command. It goes on when ctx or the line ends.
func (l *Link) AttachExec(ctx context.Context, sandbox, id string, a backend.Attach) (backend.Attachment, error) {
	ctx, cancel := context.WithCancel(ctx)
	out, err := l.attach(ctx, cancel, &linkv1.AttachStart{
		SandboxId: sandbox, Id: id, Output: a.Output, Offset: a.Offset, Follow: a.Follow, Stdin: a.Stdin,
	})
	if err != nil {
		err = l.fault(ctx, err) // before ctx ends
		cancel()
		return nil, err
	}
	out.follow, out.next = a.Follow, a.Offset
	return out, nil
}

func (l *Link) attach(ctx context.Context, cancel context.CancelFunc, start *linkv1.AttachStart) (*attachment, error) {
	stream, err := l.bulk.AttachExec(ctx)
	if err != nil {
		return nil, err
	}
	// A stream that ended before it began says why in Recv.
	if err := stream.Send(&linkv1.AttachExecRequest{Kind: &linkv1.AttachExecRequest_Start{Start: start}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) || err == nil && first.GetState() == nil {
		return nil, link.Lied(l.cfg.RunnerID, "a command was neither joined nor refused")
	}
	if err != nil {
		return nil, err
	}
	state := link.ExecStateOf(first.GetState())
	return &attachment{
		l: l, stream: stream, state: state, window: wire.NewWindow(state.StdinOffset, state.StdinTaken), over: ctx.Done(),
		fault: func(err error) error { return l.fault(ctx, err) }, cancel: cancel,
	}, nil
}

// attachment is a command on a runner that was joined.
type attachment struct {
	l      *Link
	stream linkv1rpc.LinkService_AttachExecClient
	state  backend.ExecState
	window *wire.Window
	over   <-chan struct{}
	fault  func(error) error
	cancel context.CancelFunc
	// Of Recv alone: next is the offset behind what came.
	follow, ended bool
	next          int64

	mu sync.Mutex // orders what is sent
}

// State returns how the command stood.
func (a *attachment) State() backend.ExecState { return a.state }

// Recv returns the next frame. A line that breaks before the end is an error.
func (a *attachment) Recv() (backend.AttachFrame, error) {
	if a.ended {
		return backend.AttachFrame{}, io.EOF
	}
	m, err := a.stream.Recv()
	var f backend.AttachFrame
	switch {
	case errors.Is(err, io.EOF) && !a.follow:
		a.ended = true
	case errors.Is(err, io.EOF):
		err = link.Lied(a.l.cfg.RunnerID, "the output of a command ended without its end")
	case err != nil:
		err = a.fault(err)
	default:
		f, err = a.frame(m)
	}
	if err != nil || a.ended {
		a.window.End()
	}
	return f, err
}

func (a *attachment) frame(m *linkv1.AttachExecResponse) (backend.AttachFrame, error) {
	f := backend.AttachFrame{Offset: m.GetOffset(), At: link.Time(m.GetAt())}
	switch k := m.GetKind().(type) {
	case *linkv1.AttachExecResponse_Stdout:
		f.Kind, f.Data = backend.AttachStdout, k.Stdout
	case *linkv1.AttachExecResponse_Stderr:
		f.Kind, f.Data = backend.AttachStderr, k.Stderr
	case *linkv1.AttachExecResponse_Taken:
		f.Kind, f.Taken, f.InputClosed = backend.AttachTaken, k.Taken, m.GetStdinClosed()
		if err := a.window.Took(k.Taken); err != nil {
			return f, a.lied("input that was not sent was taken")
		}
		return f, nil
	case *linkv1.AttachExecResponse_Exit:
		end := link.ExecStateOf(k.Exit)
		if end.ExitCode == nil || end.End < a.next {
			return f, a.lied("a command ended without an exit, or before what it printed")
		}
		f.Kind, f.End, a.ended = backend.AttachExit, &end, true
		return f, nil
	default:
		return f, a.lied("a frame of a command says nothing")
	}
	if len(f.Data) == 0 || len(f.Data) > backend.MaxExecChunk || f.Offset < a.next {
		return f, a.lied("a piece of output has %d bytes at %d, behind %d", len(f.Data), f.Offset, a.next)
	}
	a.next = f.Offset + int64(len(f.Data))
	return f, nil
}

func (a *attachment) lied(format string, args ...any) error {
	a.cancel()
	return link.Lied(a.l.cfg.RunnerID, format, args...)
}

func (a *attachment) send(m *linkv1.AttachExecRequest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.stream.Send(m)
	if errors.Is(err, io.EOF) { // Recv says why
		return io.ErrClosedPipe
	}
	return a.fault(err)
}

// Received says that the caller has all output before an offset.
func (a *attachment) Received(offset int64) error {
	return a.send(&linkv1.AttachExecRequest{Kind: &linkv1.AttachExecRequest_Received{Received: offset}})
}

// Send writes standard input, and waits while the process does not read.
func (a *attachment) Send(data []byte) error {
	for len(data) > 0 {
		n, err := a.window.Reserve(len(data), a.over)
		if err != nil {
			return err
		}
		if err := a.send(&linkv1.AttachExecRequest{Kind: &linkv1.AttachExecRequest_Stdin{Stdin: data[:n]}}); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// CloseSend ends standard input.
func (a *attachment) CloseSend() error {
	return a.send(&linkv1.AttachExecRequest{Kind: &linkv1.AttachExecRequest_Close{Close: true}})
}

// Close leaves the command.
func (a *attachment) Close() error {
	a.cancel()
	return nil
}
