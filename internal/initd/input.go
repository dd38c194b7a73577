package initd

import (
	"os"
	"sync"

	"github.com/bermhq/berm/internal/shim/wire"
)

// endOfFile is what a terminal takes for the end of input.
const endOfFile = 4

// input feeds standard input to a process. It takes at most wire.StdinWindow bytes that the process has not read, and gives
// credit for what it has: so whoever reads the stream is never held up by a process that does not read.
type input struct {
	file *os.File
	x    *execution

	mu       sync.Mutex
	queue    [][]byte
	queued   int
	finished bool
	gone     bool
	more     chan struct{}
}

// newInput returns an input that writes to f.
func newInput(f *os.File, x *execution) *input {
	in := &input{file: f, x: x, more: make(chan struct{}, 1)}
	go in.run()
	return in
}

// push queues data; false if the sender had no credit for it.
func (in *input) push(data []byte) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.queued+len(data) > wire.StdinWindow {
		return false
	}
	if in.finished || len(data) == 0 {
		return true // After the end there is nothing to give credit for.
	}
	in.queue = append(in.queue, append([]byte(nil), data...))
	in.queued += len(data)
	in.wake()
	return true
}

// finish ends the input after what is queued.
func (in *input) finish() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.finished = true
	in.wake()
}

// abandon ends the input now.
func (in *input) abandon() {
	in.mu.Lock()
	in.gone = true
	in.wake()
	in.mu.Unlock()
	_ = in.file.Close() // Also ends a write that the process keeps waiting.
}

func (in *input) wake() {
	select {
	case in.more <- struct{}{}:
	default:
	}
}

// next returns what is to be written; end says that nothing more comes.
func (in *input) next() (data []byte, end bool) {
	for {
		in.mu.Lock()
		switch {
		case in.gone:
			in.mu.Unlock()
			return nil, true
		case len(in.queue) > 0:
			data, in.queue = in.queue[0], in.queue[1:]
			in.mu.Unlock()
			return data, false
		case in.finished:
			in.mu.Unlock()
			return nil, true
		}
		in.mu.Unlock()
		<-in.more
	}
}

func (in *input) run() {
	for {
		data, end := in.next()
		if end {
			in.close()
			return
		}
		// A process that closed its input is none that failed: the rest is discarded, as for any pipe.
		_, _ = in.file.Write(data)
		in.mu.Lock()
		in.queued -= len(data)
		in.mu.Unlock()
		in.x.took(len(data))
	}
}

// close tells the process that there is no more. A terminal stays open: it is its output too. After abandon there is nobody to tell.
func (in *input) close() {
	in.mu.Lock()
	gone := in.gone
	in.mu.Unlock()
	if gone {
		return
	}
	if in.x.tty != nil {
		if !in.x.daemon.endsInput {
			in.x.failInput()
			return
		}
		_, _ = in.file.Write([]byte{endOfFile})
		return
	}
	_ = in.file.Close()
}
