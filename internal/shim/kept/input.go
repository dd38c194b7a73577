package kept

import (
	"sync"

	"github.com/bermhq/berm/internal/shim/wire"
)

// input is the standard input of a command. One writer has the turn, the last to come; it begins behind what came before, wherever the
// process is with that.
type input struct {
	mu      sync.Mutex
	changed chan struct{} // closed at the next change; nil while nobody waits
	to      Process
	// accepted is how much came, taken how much of that the process has, or has not because it closed its end.
	accepted, taken int64
	// closed: the writer ended it. over: the process has ended, and nothing more counts as come.
	open, closed, over bool
	turn               *turn
}

// turn is that of a writer: end is behind the last input that came of it, closed that it ended the input.
type turn struct {
	end    int64
	closed bool
}

// take makes the caller the writer, from accepted on.
func (in *input) take() (t *turn, accepted, taken int64, werr *wire.Error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.open {
		return nil, 0, 0, wire.Errorf(wire.CodeInvalid, "the command was started without standard input")
	}
	in.turn = &turn{end: in.accepted}
	in.notify()
	return in.turn, in.accepted, in.taken, nil
}

// write takes data.
func (in *input) write(t *turn, data []byte) *wire.Error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if t != in.turn {
		return errTaken()
	}
	switch {
	case len(data) == 0:
		return nil
	case in.closed:
		return wire.Errorf(wire.CodeInputClosed, "standard input was closed after %d bytes", in.accepted)
	case in.accepted-in.taken+int64(len(data)) > wire.StdinWindow:
		return wire.Errorf(wire.CodeInvalid, "more than %d bytes of input came that the command has not read", wire.StdinWindow)
	}
	if in.over {
		return nil
	}
	in.accepted += int64(len(data))
	t.end = in.accepted
	in.to.Input(data)
	return nil
}

// end closes standard input.
func (in *input) end(t *turn) *wire.Error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if t != in.turn {
		return errTaken()
	}
	t.closed = true
	if !in.closed {
		in.closed = true
		in.to.EndInput()
		in.notify()
	}
	return nil
}

func errTaken() *wire.Error {
	return wire.Errorf(wire.CodeInputTaken, "somebody else has taken over the command's standard input")
}

// took notes that the process has n more bytes.
func (in *input) took(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.taken = min(in.taken+int64(n), in.accepted)
	in.notify()
}

// finish notes that the process has ended.
func (in *input) finish() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.over = true
}

// progress returns how much was taken and whether the input was closed, of what a writer may know, and what is closed when that changes.
// over: another has the turn, and all that came of this one was taken.
func (in *input) progress(t *turn) (taken int64, closed, over bool, changed <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.changed == nil {
		in.changed = make(chan struct{})
	}
	if t == in.turn {
		return in.taken, in.closed, false, in.changed
	}
	return min(in.taken, t.end), t.closed, in.taken >= t.end, in.changed
}

func (in *input) notify() {
	if in.changed != nil {
		close(in.changed)
		in.changed = nil
	}
}
