package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim/wire"
)

// ExecRequest is a command to run in a running sandbox.
type ExecRequest struct {
	// Argv is program and arguments; looked up in the sandbox's PATH.
	Argv []string
	// Env is laid over the sandbox's base environment, NAME=value.
	Env []string
	// Dir is the working directory; "" is the sandbox's default.
	Dir string
	// TTY gives the command a terminal of Width × Height characters; all its output is then stdout.
	TTY           bool
	Width, Height uint16
	// Stdin false means that standard input is empty.
	Stdin bool
}

// FrameKind is the kind of a Frame.
type FrameKind int

// The frame kinds. A process yields output and then exactly one exit.
const (
	FrameStdout FrameKind = iota + 1
	FrameStderr
	FrameExit
)

// Frame is a piece of what a process said, at most wire.MaxData bytes. Data belongs to the receiver.
type Frame struct {
	Kind FrameKind
	Data []byte
	// ExitCode is the process's own code, 128 + Signal when a signal ended it.
	ExitCode int32
	Signal   int
	// At is when the frame arrived here.
	At time.Time
}

// Process is a running command. Recv and the senders may be used from different goroutines; senders are serialised.
type Process struct {
	conn *conn
	// PID is the process's id inside the sandbox.
	PID  int
	deaf bool // it has no input
	done bool

	// sending orders senders. credit counts what Send may still put on the way; Recv's goroutine adds to it and then
	// leaves a token in granted.
	sending sync.Mutex
	credit  atomic.Int64
	granted chan struct{}
	ended   chan struct{}
	endOnce sync.Once
}

// Exec starts a command and returns when it runs. A command that cannot run is a fault: CWSANDBOX_COMMAND_NOT_FOUND,
// CWSANDBOX_EXEC_FAILED. The process group is killed when ctx ends or Close is called before it exited. Somebody must call
// Recv until the end: it is also what makes Send go on.
func (c *Client) Exec(ctx context.Context, r ExecRequest) (*Process, error) {
	if len(r.Argv) == 0 || r.Argv[0] == "" {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "no command").WithField("command", "at least one element, not empty")
	}
	conn, err := c.open(ctx, wire.Request{
		Op: wire.OpExec, Argv: r.Argv, Env: r.Env, Dir: r.Dir, TTY: r.TTY, Width: r.Width, Height: r.Height, Stdin: r.Stdin,
	})
	if err != nil {
		return nil, err
	}
	f, err := conn.expect(wire.TypeStarted)
	var started wire.Started
	if err == nil {
		err = f.Decode(&started)
	}
	if err != nil {
		conn.abandon()
		return nil, err
	}
	p := &Process{conn: conn, PID: started.PID, deaf: !r.Stdin && !r.TTY, granted: make(chan struct{}, 1), ended: make(chan struct{})}
	p.credit.Store(wire.StdinWindow)
	return p, nil
}

// Recv returns the next frame. After the exit frame it returns io.EOF. An end that was not observed is an error, never an
// exit frame.
func (p *Process) Recv() (Frame, error) {
	if p.done {
		return Frame{}, io.EOF
	}
	for {
		f, err := p.conn.frames.Read()
		if err != nil {
			p.end()
			return Frame{}, p.conn.fail(err)
		}
		out, more, err := p.frame(f)
		if err != nil {
			p.end()
			return Frame{}, err
		}
		if !more {
			return out, nil
		}
	}
}

// frame interprets a frame; more is set when it was none for the caller.
func (p *Process) frame(f wire.Frame) (out Frame, more bool, err error) {
	out.At = time.Now()
	switch f.Type {
	case wire.TypeStdout, wire.TypeStderr:
		out.Kind = FrameStdout
		if f.Type == wire.TypeStderr {
			out.Kind = FrameStderr
		}
		out.Data = append([]byte(nil), f.Payload...)
		return out, false, nil
	case wire.TypeCredit:
		n, err := f.Uint32()
		if err != nil {
			return out, false, errInterrupted(err)
		}
		if p.credit.Add(int64(n)) > wire.StdinWindow {
			return out, false, errInterrupted(fmt.Errorf("%w: credit for input that was not sent", wire.ErrMalformed))
		}
		select {
		case p.granted <- struct{}{}:
		default:
		}
		return out, true, nil
	case wire.TypeExit:
		var e wire.Exit
		if err := f.Decode(&e); err != nil {
			return out, false, errInterrupted(err)
		}
		p.done = true
		p.end()
		out.Kind, out.ExitCode, out.Signal = FrameExit, e.Code, e.Signal
		return out, false, nil
	case wire.TypeError:
		return out, false, errorFrame(f)
	default:
		return out, false, errInterrupted(fmt.Errorf("%w: type %d in an exec", wire.ErrMalformed, f.Type))
	}
}

func (p *Process) end() { p.endOnce.Do(func() { close(p.ended) }) }

// Send writes standard input and blocks while the process does not read. It returns io.ErrClosedPipe once the process has
// ended.
func (p *Process) Send(data []byte) error {
	if p.deaf {
		return fault.Invalidf(fault.ReasonInvalidRequest, "the command was started without standard input")
	}
	p.sending.Lock()
	defer p.sending.Unlock()
	for len(data) > 0 {
		n, err := p.awaitCredit()
		if err != nil {
			return err
		}
		n = min(n, len(data), wire.MaxData)
		p.credit.Add(-int64(n))
		if err := p.write(wire.TypeStdin, data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// awaitCredit waits until there is some.
func (p *Process) awaitCredit() (int, error) {
	for {
		if n := p.credit.Load(); n > 0 {
			return int(n), nil
		}
		select {
		case <-p.granted:
		case <-p.ended:
			return 0, io.ErrClosedPipe
		case <-p.conn.ctx.Done():
			return 0, contextFault(p.conn.ctx.Err())
		}
	}
}

// CloseSend ends standard input; on a terminal it sends the end-of-file character.
func (p *Process) CloseSend() error {
	p.sending.Lock()
	defer p.sending.Unlock()
	return p.write(wire.TypeCloseStdin, nil)
}

// Resize tells the terminal its new size.
func (p *Process) Resize(width, height uint16) error {
	var b [wire.HeaderSize + 4]byte
	frame := wire.AppendUint32(b[:0], wire.TypeResize, uint32(width)<<16|uint32(height))
	return p.writeFrame(frame)
}

// Signal sends a signal to the process group.
func (p *Process) Signal(signal int) error {
	return p.write(wire.TypeSignal, []byte{byte(signal)})
}

func (p *Process) write(t wire.Type, payload []byte) error {
	return p.writeFrame(wire.Append(make([]byte, 0, wire.HeaderSize+len(payload)), t, payload))
}

func (p *Process) writeFrame(frame []byte) error { return hungUp(p.conn, frame) }

// hungUp writes a frame and reports a connection that the shim closed as a closed pipe: how the process ended is Recv's to tell.
func hungUp(c *conn, frame []byte) error {
	_, err := c.Write(frame)
	switch {
	case err == nil:
		return nil
	case c.ctx.Err() == nil && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)):
		return io.ErrClosedPipe
	default:
		return c.fail(err)
	}
}

// Close kills the process group if it still runs, and releases the connection.
func (p *Process) Close() error {
	p.end()
	return p.conn.Close()
}
