package initd

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/bermhq/berm/internal/shim/cgroup"
	"github.com/bermhq/berm/internal/shim/podwire"
	"github.com/bermhq/berm/internal/shim/wire"
)

// answer serves one request of the runner.
func (p *pod) answer(s *stream) {
	defer s.hangUp()
	f, err := s.frames.Read()
	if err != nil {
		return
	}
	var req wire.Request
	if err := f.Decode(&req); err != nil || f.Type != wire.TypeRequest {
		s.fail(wire.Errorf(wire.CodeInvalid, "the first frame is no request"))
		return
	}
	if req.Version != wire.Version {
		s.fail(wire.Errorf(wire.CodeInvalid, "protocol version %d, this init knows %d", req.Version, wire.Version))
		return
	}
	switch req.Op {
	case wire.OpOutput:
		p.sendOutput(s, req)
	case wire.OpStop:
		p.stopWithin(req)
		_ = wire.Write(s, wire.TypeOK, nil)
	case wire.OpStats:
		p.stats(s)
	case wire.OpExec, wire.OpReadFile, wire.OpWriteFile, wire.OpReadArchive, wire.OpWriteArchive, wire.OpReadFrom, wire.OpWriteFrom,
		wire.OpFileState, wire.OpDial,
		wire.OpExecCreate, wire.OpExecList, wire.OpExecAttach, wire.OpExecSignal, wire.OpExecResize, wire.OpExecDelete:
		p.handlersMu.Lock()
		ending := p.ending
		p.handlersMu.Unlock()
		if ending {
			s.fail(wire.Errorf(wire.CodeNotRunning, "the sandbox has ended"))
			return
		}
		p.dispatch(s, req)
	default:
		s.fail(wire.UnknownOperation(req.Op))
	}
}

// terminated is closed when process 1 was asked to end.
func (p *pod) terminated() <-chan struct{} {
	c, asked := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(c, syscall.SIGTERM)
	go func() {
		<-c
		close(asked)
	}()
	return asked
}

// stopWithin asks the main process to end, and kills it after the grace. A later call can shorten the wait.
func (p *pod) stopWithin(req wire.Request) {
	p.stopMu.Lock()
	defer p.stopMu.Unlock()
	deadline := time.Now().Add(max(req.Grace, 0))
	if p.stopping && !deadline.Before(p.deadline) {
		return
	}
	if !p.stopping {
		p.write(podwire.Stopping(time.Now(), req.Why))
	}
	p.stopping, p.deadline = true, deadline
	if p.kill != nil {
		p.kill.Stop()
	}
	if req.Grace <= 0 {
		p.killMain()
		return
	}
	p.stop()
	p.kill = time.AfterFunc(req.Grace, p.killMain)
}

func (p *pod) killMain() {
	if !p.signalMain(syscall.SIGKILL) {
		p.stop()
	}
}

// stats tells what the container uses, of which the runtime shows its own control group.
func (p *pod) stats(s *stream) {
	mode, err := cgroup.Detect()
	var now cgroup.Stats
	if err == nil {
		now, err = cgroup.Group{Mode: mode, Path: "/"}.Stats()
	}
	if err != nil {
		s.fail(wire.Errorf(wire.CodeInternal, "%v", err))
		return
	}
	_ = wire.WriteJSON(s, wire.TypeOK, podwire.Stats{Stats: now, OutputBytes: p.output.total()})
}

// sendOutput brings what the main process printed from an offset on, then how it ended. Whoever asks has all before the offset;
// what credit is given for is had too. The last to ask is the one who gets it.
func (p *pod) sendOutput(s *stream, req wire.Request) {
	turn, werr := p.output.take(req.Offset)
	if werr != nil {
		s.fail(werr)
		return
	}
	if err := wire.WriteJSON(s, wire.TypeOK, wire.OutputInfo{End: p.output.total()}); err != nil {
		return
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			f, err := s.frames.Read()
			if err != nil || f.Type != wire.TypeCredit {
				return
			}
			n, err := f.Uint32()
			if err != nil || !p.output.had(turn, int64(n)) {
				return
			}
		}
	}()
	buf := make([]byte, 0, wire.HeaderSize+wire.OutputHeader+wire.MaxChunk)
	for {
		o, changed, mine := p.output.next(turn)
		switch {
		case !mine:
			return
		case o != nil:
			buf = wire.AppendOutput(append(buf[:0], make([]byte, wire.HeaderSize)...), *o)
			wire.PutHeader(buf, wire.TypeOutput, len(buf)-wire.HeaderSize)
			if _, err := s.Write(buf); err != nil {
				return
			}
			continue
		case isClosed(p.over):
			_ = wire.WriteJSON(s, wire.TypeExit, p.ended)
			wait(gone, flushTimeout) // Its last credit.
			return
		}
		select {
		case <-changed:
		case <-p.over:
		case <-gone:
			return
		}
	}
}
