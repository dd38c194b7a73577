package kept

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/bermhq/berm/internal/shim/wire"
)

// idle is a process that runs until it is killed.
type idle struct {
	once sync.Once
	end  chan wire.Exit
}

func (p *idle) Input([]byte)          {}
func (p *idle) EndInput()             {}
func (p *idle) Resize(uint16, uint16) {}
func (p *idle) Wait() wire.Exit       { return <-p.end }
func (p *idle) Drain()                {}
func (p *idle) Signal(n int) (sent bool) {
	p.once.Do(func() { p.end <- wire.Exit{Code: 128 + int32(n), Signal: n}; sent = true }) //nolint:gosec // a signal
	return sent
}

func idling() *Keeper {
	return New(func(wire.Request, Sink) (Process, *wire.Error) { return &idle{end: make(chan wire.Exit, 1)}, nil })
}

// TestKeeperMakesRoom: commands that ended longest ago go, those that run never do, and their names stay used.
func TestKeeperMakesRoom(t *testing.T) {
	k := idling()
	for n := range MaxExecs {
		if _, werr := k.create(wire.Request{Exec: fmt.Sprint("x", n)}); werr != nil {
			t.Fatal(werr)
		}
	}
	if _, werr := k.create(wire.Request{Exec: "more"}); werr == nil || werr.Code != wire.CodeExhausted {
		t.Fatalf("one more than %d: %v", MaxExecs, werr)
	}
	for _, id := range []string{"x7", "x3"} {
		x, _ := k.find(id)
		x.proc.Signal(sigKill)
		<-x.done
	}
	if _, werr := k.create(wire.Request{Exec: "more"}); werr != nil {
		t.Fatal(werr)
	}
	if _, werr := k.find("x7"); werr == nil || werr.Code != wire.CodeNoExec {
		t.Errorf("x7 ended first and is still there: %v", werr)
	}
	if _, werr := k.find("x3"); werr != nil {
		t.Errorf("x3 is gone: %v", werr)
	}
	if _, werr := k.create(wire.Request{Exec: "x7"}); werr == nil || werr.Code != wire.CodeExecExists {
		t.Errorf("x7 ran again: %v", werr)
	}
}

// TestKeeperRefusesWhatMakesNoSense: a caller that does not keep to the rules is told so, and reads it even while it writes.
func TestKeeperRefusesWhatMakesNoSense(t *testing.T) {
	for name, tt := range map[string]struct {
		frame []byte
		want  wire.Code
	}{
		"never sent":      {wire.AppendReceived(nil, 1), wire.CodeOffset},
		"negative":        {wire.AppendReceived(nil, -1), wire.CodeOffset},
		"another frame":   {wire.Append(nil, wire.TypeSignal, []byte{9}), wire.CodeInvalid},
		"no writer":       {wire.Append(nil, wire.TypeStdin, []byte("x")), wire.CodeInvalid},
		"no writer's end": {wire.Append(nil, wire.TypeCloseStdin, nil), wire.CodeInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			k := idling()
			x, _ := k.create(wire.Request{Exec: "x"})
			defer x.proc.Signal(sigKill)
			ours, theirs := net.Pipe()
			defer ours.Close()
			go k.Serve(theirs, wire.NewReader(theirs), wire.Request{Op: wire.OpExecAttach, Exec: "x", Follow: true}, nil)
			frames := wire.NewReader(ours)
			if f, err := frames.Read(); err != nil || f.Type != wire.TypeOK {
				t.Fatalf("%v %v", f, err)
			}
			go func() {
				for range 100 {
					if _, err := ours.Write(tt.frame); err != nil {
						return
					}
				}
			}()
			f, err := frames.Read()
			var said wire.Error
			if err != nil || f.Type != wire.TypeError || f.Decode(&said) != nil || said.Code != tt.want {
				t.Errorf("%v %v, want %s", said, err, tt.want)
			}
		})
	}
}

// TestKeeperStops: who is attached while the sandbox is saved is told; the command goes on.
func TestKeeperStops(t *testing.T) {
	k := idling()
	x, _ := k.create(wire.Request{Exec: "x"})
	ours, theirs := net.Pipe()
	defer ours.Close()
	stop := make(chan struct{})
	go k.Serve(theirs, wire.NewReader(theirs), wire.Request{Op: wire.OpExecAttach, Exec: "x", Follow: true}, stop)
	frames := wire.NewReader(ours)
	_, _ = frames.Read()
	close(stop)
	f, err := frames.Read()
	var said wire.Error
	if err != nil || f.Decode(&said) != nil || said.Code != wire.CodeNotRunning || x.state().ExitCode != nil {
		t.Errorf("%v %v %+v", said, err, x.state())
	}
	x.proc.Signal(sigKill)
	<-x.done
}
