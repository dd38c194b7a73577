package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim/wire"
)

// ExecState is what is told of a command that is kept (package kept).
type ExecState = wire.ExecState

// KeptExec is a command to run and keep.
type KeptExec struct {
	ExecRequest
	// ID names it, for ever: what is asked for again under a name is the command that is there.
	ID string
	// Limit is how much of its output is kept, 0 for the default. When that is full the command waits for a reader, or with Drop the
	// oldest goes.
	Limit int64
	Drop  bool
	// Timeout is when it is killed, 0 for never.
	Timeout time.Duration
}

// CreateExec starts a command that goes on without its caller.
func (c *Client) CreateExec(ctx context.Context, r KeptExec) (ExecState, error) {
	if len(r.Argv) == 0 || r.Argv[0] == "" {
		return ExecState{}, fault.Invalidf(fault.ReasonInvalidRequest, "no command").WithField("command", "at least one element, not empty")
	}
	return c.execCall(ctx, wire.Request{
		Op: wire.OpExecCreate, Exec: r.ID, Argv: r.Argv, Env: r.Env, Dir: r.Dir, TTY: r.TTY, Width: r.Width, Height: r.Height, Stdin: r.Stdin,
		Limit: r.Limit, Drop: r.Drop, Timeout: r.Timeout,
	})
}

// SignalExec sends a signal to the process group of a kept command.
func (c *Client) SignalExec(ctx context.Context, id string, signal int) (ExecState, error) {
	return c.execCall(ctx, wire.Request{Op: wire.OpExecSignal, Exec: id, Signal: signal})
}

// ResizeExec sets the size of its terminal.
func (c *Client) ResizeExec(ctx context.Context, id string, width, height uint16) (ExecState, error) {
	return c.execCall(ctx, wire.Request{Op: wire.OpExecResize, Exec: id, Width: width, Height: height})
}

// DeleteExec kills a kept command if it runs, and forgets it.
func (c *Client) DeleteExec(ctx context.Context, id string) error {
	return older(c.call(ctx, wire.Request{Op: wire.OpExecDelete, Exec: id}, nil))
}

func (c *Client) execCall(ctx context.Context, req wire.Request) (ExecState, error) {
	var s ExecState
	err := c.call(ctx, req, &s)
	return s, older(err)
}

// Execs returns the kept commands, oldest first; with an id only that one.
func (c *Client) Execs(ctx context.Context, id string) ([]ExecState, error) {
	conn, err := c.open(ctx, wire.Request{Op: wire.OpExecList, Exec: id})
	if err != nil {
		return nil, err
	}
	defer conn.abandon()
	var all []ExecState
	for {
		f, err := conn.frames.Read()
		if err != nil {
			return nil, conn.fail(err)
		}
		switch f.Type {
		case wire.TypeEnd:
			return all, nil
		case wire.TypeOK:
			var s ExecState
			if err := f.Decode(&s); err != nil {
				return nil, errInterrupted(err)
			}
			all = append(all, s)
		case wire.TypeError:
			return nil, older(errorFrame(f))
		default:
			return nil, errInterrupted(fmt.Errorf("%w: type %d in a list", wire.ErrMalformed, f.Type))
		}
	}
}

// older turns the word of an init that knows no such operation into what it means.
func older(err error) error {
	if !isUnknownOperation(err) {
		return err
	}
	return fault.Preconditionf(fault.ReasonBackendUnsupported, "the sandbox was started by an older version, which keeps no commands").
		WithHint("start a new sandbox, or run the command with StreamExec").WithCause(err)
}

// AttachRequest says what is wanted of a kept command.
type AttachRequest struct {
	// Output: from Offset on. With Follow it goes on until the command has ended.
	Output bool
	Offset int64
	Follow bool
	// Stdin: to write standard input, from State.StdinOffset on.
	Stdin bool
}

// AttachFrame is what comes of a kept command: output, or how it stands at the end.
type AttachFrame struct {
	// Output is a piece, whose data is valid until the next Recv. Its offset tells what is missing before it.
	Output wire.Output
	// Taken is how much of the standard input the process has, and InputClosed that it was closed, when that was what there is to tell.
	Taken       int64
	InputClosed bool
	// End is how the command ended, in the last frame of a stream.
	End *ExecState
}

