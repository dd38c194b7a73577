// Package linktest puts a real line between a runner.Link and whoever uses it: two loopback connections, or two pipes where a test
// has a clock of its own, which knows no sockets.
package linktest

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/link/remote"
	"github.com/bermhq/berm/internal/link/serve"
	"github.com/bermhq/berm/internal/runner"
)

// Config shapes a line. The zero value is a line as it is used.
type Config struct {
	RunnerID           string
	Heartbeat, Silence time.Duration
	// Now is the clock of the gateway's end; nil is time.Now.
	Now func() time.Time
	// Pipe puts pipes in place of loopback connections.
	Pipe bool
	// Between, when not nil, gets the runner's ends and returns what the runner uses.
	Between func(net.Conn) net.Conn
	// Keep is serve.Config.Keep.
	Keep func(string, time.Time) error
}

// Line is a line between both ends.
type Line struct {
	*remote.Link
	cut    func()
	served chan error
	once   sync.Once
}

// Open opens a line to l.
func Open(ctx context.Context, l runner.Link, cfg Config) (*Line, error) {
	var near, far [2]net.Conn
	for i := range near {
		var err error
		if near[i], far[i], err = connect(ctx, cfg.Pipe); err != nil {
			return nil, err
		}
		if cfg.Between != nil {
			far[i] = cfg.Between(far[i])
		}
	}
	if cfg.RunnerID == "" {
		cfg.RunnerID = "r1"
	}
	line := &Line{served: make(chan error, 1)}
	life, cut := context.WithCancel(context.WithoutCancel(ctx))
	line.cut = cut
	go func() {
		line.served <- serve.Run(life, serve.Config{Link: l, Heartbeat: cfg.Heartbeat, Silence: cfg.Silence, Keep: cfg.Keep}, far[0], far[1])
	}()
	var err error
	line.Link, err = remote.New(ctx, remote.Config{RunnerID: cfg.RunnerID, Heartbeat: cfg.Heartbeat, Silence: cfg.Silence, Now: cfg.Now}, near[0], near[1])
	if err != nil {
		cut()
		return nil, errors.Join(err, <-line.served)
	}
	return line, nil
}

// Cut ends the runner's end, as a process that ends does, and returns what that said.
func (l *Line) Cut() error {
	l.cut()
	return l.Served()
}

// Served waits until the runner's end is over and returns why.
func (l *Line) Served() error {
	err := <-l.served
	l.served <- err
	return err
}

// Close ends both ends.
func (l *Line) Close() {
	l.once.Do(func() {
		l.Link.Close(errors.New("the test is over"))
		l.cut()
		_ = l.Served()
	})
}

// Over opens a line that ends with the test.
func Over(t testing.TB, l runner.Link, cfg Config) *Line {
	t.Helper()
	line, err := Open(context.WithoutCancel(t.Context()), l, cfg)
	if err != nil {
		t.Fatalf("open a line: %v", err)
	}
	t.Cleanup(line.Close)
	return line
}

func connect(ctx context.Context, pipe bool) (near, far net.Conn, err error) {
	if pipe {
		near, far = net.Pipe()
		return near, far, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = l.Close() }()
	if far, err = (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if near, err = l.Accept(); err != nil {
		_ = far.Close()
	}
	return near, far, err
}
