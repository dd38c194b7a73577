package kept

import (
	"io"
	"sync"

	"github.com/bermhq/berm/internal/shim/wire"
)

// attachment is a reader of a command's output, a writer of its input, or both.
type attachment struct {
	x   *exec
	w   io.Writer
	req wire.Request
	at  *cursor
	// turn is that of the input, nil for none; credited is how much of it the caller knows to be taken, closed that it knows it to be closed.
	turn     *turn
	credited int64
	closed   bool
	frame    []byte
	// gone is closed when the caller has hung up, or with refused said what makes no sense.
	gone    chan struct{}
	refused *wire.Error
}

// attach sends OK with the state, then Output from the offset on, and Credit for input that the process took, of nothing when it was closed; at last Exit with the
// state, when the command has ended and all was sent, or, without follow, End when there is no more now.
func (k *Keeper) attach(w io.Writer, frames *wire.Reader, req wire.Request, stop <-chan struct{}) {
	x, werr := k.find(req.Exec)
	if werr != nil {
		fail(w, werr)
		return
	}
	select {
	case x.attached <- struct{}{}:
		defer func() { <-x.attached }()
	default:
		fail(w, wire.Errorf(wire.CodeExhausted, "command %s has %d readers and writers already", req.Exec, MaxAttached))
		return
	}
	a := &attachment{x: x, w: w, req: req, gone: make(chan struct{})}
	state, werr := a.begin()
	if werr != nil {
		fail(w, werr)
		return
	}
	if wire.WriteJSON(w, wire.TypeOK, state) != nil {
		return
	}
	go a.receive(frames)
	a.run(stop)
}

// begin takes the places in output and input that the caller asks for.
func (a *attachment) begin() (wire.ExecState, *wire.Error) {
	if !a.req.Quiet {
		var ok bool
		if a.at, ok = a.x.ring.cursor(a.req.Offset); !ok {
			_, end := a.x.ring.extent()
			if a.x.ringFreed() {
				return wire.ExecState{}, a.deleted()
			}
			return wire.ExecState{}, wire.Errorf(wire.CodeOffset, "%d bytes were printed so far: offset %d was never reached", end, a.req.Offset)
		}
		a.x.ring.had(a.req.Offset)
	}
	if a.x.ringFreed() {
		return wire.ExecState{}, a.deleted()
	}
	state := a.x.state()
	if a.req.Stdin {
		var werr *wire.Error
		if a.turn, state.StdinOffset, state.StdinTaken, werr = a.x.in.take(); werr != nil {
			return state, werr
		}
		a.credited = state.StdinTaken
	}
	return state, nil
}

// run sends until the end.
func (a *attachment) run(stop <-chan struct{}) {
	for {
		over := a.x.done
		if !isClosed(over) {
			over = nil // What is printed last is in the ring before done.
		}
		credit, ok := a.credit()
		if !ok {
			return
		}
		sent, printed, ok := a.send()
		switch {
		case !ok:
			return
		case sent:
			continue
		case over != nil || a.x.ringFreed(): // A delete does not make its readers wait for the end.
			a.end()
			return
		case !a.req.Follow:
			_ = wire.Write(a.w, wire.TypeEnd, nil)
			return
		}
		select {
		case <-credit:
		case <-printed:
		case <-a.x.done:
		case <-a.gone:
			if a.refused != nil {
				fail(a.w, a.refused)
			}
			return
		case <-stop:
			fail(a.w, wire.Errorf(wire.CodeNotRunning, "the sandbox was saved: the command goes on when it is resumed"))
			return
		}
	}
}

// end sends the end, and stays until the caller has hung up.
func (a *attachment) end() {
	if a.x.ringFreed() {
		fail(a.w, a.deleted())
		return
	}
	_ = wire.WriteJSON(a.w, wire.TypeExit, a.x.state())
}

func (a *attachment) deleted() *wire.Error {
	return wire.Errorf(wire.CodeNoExec, "command %s was deleted", a.req.Exec)
}

func (x *exec) ringFreed() bool {
	x.ring.mu.Lock()
	defer x.ring.mu.Unlock()
	return x.ring.freed
}

// credit tells the caller what the process has taken of its input. changed is closed when there is more to tell. Who has lost the turn
// is told of all that came before, and then that: it would wait for ever otherwise.
func (a *attachment) credit() (changed <-chan struct{}, ok bool) {
	if a.turn == nil {
		return nil, true
	}
	taken, closed, over, changed := a.x.in.progress(a.turn)
	for a.credited < taken {
		n := min(taken-a.credited, wire.StdinWindow)
		if _, err := a.w.Write(wire.AppendUint32(nil, wire.TypeCredit, uint32(n))); err != nil { //nolint:gosec // bounded
			return nil, false
		}
		a.credited += n
	}
	if closed && !a.closed {
		a.closed = true
		if _, err := a.w.Write(wire.AppendUint32(nil, wire.TypeCredit, 0)); err != nil {
			return nil, false
		}
	}
	if over {
		fail(a.w, errTaken())
		return nil, false
	}
	return changed, true
}

// send sends the next piece of output. changed is closed when there may be one.
func (a *attachment) send() (sent bool, changed <-chan struct{}, ok bool) {
	if a.at == nil {
		return false, nil, true
	}
	o, over, changed := a.x.ring.next(a.at)
	if o.Data == nil {
		if over {
			changed = nil // Only done is waited for.
		}
		return false, changed, true
	}
	a.frame = wire.AppendOutput(append(a.frame[:0], make([]byte, wire.HeaderSize)...), o)
	wire.PutHeader(a.frame, wire.TypeOutput, len(a.frame)-wire.HeaderSize)
	_, err := a.w.Write(a.frame)
	return true, nil, err == nil
}

// receive takes what the caller says until it hangs up. After what makes no sense it takes nothing, and reads on: the caller may be
// writing, and is to read why.
func (a *attachment) receive(frames *wire.Reader) {
	over := sync.OnceFunc(func() { close(a.gone) })
	defer over()
	for {
		f, err := frames.Read()
		if err != nil {
			return
		}
		if isClosed(a.gone) {
			continue
		}
		if a.refused = a.take(f); a.refused != nil {
			over()
		}
	}
}

func (a *attachment) take(f wire.Frame) *wire.Error {
	switch f.Type {
	case wire.TypeReceived:
		offset, err := f.Int64()
		if err != nil || a.at == nil || !a.x.ring.had(offset) {
			return wire.Errorf(wire.CodeOffset, "offset %d was never sent", offset)
		}
		return nil
	case wire.TypeStdin:
		if a.turn == nil {
			break
		}
		return a.x.in.write(a.turn, f.Payload)
	case wire.TypeCloseStdin:
		if a.turn == nil {
			break
		}
		return a.x.in.end(a.turn)
	default:
	}
	return wire.Errorf(wire.CodeInvalid, "a frame of type %d has no place here", f.Type)
}
