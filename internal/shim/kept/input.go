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
	turn               int
}

// take makes the caller the writer, from accepted on.
func (in *input) take() (turn int, accepted, taken int64, werr *wire.Error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.open {
		return 0, 0, 0, wire.Errorf(wire.CodeInvalid, "the command was started without standard input")
	}
	in.turn++
	in.notify()
	return in.turn, in.accepted, in.taken, nil
}

// write takes data.
func (in *input) write(turn int, data []byte) *wire.Error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if turn != in.turn {
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
	in.to.Input(data)
	return nil
}

// end closes standard input.
func (in *input) end(turn int) *wire.Error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if turn != in.turn {
		return errTaken()
	}
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

// progress returns how much was taken and whether the input was closed, and what is closed when that changes. mine is false once another
// has the turn.
func (in *input) progress(turn int) (taken int64, closed bool, changed <-chan struct{}, mine bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.changed == nil {
		in.changed = make(chan struct{})
	}
	return in.taken, in.closed, in.changed, turn == in.turn
}

func (in *input) notify() {
	if in.changed != nil {
		close(in.changed)
		in.changed = nil
	}
}
