package fake

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/backendtest/ports"
	"github.com/bermhq/berm/internal/core/fault"
)

// maxConns is how many connections to ports of one sandbox may be open.
const maxConns = 256

// Listen makes a sandbox listen at a port: what connects to it reaches the TCP listener at address, on this machine.
func (b *Backend) Listen(id string, port uint16, address string) {
	b.locked(func() {
		if s, ok := b.sandboxes[id]; ok {
			s.listens[port] = address
		}
	})
}

// portServer is the program of package ports: it listens on this machine, and at the ports of its arguments in the sandbox.
func portServer(i *invocation) int32 {
	for args := i.argv[1:]; len(args) >= 2; args = args[2:] {
		_, text, err := net.SplitHostPort(args[1])
		port, numErr := strconv.ParseUint(text, 10, 16)
		if err = errors.Join(err, numErr); err != nil {
			return i.fail(2, "port-server: %v", err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // until the program ends
		if err != nil {
			return i.fail(1, "port-server: %v", err)
		}
		defer func() { _ = l.Close() }()
		go ports.Serve(l, args[0])
		i.listen(uint16(port), l.Addr().String())
	}
	if code := i.print(i.out, "ready\n"); code != 0 {
		return code
	}
	<-i.process.killed
	return exitKilled
}

// Dial connects to a port of a sandbox.
func (b *Backend) Dial(ctx context.Context, id string, port uint16) (backend.Conn, error) {
	s, err := b.settled(ctx, id)
	if err != nil {
		return nil, err
	}
	var address string
	full := false
	b.locked(func() { address, full = s.listens[port], len(s.conns) >= maxConns })
	if full {
		return nil, fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "%d connections to ports of the sandbox are open, as many as it may have", maxConns)
	}
	closed := fault.Preconditionf(fault.ReasonPortClosed, "nothing listens on port %d of the sandbox", port)
	if address == "" {
		return nil, closed
	}
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, closed.WithCause(err)
	}
	c := &conn{TCPConn: nc.(*net.TCPConn)}
	c.stop = context.AfterFunc(ctx, func() { c.cut(fault.New(fault.Canceled, "CANCELED", "the request was cancelled").WithCause(ctx.Err())) })
	c.forget = func() { b.locked(func() { delete(s.conns, c) }) }
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.last.Phase != backend.PhaseRunning {
		c.cut(nil)
		c.stop()
		return nil, notRunning(s)
	}
	s.conns[c] = struct{}{}
	return c, nil
}

// conn is a connection with a reason for its end.
type conn struct {
	*net.TCPConn
	stop   func() bool
	forget func()
	mu     sync.Mutex
	why    error
}

// cut ends the connection; whoever uses it is told why.
func (c *conn) cut(why error) {
	c.mu.Lock()
	if c.why == nil {
		c.why = why
	}
	c.mu.Unlock()
	_ = c.SetLinger(0)
	_ = c.TCPConn.Close()
}

func (c *conn) explain(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.why != nil {
			return c.why
		}
		return fault.Preconditionf(fault.ReasonPortClosed, "the connection was cut within the sandbox: %v", op.Err)
	}
	return err
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	return n, c.explain(err)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	return n, c.explain(err)
}

func (c *conn) Close() error {
	c.stop()
	c.forget()
	return c.TCPConn.Close()
}
