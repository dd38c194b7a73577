package remote

import (
	"context"
	"errors"
	"io"
	"sync"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	linkv1rpc "github.com/bermhq/berm/gen/berm/link/v1rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link"
)

// Exec starts a command. It is killed when ctx ends, when the process is closed, and when the line ends.
func (l *Link) Exec(ctx context.Context, id string, e backend.Exec) (backend.Process, error) {
	ctx, cancel := context.WithCancel(ctx)
	p, err := l.exec(ctx, cancel, id, e)
	if err != nil {
		err = l.fault(ctx, err) // before ctx ends
		cancel()
		return nil, err
	}
	return p, nil
}

func (l *Link) exec(ctx context.Context, cancel context.CancelFunc, id string, e backend.Exec) (*process, error) {
	stream, err := l.bulk.Exec(ctx)
	if err != nil {
		return nil, err
	}
	// A stream that ended before it began says why in Recv.
	if err := stream.Send(&linkv1.ExecRequest{Kind: &linkv1.ExecRequest_Start{Start: link.ExecStartMessage(id, &e)}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) || err == nil && !first.GetStarted() {
		return nil, link.Lied(l.cfg.RunnerID, "a command neither started nor failed")
	}
	if err != nil {
		return nil, err
	}
	return &process{l: l, stream: stream, over: ctx.Done(), why: ctx.Err, cancel: cancel}, nil
}

// process is a command on a runner.
type process struct {
	l      *Link
	stream linkv1rpc.LinkService_ExecClient
	over   <-chan struct{}
	why    func() error
	cancel context.CancelFunc
	exited bool

	mu      sync.Mutex // orders what is sent
	closing sync.Mutex // guards refused
	refused error
}

// Recv returns the next frame. A line that breaks before the exit is an error, never an exit.
func (p *process) Recv() (backend.Frame, error) {
	for {
		if p.exited {
			return backend.Frame{}, io.EOF
		}
		m, err := p.stream.Recv()
		if errors.Is(err, io.EOF) {
			return backend.Frame{}, link.Lied(p.l.cfg.RunnerID, "the output of a command ended without its exit")
		}
		if err != nil {
			return backend.Frame{}, p.fault(err)
		}
		f := backend.Frame{At: link.Time(m.GetAt())}
		switch k := m.GetKind().(type) {
		case *linkv1.ExecResponse_Stdout:
			f.Kind, f.Data = backend.FrameStdout, k.Stdout
		case *linkv1.ExecResponse_Stderr:
			f.Kind, f.Data = backend.FrameStderr, k.Stderr
		case *linkv1.ExecResponse_Exit:
			f.Kind, f.ExitCode, f.Signal = backend.FrameExit, k.Exit.GetCode(), int(k.Exit.GetSignal())
			p.exited = true
		case *linkv1.ExecResponse_StdinClosed:
			p.refuse(link.FaultOf(k.StdinClosed))
			continue
		default:
			continue
		}
		if len(f.Data) > backend.MaxExecChunk {
			p.cancel()
			return backend.Frame{}, link.Lied(p.l.cfg.RunnerID, "a piece of output has %d bytes, the limit is %d", len(f.Data), backend.MaxExecChunk)
		}
		return f, nil
	}
}

// fault knows that a call whose own context is over did not break.
func (p *process) fault(err error) error {
	ctx := context.Background()
	if p.why() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		cancel()
	}
	return link.FromStatus(ctx, p.l.cfg.RunnerID, err)
}

func (p *process) refuse(err error) {
	p.closing.Lock()
	defer p.closing.Unlock()
	if p.refused == nil {
		p.refused = err
	}
}

func (p *process) refusal() error {
	p.closing.Lock()
	defer p.closing.Unlock()
	return p.refused
}

func (p *process) send(m *linkv1.ExecRequest) error {
	if err := p.refusal(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.stream.Send(m)
	if errors.Is(err, io.EOF) { // the command has ended, or the line: Recv says which
		return fault.Preconditionf(fault.ReasonExecFailed, "standard input is closed")
	}
	if err != nil {
		return p.fault(err)
	}
	return nil
}

// Send writes standard input. Flow control makes it wait for a command that does not read, after what the line holds.
func (p *process) Send(data []byte) error {
	for len(data) > 0 {
		n := min(len(data), backend.MaxExecChunk)
		if err := p.send(&linkv1.ExecRequest{Kind: &linkv1.ExecRequest_Stdin{Stdin: data[:n]}}); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// CloseSend ends standard input.
func (p *process) CloseSend() error {
	err := p.send(&linkv1.ExecRequest{Kind: &linkv1.ExecRequest_Close{Close: true}})
	if fault.HasReason(err, fault.ReasonExecFailed) {
		return nil // it is closed
	}
	return err
}

// Resize changes the size of the terminal.
func (p *process) Resize(width, height uint16) error {
	return p.send(&linkv1.ExecRequest{Kind: &linkv1.ExecRequest_Resize{Resize: &linkv1.Size{Width: uint32(width), Height: uint32(height)}}})
}

// Close kills the command if it still runs.
func (p *process) Close() error {
	p.cancel()
	return nil
}
