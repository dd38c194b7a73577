package backendtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/backendtest/ports"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// Where the port server listens, and where nothing does.
const (
	echoPort, countPort, floodPort, cutPort, closedPort = 8071, 8072, 8073, 8074, 8079
)

// listening makes a sandbox in which the port server listens.
func (s *suite) listening(t *testing.T) string {
	t.Helper()
	id, program := s.idle(t), "port-server"
	if s.opts.PortServer != "" {
		f, err := os.Open(s.opts.PortServer)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		program = "/tmp/port-server"
		if err := s.b.WriteFile(s.ctx, id, program, 0o755, f); err != nil {
			t.Fatal(err)
		}
	}
	p, err := s.b.Exec(s.ctx, id, backend.Exec{Argv: []string{
		program, "echo", "127.0.0.1:" + strconv.Itoa(echoPort), "count", "127.0.0.1:" + strconv.Itoa(countPort),
		"flood", "127.0.0.1:" + strconv.Itoa(floodPort), "cut", "127.0.0.1:" + strconv.Itoa(cutPort),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if f, err := p.Recv(); err != nil || string(f.Data) != "ready\n" {
		t.Fatalf("port server: %q %v", f.Data, err)
	}
	return id
}

func (s *suite) dial(t *testing.T, id string, port uint16) backend.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	t.Cleanup(cancel)
	c, err := s.b.Dial(ctx, id, port)
	if err != nil {
		t.Fatalf("dial %d: %v", port, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// send writes all and ends the half.
func send(c backend.Conn, data []byte) error {
	if _, err := c.Write(data); err != nil {
		return err
	}
	return c.CloseWrite()
}

func (s *suite) testPorts() {
	id := s.listening(s.T)
	s.sub("what is sent comes back whole, and each half ends by itself", func(t *testing.T) {
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
		c := s.dial(t, id, echoPort)
		sent := make(chan error, 1)
		go func() { sent <- send(c, data) }()
		got, err := io.ReadAll(c)
		if err := errors.Join(err, <-sent); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
		}
	})
	s.sub("the answer to what was ended", func(t *testing.T) {
		c := s.dial(t, id, countPort)
		if err := send(c, make([]byte, 3<<20)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != strconv.Itoa(3<<20)+"\n" {
			t.Errorf("%q, %v", got, err)
		}
	})
	s.sub("a half that nobody reads does not hold up the other", func(t *testing.T) {
		c := s.dial(t, id, floodPort)
		if err := send(c, make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, c); err != nil || n != ports.Flood {
			t.Errorf("%d bytes of %d, %v", n, ports.Flood, err)
		}
	})
	s.sub("a connection that the program cut did not end", func(t *testing.T) {
		c := s.dial(t, id, cutPort)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadAll(c)
		wantFault(t, err, fault.Precondition, fault.ReasonPortClosed)
	})
	s.sub("a hundred at once", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 100 {
			c := s.dial(t, id, echoPort)
			all.Go(func() {
				text := strconv.Itoa(i)
				err := send(c, []byte(text))
				got, readErr := io.ReadAll(c)
				if err := errors.Join(err, readErr); err != nil || string(got) != text {
					t.Errorf("%d: %q, %v", i, got, err)
				}
			})
		}
		all.Wait()
	})
	s.sub("nothing listens", func(t *testing.T) {
		_, err := s.b.Dial(s.ctx, id, closedPort)
		wantFault(t, err, fault.Precondition, fault.ReasonPortClosed)
	})
	s.sub("unknown sandboxes", func(t *testing.T) {
		_, err := s.b.Dial(s.ctx, "sbx-unknown", echoPort)
		wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
	})
	s.sub("the end of the context cuts", func(t *testing.T) {
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		c, err := s.b.Dial(ctx, id, echoPort)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		cancel()
		if _, err := io.ReadAll(c); err == nil {
			t.Error("a cut connection ended as one that was closed in order")
		}
	})
	s.sub("the end of the sandbox cuts", func(t *testing.T) {
		c := s.dial(t, id, echoPort)
		if err := s.b.Stop(s.ctx, id, 0, core.EndStopped); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err == nil {
			t.Error("a cut connection ended as one that was closed in order")
		}
		s.ended(t, id)
		_, err := s.b.Dial(s.ctx, id, echoPort)
		wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
	})
}
