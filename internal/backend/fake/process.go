package fake

import (
	"context"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// queuedFrames is how much output waits for a slow reader; then the program blocks, as on a full pipe.
const queuedFrames = 16

// process is a built-in program at work.
type process struct {
	now    func() time.Time
	frames chan backend.Frame
	// log takes the output of a main program, nil of a command.
	log *mainLog
	tty bool
	// listen makes the sandbox listen at a port.
	listen func(port uint16, address string)

	stdin    *io.PipeReader
	stdinEnd *io.PipeWriter

	killOnce sync.Once
	killed   chan struct{}
	// code is what a killed program ends with.
	code int32
	// exit is written before frames is closed and read after.
	exit   backend.Frame
	exited bool

	mu            sync.Mutex
	width, height uint16
}

var _ backend.Process = (*process)(nil)

func newProcess(now func() time.Time) *process {
	r, w := io.Pipe()
	return &process{now: now, frames: make(chan backend.Frame, queuedFrames), killed: make(chan struct{}), stdin: r, stdinEnd: w}
}

// run starts the program; onExit is told its code.
func (p *process) run(program program, e backend.Exec, fs *files, onExit func(code int32)) {
	p.tty = e.TTY
	p.width, p.height = e.Width, e.Height
	if !e.Stdin {
		_ = p.stdinEnd.Close() // a pipe's Close never fails
	}
	in := invocation{
		argv: e.Argv, env: e.Env, dir: e.Dir, files: fs, process: p, listen: p.listen,
		in: p.stdin, out: &output{p, backend.FrameStdout}, err: &output{p, backend.FrameStderr},
	}
	go func() {
		code := program(&in)
		p.stdin.CloseWithError(io.ErrClosedPipe)
		select {
		case <-p.killed:
			code = p.code
		default:
		}
		p.exit = backend.Frame{Kind: backend.FrameExit, ExitCode: code, At: p.now()}
		if code > 128 && code < 128+65 {
			p.exit.Signal = int(code - 128)
		}
		close(p.frames)
		onExit(code)
	}()
}

func (p *process) kill() { p.killBy(exitKilled) }

func (p *process) killBy(code int32) {
	p.killOnce.Do(func() {
		p.code = code
		close(p.killed)
		p.stdin.CloseWithError(io.ErrClosedPipe)
	})
}

// sleep waits and reports whether the process still lives.
func (p *process) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.killed:
		return false
	}
}

// Recv returns the next frame, the exit last.
func (p *process) Recv() (backend.Frame, error) {
	if f, ok := <-p.frames; ok {
		return f, nil
	}
	if p.exited {
		return backend.Frame{}, io.EOF
	}
	p.exited = true
	return p.exit, nil
}

// Send writes to the program's standard input.
func (p *process) Send(data []byte) error {
	if _, err := p.stdinEnd.Write(data); err != nil {
		return fault.Preconditionf(fault.ReasonExecFailed, "standard input is closed").WithCause(err)
	}
	return nil
}

// CloseSend ends standard input.
func (p *process) CloseSend() error { return p.stdinEnd.Close() }

// Resize changes the size that the program sees.
func (p *process) Resize(width, height uint16) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.width, p.height = width, height
	return nil
}

func (p *process) size() (width, height uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.width, p.height
}

// Close kills the program.
func (p *process) Close() error {
	p.kill()
	return nil
}

// output turns writes into frames.
type output struct {
	p    *process
	kind backend.FrameKind
}

func (o *output) Write(data []byte) (int, error) {
	if o.p.log != nil {
		o.p.log.write(o.kind, data, o.p.now())
		return len(data), nil
	}
	kind := o.kind
	if o.p.tty {
		kind = backend.FrameStdout
	}
	for rest := data; len(rest) > 0; {
		n := min(len(rest), backend.MaxExecChunk)
		f := backend.Frame{Kind: kind, Data: append([]byte(nil), rest[:n]...), At: o.p.now()}
		select {
		case o.p.frames <- f:
		case <-o.p.killed:
			return len(data) - len(rest), io.ErrClosedPipe
		}
		rest = rest[n:]
	}
	return len(data), nil
}

// Exec starts a built-in program in a sandbox. While the sandbox is CREATING it waits.
func (b *Backend) Exec(ctx context.Context, id string, e backend.Exec) (backend.Process, error) {
	s, err := b.settled(ctx, id)
	if err != nil {
		return nil, err
	}
	p, err := b.startProgram(ctx, s, e)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// startProgram starts a built-in program, which is killed when ctx ends.
func (b *Backend) startProgram(ctx context.Context, s *sandbox, e backend.Exec) (*process, error) {
	id := s.work.SandboxID
	if e.Dir == "" {
		e.Dir = "/"
	}
	if len(e.Argv) == 0 {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "the command is empty")
	}
	if !s.files.isDir(e.Dir) {
		return nil, fault.Preconditionf(fault.ReasonExecFailed, "working directory %q does not exist", e.Dir)
	}
	env := s.env()
	maps.Copy(env, e.Env)
	e.Env = env
	program := lookup(e.Argv)
	if program == nil {
		return nil, fault.Preconditionf(fault.ReasonCommandNotFound, "command %q does not exist in the sandbox", e.Argv[0])
	}
	p := newProcess(b.cfg.Now)
	p.listen = func(port uint16, address string) { b.Listen(id, port, address) }
	b.mu.Lock()
	if s.last.Phase != backend.PhaseRunning {
		b.mu.Unlock()
		return nil, notRunning(s)
	}
	s.procs[p] = struct{}{}
	b.mu.Unlock()
	forget := context.AfterFunc(ctx, p.kill)
	p.run(program, e, s.files, func(int32) {
		forget()
		b.locked(func() { delete(s.procs, p) })
	})
	return p, nil
}

// settled returns the sandbox once it left CREATING.
func (b *Backend) settled(ctx context.Context, id string) (*sandbox, error) {
	b.mu.Lock()
	if err := b.reachable(); err != nil {
		b.mu.Unlock()
		return nil, err
	}
	s, ok := b.sandboxes[id]
	b.mu.Unlock()
	if !ok {
		return nil, fault.NotFoundf(fault.ReasonSandboxNotFound, "sandbox %s is not known here", id)
	}
	select {
	case <-s.settled:
	case <-ctx.Done():
		return nil, fault.New(fault.Deadline, fault.ReasonSandboxNotRunning, "sandbox %s did not run in time", id).WithCause(ctx.Err())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.last.Phase != backend.PhaseRunning {
		return nil, notRunning(s)
	}
	return s, nil
}
