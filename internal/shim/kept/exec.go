package kept

import (
	"crypto/sha256"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bermhq/berm/internal/shim/wire"
)

const sigKill = int(syscall.SIGKILL)

// exec is a command that runs or has ended.
type exec struct {
	spec    wire.Request
	digest  [sha256.Size]byte
	created time.Time
	proc    Process
	ring    *ring
	in      input
	// attached has a token for each reader and writer.
	attached chan struct{}
	// done is closed when the process has ended and all that it printed is in the ring.
	done chan struct{}

	mu       sync.Mutex
	ended    time.Time
	exit     *wire.Exit
	timedOut bool
}

var _ Sink = (*exec)(nil)

func (k *Keeper) begin(req wire.Request, digest [sha256.Size]byte) (*exec, *wire.Error) {
	r, err := newRing(int(req.Limit), req.Drop)
	if err != nil {
		return nil, wire.Errorf(wire.CodeExhausted, "no memory for the output of a command: %v", err)
	}
	x := &exec{spec: req, digest: digest, created: time.Now(), ring: r, attached: make(chan struct{}, MaxAttached), done: make(chan struct{})}
	x.in.open = req.Stdin || req.TTY
	proc, werr := k.start(req, x)
	if werr != nil {
		r.free()
		return nil, werr
	}
	x.proc, x.in.to = proc, proc
	go x.watch()
	return x, nil
}

// watch waits for the end. A process that takes too long is killed.
func (x *exec) watch() {
	if x.spec.Timeout > 0 {
		t := time.AfterFunc(x.spec.Timeout, func() {
			x.mu.Lock() // The end that this makes is not told before the reason for it.
			defer x.mu.Unlock()
			x.timedOut = x.exit == nil && x.proc.Signal(sigKill)
		})
		defer t.Stop()
	}
	exit := x.proc.Wait()
	x.mu.Lock()
	x.exit, x.ended = &exit, time.Now()
	x.mu.Unlock()
	x.in.finish()
	x.proc.Drain()
	x.ring.close()
	close(x.done)
}

// Output implements Sink.
func (x *exec) Output(stream wire.Stream, data []byte) bool {
	return x.ring.put(stream, data, time.Now())
}

// Took implements Sink.
func (x *exec) Took(n int) { x.in.took(n) }

func (x *exec) endedAt() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ended
}

// state is what is told of the command.
func (x *exec) state() wire.ExecState {
	s := wire.ExecState{
		ID: x.spec.Exec, TTY: x.spec.TTY, Stdin: x.in.open, Drop: x.spec.Drop, Limit: x.spec.Limit, Timeout: x.spec.Timeout, CreatedAt: x.created,
	}
	s.Command, s.Shortened = shown(x.spec.Argv)
	s.Done = isClosed(x.done) // Before what is final then.
	s.First, s.End = x.ring.extent()
	x.in.mu.Lock()
	s.StdinOffset, s.StdinTaken, s.StdinClosed = x.in.accepted, x.in.taken, x.in.closed
	x.in.mu.Unlock()
	x.mu.Lock()
	if s.EndedAt, s.TimedOut = x.ended, x.timedOut; x.exit != nil {
		s.ExitCode, s.Signal = &x.exit.Code, x.exit.Signal
	}
	x.mu.Unlock()
	return s
}

// shown is the beginning of a command.
func shown(argv []string) (out []string, shortened bool) {
	room := maxShown
	for _, a := range argv {
		if len(a) >= room {
			return append(out, strings.ToValidUTF8(a[:room], "")), true
		}
		room -= len(a) + 1
		out = append(out, a)
	}
	return out, false
}