// Attachment reads a kept command's output and writes its input. Recv and the senders may be used from different goroutines. Hanging
// up leaves the command running.
type Attachment struct {
	conn *conn
	// State is how the command stood when the stream began.
	State ExecState
	ended bool

	// sending orders senders. taken, of Recv alone, is how much of the input the process has.
	sending sync.Mutex
	window  *wire.Window
	taken   int64
}

// AttachExec joins a kept command.
func (c *Client) AttachExec(ctx context.Context, id string, r AttachRequest) (*Attachment, error) {
	conn, err := c.open(ctx, wire.Request{
		Op: wire.OpExecAttach, Exec: id, Quiet: !r.Output, Offset: r.Offset, Follow: r.Follow, Stdin: r.Stdin,
	})
	if err != nil {
		return nil, err
	}
	a := &Attachment{conn: conn}
	f, err := conn.expect(wire.TypeOK)
	if err == nil {
		err = f.Decode(&a.State)
	}
	if err != nil {
		conn.abandon()
		return nil, older(err)
	}
	a.taken, a.window = a.State.StdinTaken, wire.NewWindow(a.State.StdinOffset, a.State.StdinTaken)
	return a, nil
}

// Recv returns the next frame, the last with End. io.EOF comes after it, and without Follow when there is no more now. An end that was
// not observed is an error.
func (a *Attachment) Recv() (AttachFrame, error) {
	if a.ended {
		return AttachFrame{}, io.EOF
	}
	f, err := a.conn.frames.Read()
	if err != nil {
		a.window.End()
		return AttachFrame{}, a.conn.fail(err)
	}
	out, err := a.frame(f)
	if err != nil || out.End != nil {
		a.ended = true
		a.window.End()
	}
	return out, err
}

func (a *Attachment) frame(f wire.Frame) (out AttachFrame, err error) {
	switch f.Type {
	case wire.TypeOutput:
		out.Output, err = wire.ParseOutput(f.Payload)
		if err == nil && len(out.Output.Data) == 0 {
			err = fmt.Errorf("%w: output of no bytes", wire.ErrMalformed)
		}
	case wire.TypeCredit:
		var n uint32
		if n, err = f.Uint32(); err == nil {
			a.taken += int64(n)
			out.Taken, out.InputClosed, err = a.taken, n == 0, a.window.Took(a.taken)
		}
	case wire.TypeExit:
		out.End = &ExecState{}
		err = f.Decode(out.End)
		if err == nil && out.End.ExitCode == nil {
			err = fmt.Errorf("%w: an end without an exit", wire.ErrMalformed)
		}
	case wire.TypeEnd:
		return out, io.EOF
	case wire.TypeError:
		return out, errorFrame(f)
	default:
		err = fmt.Errorf("%w: type %d of a kept command", wire.ErrMalformed, f.Type)
	}
	if err != nil {
		return AttachFrame{}, errInterrupted(err)
	}
	return out, nil
}

// Received says that the caller has all output before an offset: what a command that waits for a reader may overwrite.
func (a *Attachment) Received(offset int64) error { return a.write(wire.AppendReceived(nil, offset)) }

// Send writes standard input and blocks while the process does not read. Somebody must call Recv meanwhile. It returns
// io.ErrClosedPipe once the stream is over: why is Recv's to tell.
func (a *Attachment) Send(data []byte) error {
	a.sending.Lock()
	defer a.sending.Unlock()
	for len(data) > 0 {
		n, err := a.window.Reserve(len(data), a.conn.ctx.Done())
		if err != nil {
			return err
		}
		if err := a.write(wire.Append(make([]byte, 0, wire.HeaderSize+n), wire.TypeStdin, data[:n])); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// CloseSend ends standard input behind what was sent.
func (a *Attachment) CloseSend() error {
	a.sending.Lock()
	defer a.sending.Unlock()
	return a.write(wire.Append(nil, wire.TypeCloseStdin, nil))
}

func (a *Attachment) write(frame []byte) error { return hungUp(a.conn, frame) }

// Close leaves the command.
func (a *Attachment) Close() error {
	a.window.End()
	return a.conn.Close()
}

// isUnknownOperation reports whether shim or init did not know what was asked of them.
func isUnknownOperation(err error) bool {
	var said *fault.Error
	return errors.As(err, &said) && said.Code == fault.Invalid && said.Reason == fault.ReasonInvalidRequest && wire.IsUnknownOperation(said.Message)
}
