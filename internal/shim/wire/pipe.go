package wire

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// PipeWindow is how much of a dial's stream may be on its way unread in one direction, in bytes.
const PipeWindow = 128 << 10

// ErrBroken is what a Pipe ends with whose other end went away before it had said that nothing more comes.
var ErrBroken = errors.New("the other end went away")

// Pipe is one end of a stream of bytes with two halves, each of which ends by itself. It takes in what comes whether or not somebody
// reads, up to the window: so a half that nobody reads holds up neither the other one nor the news that the other end is gone.
type Pipe struct {
	w io.Writer
	// sending orders frames and guards wrote, which says that no more data may follow.
	sending sync.Mutex
	wrote   bool

	mu      sync.Mutex
	changed *sync.Cond
	came    bytes.Buffer
	// owed is what was read and not given credit for, credit what may be sent.
	owed, credit int
	ended        bool
	err          error
	gone         chan struct{}
}

// NewPipe returns a pipe that sends frames to w and takes those that r has. It reads until r fails, or an OK or an Error comes.
func NewPipe(w io.Writer, r *Reader) *Pipe {
	p := &Pipe{w: w, credit: PipeWindow, gone: make(chan struct{})}
	p.changed = sync.NewCond(&p.mu)
	go p.receive(r)
	return p
}

// Gone is closed when nothing can come any more, not even credit.
func (p *Pipe) Gone() <-chan struct{} { return p.gone }

func (p *Pipe) receive(r *Reader) {
	defer close(p.gone)
	for {
		f, err := r.Read()
		if err == nil {
			err = p.take(f)
		}
		if err != nil {
			p.fail(err)
			return
		}
	}
}

// take does what a frame says. The error is what the pipe ends with.
func (p *Pipe) take(f Frame) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.changed.Broadcast()
	switch f.Type {
	case TypeData:
		if p.ended || p.came.Len()+p.owed+len(f.Payload) > PipeWindow {
			return ErrMalformed
		}
		p.came.Write(f.Payload)
	case TypeEnd:
		p.ended = true
	case TypeCredit:
		n, err := f.Uint32()
		if err != nil {
			return err
		}
		if n > PipeWindow || p.credit+int(n) > PipeWindow {
			return ErrMalformed
		}
		p.credit += int(n)
	case TypeOK:
		return io.EOF
	case TypeError:
		e := &Error{}
		if err := f.Decode(e); err != nil {
			return err
		}
		return e
	default:
		return ErrMalformed
	}
	return nil
}

func (p *Pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, io.EOF) {
		err = ErrBroken
	}
	p.err = err
	p.changed.Broadcast()
}

// Read returns io.EOF once the other end has said that nothing more comes.
func (p *Pipe) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, grant, err := p.next(b)
	if grant > 0 {
		_ = p.frame(AppendUint32(nil, TypeCredit, uint32(grant))) // the one who cannot be told is gone, which is found by reading on
	}
	return n, err
}

// next waits for something to read. Credit is given in pieces that are worth a frame.
func (p *Pipe) next(b []byte) (n, grant int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.came.Len() == 0 {
		switch {
		case p.ended:
			return 0, 0, io.EOF
		case p.err != nil:
			return 0, 0, p.err
		}
		p.changed.Wait()
	}
	n, _ = p.came.Read(b) // there is something
	p.owed += n
	if p.owed >= PipeWindow/4 {
		grant, p.owed = p.owed, 0
	}
	return n, grant, nil
}

// Write waits while the other end does not read. It fails when that is gone, and after CloseWrite.
func (p *Pipe) Write(b []byte) (written int, err error) {
	for len(b) > 0 {
		n, err := p.reserve(min(len(b), MaxChunk))
		if err != nil {
			return written, err
		}
		if err := p.data(b[:n]); err != nil {
			return written, err
		}
		written += n
		b = b[n:]
	}
	return written, nil
}

// reserve takes credit for up to most bytes.
func (p *Pipe) reserve(most int) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.credit == 0 && p.err == nil {
		p.changed.Wait()
	}
	if p.err != nil {
		return 0, p.err
	}
	n := min(most, p.credit)
	p.credit -= n
	return n, nil
}

func (p *Pipe) data(b []byte) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	if p.wrote {
		return io.ErrClosedPipe
	}
	_, err := p.w.Write(Append(make([]byte, 0, HeaderSize+len(b)), TypeData, b))
	return err
}

// CloseWrite says that nothing more comes from this end.
func (p *Pipe) CloseWrite() error {
	p.sending.Lock()
	defer p.sending.Unlock()
	if p.wrote {
		return nil
	}
	p.wrote = true
	return Write(p.w, TypeEnd, nil)
}

func (p *Pipe) frame(b []byte) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	_, err := p.w.Write(b)
	return err
}
