package remote_test

import (
	"net"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/clocktest"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link/linktest"
	"github.com/bermhq/berm/internal/runner"
)

// TestClockSet: a line on which there are signs of life is up, however the gateway's clock is set, and one on which there are none ends when it
// would have.
func TestClockSet(t *testing.T) {
	clock := clocktest.New()
	frozen := make(chan struct{})
	var conns []net.Conn
	line := linktest.Over(t, runner.NewAgent(fake.New(fake.Config{}), nil), linktest.Config{
		Heartbeat: 20 * time.Millisecond, Silence: 2 * time.Second, Now: clock.Now,
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
	for _, by := range []time.Duration{time.Hour, -2 * time.Hour} {
		before := line.Heard()
		clock.Set(by)
		for !line.Heard().After(before) { // until it was looked at, too
			time.Sleep(time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		if line.Cause() != nil || !line.Alive(t.Context()) {
			t.Fatalf("set by %v: %v", by, line.Cause())
		}
	}
	close(frozen)
	clock.Set(-time.Hour)
	select {
	case <-line.Done():
	case <-time.After(5 * time.Minute):
		t.Fatal("without signs of life it is up for ever")
	}
	if err := line.Cause(); !fault.HasReason(err, fault.ReasonRunnerUnavailable) {
		t.Errorf("the gateway gave up because of %v", err)
	}
}
