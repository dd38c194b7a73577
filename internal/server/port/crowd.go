package port

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/wire"
)

const (
	// DefaultMaxConnections is how many connections both listeners together have: each takes a descriptor and two goroutines, also
	// before anybody sent a token.
	DefaultMaxConnections = 4096
	// maxFarewells is how many of those that are refused are told why at a time; more are closed without a word.
	maxFarewells = 64
	// farewellTime is how long one of them has to take it.
	farewellTime = 2 * time.Second
	// tellEvery is how often it is logged that connections are refused.
	tellEvery = 10 * time.Second
)

// crowd is the connections of both listeners together.
type crowd struct {
	slots     chan struct{}
	farewells chan struct{}
	plain     bool
	log       *slog.Logger
	refused   atomic.Int64
	told      atomic.Int64
	running   sync.WaitGroup
}

func newCrowd(most int, plain bool, log *slog.Logger) *crowd {
	return &crowd{slots: make(chan struct{}, most), farewells: make(chan struct{}, maxFarewells), plain: plain, log: log}
}

// bound returns a listener that keeps to the limit.
func (c *crowd) bound(l net.Listener) net.Listener { return &boundListener{l, c} }

type boundListener struct {
	net.Listener
	crowd *crowd
}

// Accept implements net.Listener. What is over the limit is refused at once and not left waiting: it would wait for nobody knows what.
func (l *boundListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.crowd.slots <- struct{}{}:
			return &countedConn{Conn: conn, leave: sync.OnceFunc(func() { <-l.crowd.slots })}, nil
		default:
			l.crowd.refuse(conn)
		}
	}
}

type countedConn struct {
	net.Conn
	leave func()
}

func (c *countedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite ends the half of the server, for connections that have changed their protocol.
func (c *countedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// refuse tells why, where that is possible: in plain text, as the answer to a request of HTTP/1.1, whatever is being asked. A client of
// gRPC takes it for a server that is not available, which is right.
func (c *crowd) refuse(conn net.Conn) {
	refused, now, last := c.refused.Add(1), time.Now().UnixNano(), c.told.Load()
	if now-last > int64(tellEvery) && c.told.CompareAndSwap(last, now) {
		c.log.Warn("connections are refused: there are as many as this server takes", "limit", cap(c.slots), "refused", refused, "change it with", "--max-connections")
	}
	if !c.plain {
		_ = conn.Close()
		return
	}
	select {
	case c.farewells <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	c.running.Go(func() {
		defer func() { <-c.farewells }()
		defer conn.Close()
		if conn.SetDeadline(time.Now().Add(farewellTime)) != nil {
			return
		}
		why := answer(cap(c.slots))
		defer why.Body.Close()
		if why.Write(conn) != nil {
			return
		}
		// A connection that is closed with something unread is reset, and the answer with it.
		if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(conn, MaxHeader))
		}
	})
}

// answer is what a connection too many is told.
func answer(limit int) *http.Response {
	f := fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "%d connections are open, as many as this server takes at a time", limit).
		WithHint("close connections that are not used, or try again; an operator can let more in with berm serve --max-connections")
	f.RetryAfter = time.Second
	w := &buffered{header: http.Header{}}
	wire.WriteError(w, f, "")
	w.header.Set("Connection", "close")
	return &http.Response{
		StatusCode: w.status, ProtoMajor: 1, ProtoMinor: 1, Header: w.header,
		ContentLength: int64(w.body.Len()), Body: io.NopCloser(&w.body), Close: true,
	}
}

// buffered is an answer that is being written.
type buffered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *buffered) Header() http.Header         { return b.header }
func (b *buffered) WriteHeader(status int)      { b.status = status }
func (b *buffered) Write(p []byte) (int, error) { return b.body.Write(p) }
