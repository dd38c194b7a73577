package remote_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link/linktest"
	"github.com/bermhq/berm/internal/runner"
)

// icy is a connection that can be half open, as after a power cut or behind a firewall that forgot it: what is written goes nowhere,
// nothing comes, and nobody is told.
type icy struct {
	net.Conn
	frozen <-chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (c *icy) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.frozen:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *icy) Write(p []byte) (int, error) {
	select {
	case <-c.frozen:
		return len(p), nil
	default:
		return c.Conn.Write(p)
	}
}

func (c *icy) Close() error {
	c.once.Do(func() { close(c.closed) })
	select {
	case <-c.frozen: // the other end is not told, but a Read that waits here ends
		return c.Conn.SetReadDeadline(time.Unix(1, 0))
	default:
		return c.Conn.Close()
	}
}

// TestHalfOpen: without signs of life both ends give up by themselves, and what was under way ends in an error.
func TestHalfOpen(t *testing.T) {
	frozen := make(chan struct{})
	var conns []net.Conn
	line := linktest.Over(t, runner.NewAgent(fake.New(fake.Config{}), nil), linktest.Config{
		Heartbeat: 20 * time.Millisecond, Silence: 200 * time.Millisecond,
		Between: func(c net.Conn) net.Conn {
			conns = append(conns, c)
			return &icy{Conn: c, frozen: frozen, closed: make(chan struct{})}
		},
	})
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	if !line.Alive(t.Context()) {
		t.Fatal("a line that is up is not alive")
	}
	observed := make(chan struct{})
	go func() {
		defer close(observed)
		for range line.Observe(t.Context()) {
			continue
		}
	}()
	close(frozen)
	<-line.Done()
	if err := line.Cause(); !fault.HasReason(err, fault.ReasonRunnerUnavailable) {
		t.Errorf("the gateway gave up because of %v", err)
	}
	line.Link.Close(line.Cause())
	<-observed
	if err := line.Stop(t.Context(), "s", 0, ""); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a call on a line that is over: %v", err)
	}
	if err := line.Served(); !fault.HasReason(err, "GATEWAY_UNREACHABLE") {
		t.Errorf("the runner gave up because of %v", err)
	}
}
