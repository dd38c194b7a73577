package backendtest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *suite) testExec() {
	id := s.idle(s.T)
	s.sub("output, then the exit", func(t *testing.T) {
		r := s.exec(t, id, backend.Exec{Argv: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}})
		if r.out != "out\n" || r.err != "err\n" || r.exit.ExitCode != 3 || r.exit.Signal != 0 {
			t.Errorf("%+v", r)
		}
		for _, f := range r.frames {
			if f.At.IsZero() {
				t.Error("a frame has no time")
			}
		}
	})
	s.sub("arguments are not interpreted", func(t *testing.T) {
		r := s.exec(t, id, backend.Exec{Argv: []string{"echo", "-n", "a  b", "$HOME;*", "'"}})
		if want := "a  b $HOME;* '"; r.out != want {
			t.Errorf("got %q, want %q", r.out, want)
		}
	})
	s.sub("environment and directory", func(t *testing.T) {
		r := s.exec(t, id, backend.Exec{Argv: []string{"printenv", "NAME"}, Env: map[string]string{"NAME": "a=b c"}})
		if r.out != "a=b c\n" {
			t.Errorf("environment: %+v", r)
		}
		if r := s.exec(t, id, backend.Exec{Argv: []string{"pwd"}, Dir: "/tmp"}); r.out != "/tmp\n" {
			t.Errorf("directory: %+v", r)
		}
	})
	s.sub("a signal is 128 plus its number", func(t *testing.T) {
		r := s.exec(t, id, backend.Exec{Argv: []string{"sh", "-c", "kill -KILL $$"}})
		if r.exit.ExitCode != 128+9 || r.exit.Signal != 9 {
			t.Errorf("%+v", r.exit)
		}
	})
	s.sub("a command that does not exist", func(t *testing.T) {
		_, err := s.b.Exec(s.ctx, id, backend.Exec{Argv: []string{"no-such-command-here"}})
		wantFault(t, err, fault.CodeOf(err), fault.ReasonCommandNotFound)
	})
	s.sub("no command", func(t *testing.T) {
		_, err := s.b.Exec(s.ctx, id, backend.Exec{})
		wantFault(t, err, fault.Invalid, "")
	})
	s.sub("a directory that does not exist", func(t *testing.T) {
		_, err := s.b.Exec(s.ctx, id, backend.Exec{Argv: []string{"true"}, Dir: "/no/such/directory"})
		wantFault(t, err, fault.CodeOf(err), fault.ReasonExecFailed)
	})
	s.sub("unknown and ended sandboxes", func(t *testing.T) {
		_, err := s.b.Exec(s.ctx, "sbx-unknown", backend.Exec{Argv: []string{"true"}})
		wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
		ended := s.create(t, s.work("true"))
		s.ended(t, ended)
		_, err = s.b.Exec(s.ctx, ended, backend.Exec{Argv: []string{"true"}})
		wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
	})
	s.sub("waits while the sandbox is being created", func(t *testing.T) {
		// Right after Create, whatever the phase is by then.
		fresh := s.create(t, s.work("sleep", "infinity"))
		if r := s.exec(t, fresh, backend.Exec{Argv: []string{"echo", "ready"}}); r.out != "ready\n" {
			t.Errorf("%+v", r)
		}
	})
}

func (s *suite) testStreams() {
	id := s.idle(s.T)
	s.sub("no standard input reads as empty", func(t *testing.T) {
		if r := s.exec(t, id, backend.Exec{Argv: []string{"cat"}}); r.out != "" || r.exit.ExitCode != 0 {
			t.Errorf("%+v", r)
		}
	})
	s.sub("standard input arrives whole and in order", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		p, err := s.b.Exec(ctx, id, backend.Exec{Argv: []string{"cat"}, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close() }()
		const lines = 20_000
		line := strings.Repeat("0123456789abcdef", 4) + "\n"
		go func() {
			for range lines {
				if err := p.Send([]byte(line)); err != nil {
					t.Errorf("send: %v", err)
					return
				}
			}
			if err := p.CloseSend(); err != nil {
				t.Errorf("close of standard input: %v", err)
			}
		}()
		if r := collect(t, p); r.out != strings.Repeat(line, lines) || r.exit.ExitCode != 0 {
			t.Errorf("%d bytes of %d came back, exit %d", len(r.out), lines*len(line), r.exit.ExitCode)
		}
	})
	s.sub("much output is lossless for a slow reader", func(t *testing.T) {
		const size = 8 << 20
		if r := s.exec(t, id, backend.Exec{Argv: []string{"head", "-c", "8388608", "/dev/zero"}}); len(r.out) != size {
			t.Errorf("%d bytes of %d arrived", len(r.out), size)
		}
	})
	s.sub("output is not held back", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		p, err := s.b.Exec(ctx, id, backend.Exec{Argv: []string{"sh", "-c", "echo first; sleep infinity"}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close() }()
		if f, err := p.Recv(); err != nil || string(f.Data) != "first\n" {
			t.Errorf("got %q, %v", f.Data, err)
		}
	})
	s.sub("close and the end of the context kill", func(t *testing.T) {
		for _, end := range []string{"close", "context"} {
			ctx, cancel := context.WithCancel(s.ctx)
			p, err := s.b.Exec(ctx, id, backend.Exec{Argv: []string{"sleep", "infinity"}})
			if err != nil {
				cancel()
				t.Fatal(err)
			}
			if end == "close" {
				_ = p.Close()
			} else {
				cancel()
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					if f, err := p.Recv(); err != nil {
						return
					} else if f.Kind == backend.FrameExit && f.ExitCode == 0 {
						t.Errorf("%s: a killed command reported success", end)
					}
				}
			}()
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatalf("%s did not end the command", end)
			}
			_ = p.Close()
			cancel()
		}
		if r := s.exec(t, id, backend.Exec{Argv: []string{"echo", "healthy"}}); r.out != "healthy\n" {
			t.Errorf("the sandbox suffered: %+v", r)
		}
	})
}

func (s *suite) testTerminal() {
	id := s.idle(s.T)
	s.sub("all output is standard output, and the size is known", func(t *testing.T) {
		r := s.exec(t, id, backend.Exec{Argv: []string{"sh", "-c", "stty size; echo err >&2"}, TTY: true, Stdin: true, Width: 101, Height: 37})
		if r.err != "" || !strings.Contains(r.out, "37 101") || !strings.Contains(r.out, "err") {
			t.Errorf("%+v", r)
		}
	})
	s.sub("the end of standard input reaches the program", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		p, err := s.b.Exec(ctx, id, backend.Exec{Argv: []string{"cat"}, TTY: true, Stdin: true, Width: 80, Height: 24})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close() }()
		if err := p.Resize(120, 40); err != nil {
			t.Errorf("resize: %v", err)
		}
		if err := p.Send([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
		if err := p.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if s.opts.NoTerminalEOF {
			for {
				f, err := p.Recv()
				var said *fault.Error
				if errors.As(err, &said) && said.Code != fault.Internal && strings.Contains(said.Message, "terminal") {
					return
				}
				if err != nil || f.Kind == backend.FrameExit {
					t.Fatalf("%+v %v, want an error that says why", f, err)
				}
			}
		}
		if r := collect(t, p); !strings.Contains(r.out, "line") || r.exit.ExitCode != 0 {
			t.Errorf("%+v", r)
		}
	})
}
