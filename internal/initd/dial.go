package initd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// maxDials is how many connections to ports of a sandbox the init holds at once; each may have wire.PipeWindow of memory in each
	// direction, when nobody reads.
	maxDials = 256
	// dialTimeout is how long a program may take to accept a connection.
	dialTimeout = 10 * time.Second
	// lingerTimeout is how long a program may take to read what is left, once whoever sent it is gone.
	lingerTimeout = time.Minute
	// copyBuffer is the buffer of a direction, in bytes.
	copyBuffer = 16 << 10
)

// dial connects a request with a port on which a program of the sandbox listens.
func (d *daemon) dial(s *stream, req wire.Request) {
	select {
	case d.dials <- struct{}{}:
		defer func() { <-d.dials }()
	default:
		s.fail(wire.Errorf(wire.CodeExhausted, "%d connections to ports of the sandbox are open, as many as it may have", maxDials))
		return
	}
	c, werr := connectLocal(req.Port)
	if werr != nil {
		s.fail(werr)
		return
	}
	defer func() { _ = c.Close() }()
	t := &tunnel{stream: s, conn: c}
	if !d.enlist(t) {
		t.endSaved()
		return
	}
	defer d.dismiss(t)
	if err := wire.Write(s, wire.TypeStarted, nil); err != nil {
		return
	}
	t.run()
}

// connectLocal connects to a port as the programs of the sandbox do with one another. None of them is the init: it listens nowhere.
func connectLocal(port int) (*net.TCPConn, *wire.Error) {
	if port < 1 || port > 65535 {
		return nil, wire.Errorf(wire.CodeInvalid, "port %d: there are 1 to 65535", port)
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	var why error
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := dialer.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(port))) //nolint:noctx // it has a timeout, and the request ends with it
		if err == nil {
			return c.(*net.TCPConn), nil
		}
		if why == nil {
			why = err
		}
	}
	if errors.Is(why, unix.ECONNREFUSED) {
		return nil, wire.Errorf(wire.CodePortClosed, "nothing listens on port %d of the sandbox", port)
	}
	return nil, wire.Errorf(wire.CodePortClosed, "port %d of the sandbox does not answer: %v", port, reasonOf(why))
}

// reasonOf strips the addresses that our own message names already.
func reasonOf(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// tunnel joins a request with a connection.
type tunnel struct {
	stream *stream
	conn   *net.TCPConn
}

// run copies both ways until both have ended, and says how.
func (t *tunnel) run() {
	p := wire.NewPipe(t.stream, t.stream.frames)
	up, down := make(chan error, 1), make(chan struct{})
	go func() { up <- t.up(p) }()
	go t.abandon(p, down)
	err := t.down(p)
	close(down)
	if err == nil {
		err = <-up
	} // Else the caller may still wait for the program, which is gone: it must be told first.
	if err != nil {
		t.stream.fail(wire.Errorf(wire.CodePortClosed, "the connection was cut within the sandbox: %v", reasonOf(err)))
		return
	}
	_ = wire.Write(t.stream, wire.TypeOK, nil)
}

// up brings what the caller sends, and its end.
func (t *tunnel) up(p *wire.Pipe) error {
	if _, err := io.CopyBuffer(plainWriter{t.conn}, plainReader{p}, make([]byte, copyBuffer)); err != nil {
		return err
	}
	if err := t.conn.CloseWrite(); err != nil && !errors.Is(err, unix.ENOTCONN) { // the program hung up, having had all
		return err
	}
	return nil
}

// down brings what the program sends, and its end.
func (t *tunnel) down(p *wire.Pipe) error {
	if _, err := io.CopyBuffer(plainWriter{p}, plainReader{t.conn}, make([]byte, copyBuffer)); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return p.CloseWrite()
}

// plainReader and plainWriter hide the ways around a buffer of our own, which have larger ones.
type (
	plainReader struct{ io.Reader }
	plainWriter struct{ io.Writer }
)

// abandon ends the connection when the caller is gone: at once, as a cut one, unless the program has said all and only reads on.
func (t *tunnel) abandon(p *wire.Pipe, down <-chan struct{}) {
	<-p.Gone()
	if isClosed(down) {
		_ = t.conn.SetWriteDeadline(time.Now().Add(lingerTimeout))
		return
	}
	_ = t.conn.SetLinger(0)
	_ = t.conn.Close()
	t.stream.hangUp() // Ends a write that waits for the caller.
}

// endSaved ends a connection because the sandbox is being saved.
func (t *tunnel) endSaved() {
	t.cut("the sandbox was saved while the connection was open: it was ended")
}

// cut ends a connection and says why.
func (t *tunnel) cut(why string) {
	_ = t.stream.SetWriteDeadline(time.Now().Add(wordTimeout))
	t.stream.fail(wire.Errorf(wire.CodeNotRunning, "%s", why))
	_ = t.conn.Close()
	t.stream.hangUp()
}

// cutConnections cuts all connections because the sandbox ends.
func (d *daemon) cutConnections() {
	var all sync.WaitGroup // Side by side: each caller may be one who does not read.
	d.handlersMu.Lock()
	for x := range d.commands {
		if t, ok := x.(*tunnel); ok {
			all.Go(func() { t.cut("the sandbox ended while the connection was open") })
		}
	}
	d.handlersMu.Unlock()
	all.Wait()
}
