package scale

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// way passes connections on to an address, and can be cut.
type way struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	shut     bool
	conns    map[net.Conn]struct{}
	// first gets when the first connection came since it was opened.
	first chan time.Time
}

func newWay(t *testing.T, to string) *way {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{listener: l, to: to, conns: map[net.Conn]struct{}{}}
	t.Cleanup(func() { _ = l.Close(); w.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.pass(c)
		}
	}()
	return w
}

func (w *way) address() string { return w.listener.Addr().String() }

func (w *way) pass(c net.Conn) {
	defer c.Close()
	out, err := net.Dial("tcp", w.to) //nolint:noctx // on this machine
	if err != nil {
		return
	}
	defer out.Close()
	w.mu.Lock()
	if w.shut {
		w.mu.Unlock()
		return
	}
	w.conns[c], w.conns[out] = struct{}{}, struct{}{}
	if w.first != nil {
		w.first <- time.Now()
		w.first = nil
	}
	w.mu.Unlock()
	go func() { _, _ = io.Copy(out, c); out.Close() }()
	_, _ = io.Copy(c, out)
}

// cut ends all connections and lets none through.
func (w *way) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut = true
	for c := range w.conns {
		_ = c.Close()
	}
	clear(w.conns)
}

// open lets connections through again, and tells when the first comes.
func (w *way) open() <-chan time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut, w.first = false, make(chan time.Time, 1)
	return w.first
}
