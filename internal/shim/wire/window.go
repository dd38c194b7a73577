package wire

import (
	"fmt"
	"io"
	"sync"
)

// Window is what a writer of standard input knows of its way: at most StdinWindow bytes of it that the process has not taken. So no end
// of any hop holds input that it cannot pass on, and what else goes the same way never waits behind it.
type Window struct {
	mu          sync.Mutex
	taken, sent int64
	changed     chan struct{}
	over        chan struct{}
	end         sync.Once
}

// NewWindow returns that of a writer who begins at an offset, of a process that has taken so much.
func NewWindow(offset, taken int64) *Window {
	return &Window{sent: offset, taken: taken, changed: make(chan struct{}, 1), over: make(chan struct{})}
}

// Reserve returns how many of n bytes may be sent now, and counts them as sent. It waits until there are some, and returns
// io.ErrClosedPipe once there never will be, or done is closed.
func (w *Window) Reserve(n int, done <-chan struct{}) (int, error) {
	for {
		w.mu.Lock()
		room := min(w.taken+StdinWindow-w.sent, int64(n), MaxData)
		if room > 0 {
			w.sent += room
			w.mu.Unlock()
			return int(room), nil
		}
		w.mu.Unlock()
		select {
		case <-w.changed:
		case <-w.over:
			return 0, io.ErrClosedPipe
		case <-done:
			return 0, io.ErrClosedPipe
		}
	}
}

// Took notes that the process has all before an offset. It never has what nobody sent; input that came before this writer began may
// still be taken.
func (w *Window) Took(offset int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if offset < w.taken || offset > w.sent {
		return fmt.Errorf("%w: input was taken up to %d, of %d that were sent", ErrMalformed, offset, w.sent)
	}
	w.taken = offset
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return nil
}

// End says that nothing is taken any more.
func (w *Window) End() { w.end.Do(func() { close(w.over) }) }
