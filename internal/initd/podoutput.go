package initd

import (
	"os"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/shim/wire"
)

// maxHeld is how many bytes of output are held that the runner does not have yet. When it is reached the main process waits, as for
// any reader that is slow: nothing is lost while the runner is away.
const maxHeld = 1 << 20

// heldOutput is what the main process printed and the runner does not have yet.
type heldOutput struct {
	mu      sync.Mutex
	changed chan struct{}
	pieces  []wire.Output
	// first is the offset of the first byte held, end that of the next one printed, sent that of the next to send.
	first, end, sent int64
	turn             int
	recording        sync.WaitGroup
	finished         bool
	empty            chan struct{}
	files            []*os.File
}

func newHeldOutput() *heldOutput {
	o := &heldOutput{changed: make(chan struct{}), empty: make(chan struct{})}
	o.recording.Add(2) // one for each stream
	return o
}

// notify wakes who waits. It is called with mu held.
func (o *heldOutput) notify() {
	close(o.changed)
	o.changed = make(chan struct{})
	if o.finished && o.first == o.end && !isClosed(o.empty) {
		close(o.empty)
	}
}

// record holds what is printed on one stream, to its end.
func (o *heldOutput) record(stream wire.Stream, file *os.File) {
	defer o.recording.Done()
	o.mu.Lock()
	o.files = append(o.files, file)
	o.mu.Unlock()
	buf := make([]byte, wire.MaxChunk)
	for {
		n, err := file.Read(buf)
		if n > 0 {
			o.hold(stream, buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (o *heldOutput) hold(stream wire.Stream, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.end-o.first > 0 && o.end-o.first+int64(len(data)) > maxHeld && !o.finished {
		changed := o.changed
		o.mu.Unlock()
		<-changed
		o.mu.Lock()
	}
	o.pieces = append(o.pieces, wire.Output{Offset: o.end, Time: time.Now(), Stream: stream, Data: append([]byte(nil), data...)})
	o.end += int64(len(data))
	o.notify()
}

// finish ends the recording, once all is read or nothing more can be, and returns how much was printed in all.
func (o *heldOutput) finish(limit time.Duration) int64 {
	read := make(chan struct{})
	go func() { o.recording.Wait(); close(read) }()
	wait(read, limit)
	o.mu.Lock()
	o.finished = true
	files := o.files
	o.notify()
	o.mu.Unlock()
	for _, f := range files {
		_ = f.SetReadDeadline(time.Unix(1, 0))
	}
	wait(read, limit)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.notify()
	return o.end
}

// delivered is closed when all was printed and the runner has it.
func (o *heldOutput) delivered() <-chan struct{} { return o.empty }

func (o *heldOutput) total() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.end
}

// take makes the caller the one who gets the output, from an offset on; all before it is not held any more.
func (o *heldOutput) take(offset int64) (turn int, werr *wire.Error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if offset < 0 || offset > o.end {
		return 0, wire.Errorf(wire.CodeInvalid, "offset %d was never reached: the output ends at %d", offset, o.end)
	}
	o.turn++
	o.drop(offset)
	o.sent = max(offset, o.first)
	o.notify()
	return o.turn, nil
}

// had drops n more bytes. It is false for who has no turn, or was not sent them.
func (o *heldOutput) had(turn int, n int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if turn != o.turn || n < 0 || o.first+n > o.sent {
		return false
	}
	o.drop(o.first + n)
	o.notify()
	return true
}

func (o *heldOutput) drop(before int64) {
	for len(o.pieces) > 0 {
		p := &o.pieces[0]
		if cut := before - p.Offset; cut < int64(len(p.Data)) {
			if cut > 0 {
				p.Data, p.Offset = p.Data[cut:], before
			}
			break
		}
		o.pieces[0] = wire.Output{}
		o.pieces = o.pieces[1:]
	}
	o.first = max(o.first, min(before, o.end))
}

// next returns the next piece to send, or what is closed when there may be one. mine is false once another has the turn.
func (o *heldOutput) next(turn int) (piece *wire.Output, changed <-chan struct{}, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if turn != o.turn {
		return nil, nil, false
	}
	for i := range o.pieces {
		p := o.pieces[i]
		end := p.Offset + int64(len(p.Data))
		if end <= o.sent {
			continue
		}
		if cut := o.sent - p.Offset; cut > 0 {
			p.Data, p.Offset = p.Data[cut:], o.sent
		}
		o.sent = end
		return &p, nil, true
	}
	return nil, o.changed, true
}
