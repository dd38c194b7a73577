package kept

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/shim/wire"
)

// program is a process whose answers a test chooses.
type program struct {
	idle
	sink Sink
	// signaled is called when it was killed, before Signal returns; drain is called by Drain.
	signaled, drain func()
}

func (p *program) Signal(n int) bool { sent := p.idle.Signal(n); p.signaled(); return sent }
func (p *program) Drain()            { p.drain() }

// keeping returns a Keeper of one such process, x.
func keeping(t *testing.T, req wire.Request, signaled, drain func()) (*Keeper, *exec, *program) {
	t.Helper()
	p := &program{idle: idle{end: make(chan wire.Exit, 1)}, signaled: signaled, drain: drain}
	k := New(func(_ wire.Request, s Sink) (Process, *wire.Error) { p.sink = s; return p, nil })
	req.Exec = "x"
	x, werr := k.create(req)
	if werr != nil {
		t.Fatal(werr)
	}
	t.Cleanup(func() { p.idle.Signal(sigKill) })
	return k, x, p
}

func nothing() {}

// join serves an attach and returns the caller's end.
func join(t *testing.T, k *Keeper, req wire.Request) (net.Conn, *wire.Reader) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = ours.Close() })
	req.Op, req.Exec = wire.OpExecAttach, "x"
	go func() {
		k.Serve(theirs, wire.NewReader(theirs), req, nil)
		_ = theirs.Close()
	}()
	return ours, wire.NewReader(ours)
}

// wantError reads to the error that ends a stream, and returns how much input it was told to be taken before.
func wantError(t *testing.T, frames *wire.Reader, code wire.Code) (credit uint32) {
	t.Helper()
	for {
		f, err := frames.Read()
		if err != nil {
			t.Errorf("%v, want %s", err, code)
			return credit
		}
		switch f.Type {
		case wire.TypeCredit:
			n, _ := f.Uint32()
			credit += n
		case wire.TypeError:
			var said wire.Error
			if err := f.Decode(&said); err != nil || said.Code != code {
				t.Errorf("%v %v, want %s", said, err, code)
			}
			return credit
		case wire.TypeExit, wire.TypeEnd:
			t.Errorf("frame %d, want %s", f.Type, code)
			return credit
		default:
		}
	}
}

// TestKeeperWhileDeleting: who comes, reads or creates again while a command is deleted, and takes its time to end, is told.
func TestKeeperWhileDeleting(t *testing.T) {
	gate := make(chan struct{})
	k, x, p := keeping(t, wire.Request{}, nothing, func() { <-gate })
	p.sink.Output(wire.Stdout, []byte("output"))
	_, there := join(t, k, wire.Request{Follow: true})
	removed := make(chan *wire.Error, 1)
	go func() { removed <- k.remove("x") }()
	for !x.ringFreed() {
		time.Sleep(time.Millisecond)
	}
	wantError(t, there, wire.CodeNoExec)
	for _, req := range []wire.Request{{Offset: 3}, {Offset: 3, Follow: true}, {}, {Offset: 6}, {Quiet: true}, {Offset: 100}} {
		_, frames := join(t, k, req)
		wantError(t, frames, wire.CodeNoExec)
	}
	if _, werr := k.create(wire.Request{Exec: "x"}); werr == nil || werr.Code != wire.CodeExecExists {
		t.Errorf("a command that is being deleted was created: %v", werr)
	}
	if werr := k.makeRoom(MinOutput); werr != nil {
		t.Error(werr)
	}
	close(gate)
	if werr := <-removed; werr != nil {
		t.Error(werr)
	}
}

// TestKeeperTurnIsLost: a writer whose turn was taken is told of all its input that was taken, and then that.
func TestKeeperTurnIsLost(t *testing.T) {
	k, x, p := keeping(t, wire.Request{Stdin: true}, nothing, nothing)
	first, told := join(t, k, wire.Request{Quiet: true, Follow: true, Stdin: true})
	if f, err := told.Read(); err != nil || f.Type != wire.TypeOK {
		t.Fatalf("%v %v", f, err)
	}
	if _, err := first.Write(wire.Append(nil, wire.TypeStdin, []byte("first"))); err != nil {
		t.Fatal(err)
	}
	for x.state().StdinOffset < 5 {
		time.Sleep(time.Millisecond)
	}
	second, other := join(t, k, wire.Request{Quiet: true, Follow: true, Stdin: true})
	if f, err := other.Read(); err != nil || f.Type != wire.TypeOK {
		t.Fatalf("%v %v", f, err)
	}
	if _, err := second.Write(wire.Append(nil, wire.TypeStdin, []byte("second"))); err != nil {
		t.Fatal(err)
	}
	for x.state().StdinOffset < 11 {
		time.Sleep(time.Millisecond)
	}
	go p.sink.Took(8)
	if credit := wantError(t, told, wire.CodeInputTaken); credit != 5 {
		t.Errorf("the first was told of %d bytes that were taken, of 5 that it wrote", credit)
	}
	var credit uint32
	for credit < 8 {
		f, err := other.Read()
		if err != nil || f.Type != wire.TypeCredit {
			t.Fatalf("%v %v", f, err)
		}
		n, _ := f.Uint32()
		credit += n
	}
	_ = first.Close()
	for len(x.attached) > 1 { // Its place is free.
		time.Sleep(time.Millisecond)
	}
}

// TestKeeperTimedOut: the end by a timeout is never told without its reason, however long the signal takes.
func TestKeeperTimedOut(t *testing.T) {
	_, x, _ := keeping(t, wire.Request{Timeout: time.Millisecond}, func() { time.Sleep(50 * time.Millisecond) }, nothing)
	<-x.done
	if s := x.state(); !s.TimedOut || s.ExitCode == nil {
		t.Errorf("%+v", s)
	}
}

// TestKeeperCountsWhatEnded: commands that ended, and whose output waits for a reader, are not said to run.
func TestKeeperCountsWhatEnded(t *testing.T) {
	k, x, p := keeping(t, wire.Request{Limit: MaxOutput}, nothing, nothing)
	full := make(chan struct{})
	p.drain = func() { close(full); p.sink.Output(wire.Stdout, make([]byte, MaxOutput+1)) }
	p.idle.Signal(sigKill)
	<-full
	werr := k.makeRoom(MaxOutputs)
	if werr == nil || !strings.Contains(werr.Message, " 0 commands that run and 1 that ended") {
		t.Errorf("%v", werr)
	}
	x.ring.free()
	<-x.done
}
