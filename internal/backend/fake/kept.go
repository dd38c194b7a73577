package fake

import (
	"context"
	"net"
	"strings"
	"sync"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/kept"
	"github.com/bermhq/berm/internal/shim/wire"
)

// keptClient returns a client of the commands that a sandbox keeps. Between the two goes what goes between a runner and an init, and the
// code that keeps them is the same: only the programs are built in.
func (b *Backend) keptClient(ctx context.Context, id string) (*shim.Client, error) {
	s, err := b.settled(ctx, id)
	if err != nil {
		return nil, err
	}
	b.locked(func() {
		if s.kept == nil {
			s.kept = kept.New(func(req wire.Request, sink kept.Sink) (kept.Process, *wire.Error) { return b.startKept(s, req, sink) })
		}
	})
	return shim.Over(func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			frames := wire.NewReader(theirs)
			var req wire.Request
			if f, err := frames.Read(); err == nil && f.Decode(&req) == nil {
				s.kept.Serve(theirs, frames, req, nil)
			}
		}()
		return ours, nil
	}), nil
}

// keptProgram is a built-in program that goes on without who started it.
type keptProgram struct {
	*process
	sink kept.Sink
	exit chan wire.Exit
	over chan struct{}

	mu    sync.Mutex
	queue [][]byte
	ended bool
	more  chan struct{}
}

func (b *Backend) startKept(s *sandbox, req wire.Request, sink kept.Sink) (kept.Process, *wire.Error) {
	env := map[string]string{}
	for _, entry := range req.Env {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	p, err := b.startProgram(context.Background(), s, backend.Exec{
		Argv: req.Argv, Env: env, Dir: req.Dir, TTY: req.TTY, Width: req.Width, Height: req.Height, Stdin: req.Stdin || req.TTY,
	})
	if err != nil {
		return nil, wireError(err)
	}
	k := &keptProgram{process: p, sink: sink, exit: make(chan wire.Exit, 1), over: make(chan struct{}), more: make(chan struct{}, 1)}
	go k.read()
	go k.write()
	return k, nil
}

// wireError says in an init's words why a program did not start.
func wireError(err error) *wire.Error {
	f := fault.From(err)
	code := wire.CodeNotRunning
	switch f.Reason {
	case fault.ReasonCommandNotFound:
		code = wire.CodeCommandNotFound
	case fault.ReasonExecFailed:
		code = wire.CodeExecFailed
	case fault.ReasonInvalidRequest:
		code = wire.CodeInvalid
	}
	return wire.Errorf(code, "%s", f.Message)
}

func (k *keptProgram) read() {
	defer close(k.over)
	for {
		f, err := k.Recv()
		if err != nil {
			return
		}
		stream := wire.Stdout
		switch f.Kind {
		case backend.FrameExit:
			k.exit <- wire.Exit{Code: f.ExitCode, Signal: f.Signal}
			return
		case backend.FrameStderr:
			stream = wire.Stderr
		case backend.FrameStdout:
		}
		if !k.sink.Output(stream, f.Data) {
			k.kill()
		}
	}
}

// write feeds the program; what it does not read any more is dropped, as by a closed pipe.
func (k *keptProgram) write() {
	for {
		select {
		case <-k.more:
		case <-k.over:
			return
		}
		k.mu.Lock()
		queue, ended := k.queue, k.ended
		k.queue = nil
		k.mu.Unlock()
		for _, data := range queue {
			_ = k.Send(data)
			k.sink.Took(len(data))
		}
		if ended {
			_ = k.CloseSend()
			return
		}
	}
}

// Input queues input.
func (k *keptProgram) Input(data []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.queue = append(k.queue, append([]byte(nil), data...))
	k.wake()
}

// EndInput ends it.
func (k *keptProgram) EndInput() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
	k.wake()
}

func (k *keptProgram) wake() {
	select {
	case k.more <- struct{}{}:
	default:
	}
}

// Signal ends the program, by any signal.
func (k *keptProgram) Signal(signal int) bool {
	select {
	case <-k.over:
		return false
	default:
	}
	k.killBy(128 + int32(signal)) //nolint:gosec // a signal
	return true
}

// Resize changes the size that the program sees.
func (k *keptProgram) Resize(width, height uint16) { _ = k.process.Resize(width, height) }

// Wait returns how the program ended, Drain when all was read: which is before.
func (k *keptProgram) Wait() wire.Exit { return <-k.exit }

// Drain returns at once.
func (k *keptProgram) Drain() { <-k.over }
