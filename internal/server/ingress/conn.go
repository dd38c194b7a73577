package ingress

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// conn is the connection of one request into its sandbox, and what ends both. It is a net.Conn without deadlines: a request ends when
// nothing passes, however long it takes.
type conn struct {
	backend.Conn
	ctx   context.Context //nolint:containedctx // the connection lives as long as the request
	cut   context.CancelCauseFunc
	idle  *time.Timer
	after time.Duration
}

// begin makes a request one that can be cut: by the end of its token, of the server's time or of the caller's patience, and when nothing
// passes. What is returned is used in place of what was given; end is called last.
func (f *Front) begin(w http.ResponseWriter, r *http.Request, to *target) (*conn, http.ResponseWriter, *http.Request, func()) {
	ctx, cut := context.WithCancelCause(r.Context())
	c := &conn{ctx: ctx, cut: cut, after: f.cfg.Idle}
	c.idle = time.AfterFunc(c.after, func() {
		cut(fault.New(fault.Deadline, reasonPortIdle, "nothing came from the sandbox, and nothing went to it, for %s", c.after))
	})
	undrain := f.cfg.OnDrain(func() {
		cut(fault.New(fault.Unavailable, "SHUTTING_DOWN", "the server is shutting down").WithRetry(time.Second))
	})
	cw := &cuttable{ResponseWriter: w, rc: http.NewResponseController(w), to: to, requestID: w.Header().Get("X-Request-Id"), old: !r.ProtoAtLeast(1, 1)}
	_ = cw.rc.EnableFullDuplex() // HTTP/2 always is
	unwatch := context.AfterFunc(ctx, cw.free)
	return c, cw, r.WithContext(ctx), func() {
		c.idle.Stop()
		undrain()
		unwatch()
		cw.done()
		cut(nil)
	}
}

// dial makes the connection. It waits for a sandbox that starts, for a while.
func (c *conn) dial(dial func(context.Context) (backend.Conn, error)) (err error) {
	patience := time.AfterFunc(DialTimeout, func() {
		c.cut(fault.New(fault.Deadline, reasonPortIdle, "no connection into the sandbox within %s", DialTimeout))
	})
	defer patience.Stop()
	if c.Conn, err = dial(c.ctx); err != nil {
		return c.why(err)
	}
	return nil
}

// why is what ended the request, where that is known better than by the error of whoever noticed.
func (c *conn) why(err error) error {
	if cause := context.Cause(c.ctx); cause != nil {
		return cause
	}
	return err
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.passed(n)
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.passed(n)
	return n, err
}

// passed puts off the end for want of traffic. One that has come is not taken back.
func (c *conn) passed(n int) {
	if n > 0 && c.idle.Stop() {
		c.idle.Reset(c.after)
	}
}

// The rest of net.Conn.

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return address{} }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return address{} }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

type address struct{}

func (address) Network() string { return "sandbox" }
func (address) String() string  { return "sandbox" }

// cuttable is an answer whose caller can be let go of: one that neither reads nor writes would keep a request for ever.
type cuttable struct {
	http.ResponseWriter
	rc *http.ResponseController
	to *target
	// requestID is Berm's own, which headers before the answer take away. old: the caller knows no answers before the answer.
	requestID string
	old       bool

	mu       sync.Mutex
	hijacked net.Conn
	freed    bool
	ended    bool
}

// Unwrap lets http.ResponseController reach the connection.
func (w *cuttable) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter. Headers before the answer come from the sandbox, too.
func (w *cuttable) WriteHeader(status int) {
	switch {
	case status >= http.StatusOK || status == http.StatusSwitchingProtocols:
		if h := w.Header(); h.Get("X-Request-Id") == "" && w.requestID != "" {
			h.Set("X-Request-Id", w.requestID)
		}
	case w.old:
		return
	default:
		clean(w.Header(), w.to)
	}
	w.ResponseWriter.WriteHeader(status)
}

// Hijack implements http.Hijacker.
func (w *cuttable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, rw, err := w.rc.Hijack()
	w.hijacked = c
	if w.freed && err == nil {
		_ = c.Close() // it was cut before
	}
	return c, rw, err //nolint:wrapcheck // http.ErrNotSupported is compared
}

// free ends the waits for a caller. It has some time left to take an error.
func (w *cuttable) free() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.freed = true
	if w.hijacked != nil {
		_ = w.hijacked.Close() // what was cut is all that there is to say
		return
	}
	_ = w.rc.SetReadDeadline(time.Now())
	_ = w.rc.SetWriteDeadline(time.Now().Add(farewellTime))
}

// done ends what free may do, and undoes it: the connection may be used again.
func (w *cuttable) done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.freed && w.hijacked == nil {
		_ = w.rc.SetWriteDeadline(time.Time{})
	}
	w.ended = true
}
