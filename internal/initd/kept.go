package initd

import (
	"sync"
	"syscall"
	"time"

	"github.com/bermhq/berm/internal/shim/kept"
	"github.com/bermhq/berm/internal/shim/wire"
)

// keptProcess is a command that goes on without who started it (package kept).
type keptProcess struct {
	execution
	sink kept.Sink
	// explaining is held while the command's own output is told why it is killed.
	explaining sync.Mutex
}

var _ kept.Process = (*keptProcess)(nil)

func (d *daemon) startKept(req wire.Request, sink kept.Sink) (kept.Process, *wire.Error) {
	p := &keptProcess{sink: sink}
	p.execution = execution{daemon: d, send: p.output, took: sink.Took, fail: p.explain}
	if werr := p.start(req); werr != nil {
		return nil, werr
	}
	p.copyOutputs()
	return p, nil
}

func (p *keptProcess) output(kind wire.Type, frame []byte) bool {
	stream := wire.Stdout
	if kind == wire.TypeStderr {
		stream = wire.Stderr
	}
	if p.sink.Output(stream, frame[wire.HeaderSize:]) {
		return true
	}
	p.kill()
	return false
}

// explain kills the command and says in its own output why: there may be nobody else to tell. It is killed first, because output may have
// no room for as long as nobody reads.
func (p *keptProcess) explain(werr *wire.Error) {
	p.explaining.Lock()
	defer p.explaining.Unlock()
	p.kill()
	p.sink.Output(wire.Stderr, []byte("berm: "+werr.Message+"\n"))
}

// Input gives the process input. The keeper never gives more than fits.
func (p *keptProcess) Input(data []byte) {
	if p.input != nil {
		p.input.push(data)
	}
}

// EndInput ends its input.
func (p *keptProcess) EndInput() {
	if p.input != nil {
		p.input.finish()
	}
}

// Signal sends a signal to its group.
func (p *keptProcess) Signal(signal int) bool {
	return p.daemon.reaper.Kill(p.child.pid, true, syscall.Signal(signal))
}

// Resize sets the size of its terminal.
func (p *keptProcess) Resize(width, height uint16) { p.resize(width, height) }

// Wait waits for its end.
func (p *keptProcess) Wait() wire.Exit { return exitOf(<-p.child.done) }

// Drain returns when all that it printed is in the sink.
func (p *keptProcess) Drain() {
	p.drain()
	p.explaining.Lock() // Whoever killed it has told why.
	defer p.explaining.Unlock()
	p.close()
}

// serveKept answers a request about such commands. What would go on while the sandbox is saved is ended; the command is not.
func (d *daemon) serveKept(s *stream, req wire.Request) {
	visit := &keptVisit{stream: s, stop: make(chan struct{})}
	if !d.enlist(visit) {
		visit.endSaved()
	} else {
		defer d.dismiss(visit)
	}
	d.kept.Serve(s, s.frames, req, visit.stop)
}

// keptVisit is a request about a kept command.
type keptVisit struct {
	stream *stream
	stop   chan struct{}
	once   sync.Once
}

// endSaved may come again, of a second attempt to save.
func (v *keptVisit) endSaved() {
	_ = v.stream.SetWriteDeadline(time.Now().Add(wordTimeout)) // Its caller may not be reading.
	v.once.Do(func() { close(v.stop) })
}
