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
)

// Dial connects to a port of a sandbox. The connection is cut when ctx ends, when it is closed, and when the line ends.
func (l *Link) Dial(ctx context.Context, id string, port uint16) (backend.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := l.bulk.Dial(ctx)
	var first *linkv1.DialResponse
	if err == nil {
		err = stream.Send(&linkv1.DialRequest{Kind: &linkv1.DialRequest_Start{Start: &linkv1.DialStart{SandboxId: id, Port: uint32(port)}}})
	}
	if err == nil || errors.Is(err, io.EOF) { // a stream that ended before it began says why in Recv
		first, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) || err == nil && !first.GetAccepted() {
		err = link.Lied(l.cfg.RunnerID, "a connection was neither accepted nor refused")
	}
	if err != nil {
		err = l.fault(ctx, err)
		cancel()
		return nil, err
	}
	return &conn{l: l, ctx: ctx, cancel: cancel, stream: stream}, nil
}

// conn is a connection to a port of a sandbox at the other end of the line.
type conn struct {
	l      *Link
	ctx    context.Context //nolint:containedctx // the connection lives as long as its call
	cancel context.CancelFunc
	stream linkv1rpc.LinkService_DialClient

	reading sync.Mutex // guards rest and ended
	rest    []byte
	ended   bool

	sending sync.Mutex // orders what is sent
	closed  bool
}

// Read returns io.EOF once the runner said that the program's half has ended.
func (c *conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for len(c.rest) == 0 {
		if c.ended {
			return 0, io.EOF
		}
		m, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, link.Lied(c.l.cfg.RunnerID, "a connection ended without its end")
		}
		if err != nil {
			return 0, c.l.fault(c.ctx, err)
		}
		if len(m.GetData()) > link.Chunk {
			c.cancel()
			return 0, link.Lied(c.l.cfg.RunnerID, "a piece of a connection has %d bytes, the limit is %d", len(m.GetData()), link.Chunk)
		}
		c.rest, c.ended = m.GetData(), m.GetEnd()
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write waits for a program that does not read, after what the line holds.
func (c *conn) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		n := min(len(p), link.Chunk)
		if err := c.send(&linkv1.DialRequest{Kind: &linkv1.DialRequest_Data{Data: p[:n]}}, false); err != nil {
			return written, err
		}
		written += n
		p = p[n:]
	}
	return written, nil
}

// CloseWrite ends the caller's half.
func (c *conn) CloseWrite() error {
	err := c.send(&linkv1.DialRequest{Kind: &linkv1.DialRequest_End{End: true}}, true)
	if errors.Is(err, io.ErrClosedPipe) {
		return nil // it is closed
	}
	return err
}

func (c *conn) send(m *linkv1.DialRequest, last bool) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.closed {
		return io.ErrClosedPipe
	}
	c.closed = last
	err := c.stream.Send(m)
	if errors.Is(err, io.EOF) { // the connection has ended, or the line: Read says which
		return io.ErrClosedPipe
	}
	return c.l.fault(c.ctx, err)
}

// Close ends the connection. Once both halves have ended, the runner is waited for no longer: it ends what is left.
func (c *conn) Close() error {
	c.cancel()
	return nil
}
