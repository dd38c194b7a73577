package cli

import (
	"context"
	"io"
	"sync"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/core/fault"
)

// inputWindow is how much input may be sent that the command has not taken, in bytes: the server's rule.
const inputWindow = 256 << 10

// pendingInput is what was read here and the command does not have yet: a stream that breaks loses nothing of it.
type pendingInput struct {
	mu      sync.Mutex
	changed chan struct{}
	begun   bool
	// base is the offset of the first byte of data, taken up to where the command has its input. sent is of the stream that is open.
	base, taken, sent int64
	data              []byte
	ended, closed     bool
}

func newPendingInput() *pendingInput { return &pendingInput{changed: make(chan struct{})} }

// fill reads input until its end, and reports whether the detach keys were typed. It reads no further than there is room.
func (p *pendingInput) fill(ctx context.Context, in io.Reader, keys *detacher) (detached bool) {
	for {
		buf := make([]byte, stdinChunk)
		n, err := in.Read(buf)
		data, detached := keys.filter(buf[:n])
		if detached {
			return true
		}
		p.mu.Lock()
		p.data = append(p.data, data...)
		p.ended = err != nil
		p.notify()
		for len(p.data) >= inputWindow {
			if !p.wait(ctx) {
				p.mu.Unlock()
				return false
			}
		}
		p.mu.Unlock()
		if err != nil {
			return false
		}
	}
}

// begin takes up where the server is: what came there before is not sent again.
func (p *pendingInput) begin(at *bermv1.Exec) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun { // Behind what others wrote before.
		p.begun, p.base = true, at.GetStdinOffset()
	}
	if at.GetStdinOffset() < p.base || at.GetStdinOffset() > p.base+int64(len(p.data)) {
		return fault.New(fault.Conflict, fault.ReasonExecInputTaken, "somebody else has written to the command's standard input meanwhile")
	}
	p.sent, p.closed = at.GetStdinOffset(), at.GetStdinClosed()
	p.trim(at.GetStdinTaken())
	return nil
}

// took notes what the command has.
func (p *pendingInput) took(taken int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trim(taken)
}

func (p *pendingInput) trim(taken int64) {
	p.taken = taken
	if n := min(taken-p.base, int64(len(p.data))); n > 0 {
		p.data, p.base = p.data[n:], p.base+n
	}
	p.notify()
}

// pass sends what there is, and at last the end, over one stream.
func (p *pendingInput) pass(ctx context.Context, to *sender) {
	for {
		data, closing, ok := p.next(ctx)
		switch {
		case !ok:
			return
		case closing:
			to.say(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_CloseStdin{CloseStdin: true}})
			return
		case !to.say(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_Stdin{Stdin: data}}):
			return
		}
	}
}

// next returns a piece that may be sent, or that the input ends.
func (p *pendingInput) next(ctx context.Context) (data []byte, closing, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		end := p.base + int64(len(p.data))
		n := min(end-p.sent, p.taken+inputWindow-p.sent, stdinChunk)
		switch {
		case n > 0:
			data = append([]byte(nil), p.data[p.sent-p.base:][:n]...)
			p.sent += n
			return data, false, true
		case p.ended && p.sent == end:
			return nil, true, !p.closed
		}
		if !p.wait(ctx) {
			return nil, false, false
		}
	}
}

// wait waits for a change, without the lock meanwhile. It is false when there is no use in waiting.
func (p *pendingInput) wait(ctx context.Context) bool {
	changed := p.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *pendingInput) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}
