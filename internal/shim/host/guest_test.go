package host

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/hashicorp/yamux"

	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/wire"
)

// slow is a connection whose writes arrive, and return late: when the connection was closed. So does a write of a process that gets
// no processor while the other side reads, answers and ends.
type slow struct {
	net.Conn
	// from is the size of the first write that is slow.
	from   int
	closed chan struct{}
	once   sync.Once
}

func (c *slow) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if len(p) >= c.from {
		<-c.closed
	}
	return n, err
}

func (c *slow) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestShortMain: a main process that has ended, and the init with it, before the shim knows that its request was sent, was started.
func TestShortMain(t *testing.T) {
	ours, theirs := net.Pipe()
	g, err := newGuest(&slow{Conn: ours, from: 20, closed: make(chan struct{})})
	if err != nil {
		t.Fatal(err)
	}
	other, err := yamux.Server(theirs, wire.MuxConfig())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		s, err := other.AcceptStream()
		if err != nil {
			t.Error(err)
			return
		}
		if f, err := wire.NewReader(s).Read(); err != nil || f.Type != wire.TypeRequest {
			t.Errorf("%v, %v", f.Type, err)
		}
		for _, err := range []error{
			wire.WriteJSON(s, wire.TypeStarted, wire.Started{PID: 2}), wire.WriteJSON(s, wire.TypeExit, wire.Exit{Code: 7}), other.Close(),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	}()
	if werr := g.beginMain(&shim.Config{Main: []string{"short"}}); werr != nil {
		t.Fatalf("the main process is said not to have started: %v", werr)
	}
	<-g.told
	if e := g.mainExit.Load(); e == nil || e.Code != 7 {
		t.Errorf("the main process is said to have ended with %+v", e)
	}
}

// TestNoInit: without an answer the main process was not started.
func TestNoInit(t *testing.T) {
	ours, theirs := net.Pipe()
	g, err := newGuest(ours)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.CopyN(io.Discard, theirs, 20)
		theirs.Close()
	}()
	if werr := g.beginMain(&shim.Config{Main: []string{"none"}}); werr == nil || werr.Code != codeNoAnswer {
		t.Fatalf("%v", werr)
	}
}
