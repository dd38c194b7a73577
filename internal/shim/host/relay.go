package host

import (
	"errors"
	"io"

	"github.com/hashicorp/yamux"

	"github.com/bermhq/berm/internal/shim/wire"
)

// set is a set of frame types.
type set uint32

func types(list ...wire.Type) (s set) {
	for _, t := range list {
		s |= 1 << t
	}
	return s
}

func (s set) has(t wire.Type) bool { return s&(1<<t) != 0 }

// passage says which frames of a request go up to the init and down to the client, and which of those are the last.
type passage struct{ up, down, last set }

func passageOf(op wire.Op) passage {
	switch op {
	case wire.OpExec:
		return passage{
			up:   types(wire.TypeStdin, wire.TypeCloseStdin, wire.TypeResize, wire.TypeSignal),
			down: types(wire.TypeStarted, wire.TypeStdout, wire.TypeStderr, wire.TypeCredit),
			last: types(wire.TypeExit, wire.TypeError),
		}
	case wire.OpReadFile, wire.OpReadArchive, wire.OpReadFrom:
		return passage{down: types(wire.TypeOK, wire.TypeData), last: types(wire.TypeEnd, wire.TypeError)}
	case wire.OpDial:
		return passage{
			up:   types(wire.TypeData, wire.TypeEnd, wire.TypeCredit),
			down: types(wire.TypeStarted, wire.TypeData, wire.TypeEnd, wire.TypeCredit),
			last: types(wire.TypeOK, wire.TypeError),
		}
	case wire.OpExecAttach:
		return passage{
			up:   types(wire.TypeReceived, wire.TypeStdin, wire.TypeCloseStdin),
			down: types(wire.TypeOK, wire.TypeOutput, wire.TypeCredit),
			last: types(wire.TypeExit, wire.TypeEnd, wire.TypeError),
		}
	case wire.OpExecList:
		return passage{down: types(wire.TypeOK), last: types(wire.TypeEnd, wire.TypeError)}
	case wire.OpFileState, wire.OpExecCreate, wire.OpExecSignal, wire.OpExecResize, wire.OpExecDelete:
		return passage{last: types(wire.TypeOK, wire.TypeError)}
	default: // write_file, write_archive and write_from: OK comes twice, when it can begin and when it is done; the client closes then.
		return passage{
			up: types(wire.TypeData, wire.TypeEnd), down: types(wire.TypeOK), last: types(wire.TypeError),
		}
	}
}

var (
	errGone       = errors.New("the client hung up")
	errUnexpected = errors.New("the init sent a frame that has no place here")
)

// relay passes a request on to the init and every frame of it between init and client. Whatever the init sends is bounded in
// size and of a type that may be there; beyond that the client takes it for the sandbox's own word.
func (s *sandbox) relay(c *client, req wire.Request) {
	if !s.awaitRunning(c) {
		return
	}
	g := s.inside()
	stream, err := g.ask(req)
	if err != nil {
		c.fail(s.brokenOff(g, err))
		return
	}
	defer hangUp(stream)
	p := passageOf(req.Op)
	over := make(chan struct{})
	defer close(over)
	go func() {
		_ = pass(stream, c.frames, p.up, 0)
		// The client hung up, or what it sent makes no sense: the init takes the end of the stream as the end of the request.
		hangUp(stream)
		if req.Op == wire.OpExec {
			s.seeKilled(over)
		}
	}()
	err = pass(c, wire.NewReader(stream), p.down, p.last)
	switch {
	case errors.Is(err, errGone):
		if req.Op == wire.OpExec { // A command is over when the init says so, or nothing more; a file is nobody's to drain.
			_, _ = io.Copy(io.Discard, stream)
		}
	case err != nil:
		c.fail(s.brokenOff(g, err))
	}
}

// awaitRunning lets requests wait while the sandbox starts, or is being paused, saved or brought back.
func (s *sandbox) awaitRunning(c *client) bool {
	if isClosed(s.ended) {
		c.fail(wire.Errorf(wire.CodeNotRunning, "the sandbox has ended"))
		return false
	}
	select {
	case <-s.running:
		s.pausing.Lock()
		paused := s.paused()
		s.pausing.Unlock()
		if paused {
			c.fail(errPaused())
		}
		return !paused
	case <-s.ended:
		c.fail(wire.Errorf(wire.CodeNotRunning, "the sandbox did not start"))
		return false
	}
}

// brokenOff says why the init's answer is missing.
func (s *sandbox) brokenOff(g *guest, err error) *wire.Error {
	if g.parted.Load() && !isClosed(s.ended) {
		return wire.Errorf(wire.CodeNotRunning, "the sandbox was saved before the request was done")
	}
	if isClosed(g.gone()) || isClosed(s.ended) || errors.Is(err, yamux.ErrSessionShutdown) {
		return wire.Errorf(wire.CodeNotRunning, "the sandbox ended before the request was done")
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return wire.Errorf(wire.CodeInternal, "the init broke off: %v", err)
}

// pass copies frames of the types allowed until one of the last types was copied. It returns errGone when the writer
// failed, nil after a last frame.
func pass(to io.Writer, from *wire.Reader, allowed, last set) error {
	for {
		f, err := from.Read()
		if err != nil {
			return err
		}
		if !allowed.has(f.Type) && !last.has(f.Type) {
			return errUnexpected
		}
		if _, err := to.Write(f.Raw()); err != nil {
			return errGone
		}
		if last.has(f.Type) {
			return nil
		}
	}
}
