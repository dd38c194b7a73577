package shim

import (
	"context"
	"errors"
	"io"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim/wire"
)

// Conn is a connection to a port of a sandbox. Its methods may be used from different goroutines.
type Conn struct {
	conn *conn
	pipe *wire.Pipe
}

// Dial connects to a TCP port inside the sandbox, on its loopback interface. Where nothing listens: Precondition, PORT_CLOSED. The
// connection is cut when ctx ends or Close is called.
func (c *Client) Dial(ctx context.Context, port uint16) (*Conn, error) {
	conn, err := c.open(ctx, wire.Request{Op: wire.OpDial, Port: int(port)})
	if err != nil {
		return nil, err
	}
	if _, err := conn.expect(wire.TypeStarted); err != nil {
		conn.abandon()
		if fault.Is(err, fault.Invalid) && port != 0 { // An operation that it does not know: nothing else can be invalid.
			return nil, fault.Preconditionf(fault.ReasonBackendUnsupported, "the sandbox was started by an older version, which does not connect to ports").
				WithHint("start a new sandbox").WithCause(err)
		}
		return nil, err
	}
	return &Conn{conn: conn, pipe: wire.NewPipe(conn, conn.frames)}, nil
}

// Read returns io.EOF only when the program in the sandbox has ended its half.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.pipe.Read(b)
	return n, c.explain(err)
}

// Write waits while the program does not read.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.pipe.Write(b)
	return n, c.explain(err)
}

// CloseWrite ends this half: the program reads an end of file, and what it sends is still read.
func (c *Conn) CloseWrite() error { return c.explain(c.pipe.CloseWrite()) }

// Close ends the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// explain says why the connection broke. What is no news of the connection passes.
func (c *Conn) explain(err error) error {
	var e *wire.Error
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrClosedPipe):
		return err
	case c.conn.ctx.Err() != nil:
		return contextFault(c.conn.ctx.Err())
	case errors.As(err, &e):
		return faultOf(e)
	default:
		return errInterrupted(err)
	}
}
