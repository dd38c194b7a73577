package fake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// maxKeptLogs is of how many deleted sandboxes the output is kept.
const maxKeptLogs = 1000

// mainLog is what a main program printed: the last of it, up to a limit.
type mainLog struct {
	limit   int64
	session string

	mu     sync.Mutex
	pieces []backend.LogFrame
	size   int64
	end    int64
	closed bool
	// known: the end was seen.
	known   bool
	changed chan struct{}
}

func newMainLog(id string, limit int64) *mainLog {
	sum := sha256.Sum256([]byte(id))
	return &mainLog{session: hex.EncodeToString(sum[:16]), limit: limit, changed: make(chan struct{})}
}

// write adds what one of the streams carried.
func (o *mainLog) write(kind backend.FrameKind, data []byte, at time.Time) {
	stream := backend.LogStdout
	if kind == backend.FrameStderr {
		stream = backend.LogStderr
	}
	for chunk := range slices.Chunk(data, backend.MaxExecChunk) {
		o.append(backend.LogFrame{Kind: stream, Data: bytes.Clone(chunk), At: at})
	}
}

func (o *mainLog) append(f backend.LogFrame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	f.Offset = o.end
	o.end = f.End()
	o.size += int64(len(f.Data))
	o.pieces = append(o.pieces, f)
	for o.size > o.limit && len(o.pieces) > 1 {
		o.size -= int64(len(o.pieces[0].Data))
		o.pieces = o.pieces[1:]
	}
	o.wake()
}

func (o *mainLog) close(known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.closed, o.known = true, known
		o.wake()
	}
}

func (o *mainLog) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// first is the oldest offset there is.
func (o *mainLog) first() int64 {
	if len(o.pieces) == 0 {
		return o.end
	}
	return o.pieces[0].Offset
}

// begin returns where a reader begins, and whether what it asked for began earlier.
func (o *mainLog) begin(q backend.LogQuery) (offset int64, cut bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	offset, cut = o.first(), o.first() > 0
	if q.Tail != nil {
		var all []byte
		for _, p := range o.pieces {
			all = append(all, p.Data...)
		}
		if at := tailOf(all, *q.Tail); at > 0 {
			offset, cut = o.first()+at, false
		}
	}
	if !q.Since.IsZero() {
		at := o.end
		for _, p := range o.pieces {
			if !p.At.Before(q.Since) {
				at = p.Offset
				break
			}
		}
		if at > offset {
			offset, cut = at, false
		}
	}
	return offset, cut
}

// tailOf is where the last n lines begin.
func tailOf(text []byte, n int64) int64 {
	at := len(text)
	if n > 0 && at > 0 && text[at-1] == '\n' {
		at--
	}
	for ; n > 0; n-- {
		if at = bytes.LastIndexByte(text[:at], '\n'); at < 0 {
			return 0
		}
	}
	if at < len(text) && text[at] == '\n' {
		at++
	}
	return int64(at)
}

// Logs reads what the main program printed.
func (b *Backend) Logs(ctx context.Context, id string, q backend.LogQuery) (backend.LogReader, error) {
	b.mu.Lock()
	if err := b.reachable(); err != nil {
		b.mu.Unlock()
		return nil, err
	}
	s, ok := b.sandboxes[id]
	o := b.keptLogs[id]
	b.mu.Unlock()
	if ok {
		select {
		case <-s.settled:
		case <-ctx.Done():
			return nil, fault.New(fault.Deadline, fault.ReasonSandboxNotRunning, "sandbox %s did not run in time", id).WithCause(ctx.Err())
		}
		o = s.output
	}
	if o == nil {
		return nil, fault.NotFoundf(fault.ReasonSandboxNotFound, "sandbox %s is not known here", id)
	}
	r := &logs{o: o, follow: q.Follow}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	if q.Session == "" {
		at, cut := o.begin(q)
		r.offset, r.behind = at, at
		if cut {
			r.offset = 0
		}
		return r, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case q.Session != o.session:
		return nil, fault.NotFoundf(fault.ReasonSessionNotFound, "sandbox %s has no output session %.80q", id, q.Session)
	case q.Offset < 0 || q.Offset > o.end:
		return nil, fault.Invalidf(fault.ReasonResumeOffset, "offset %d of the output of sandbox %s was never reached: it ends at %d", q.Offset, id, o.end)
	case q.Offset < o.first():
		return nil, fault.New(fault.OutOfRange, fault.ReasonReplayGap, "output of sandbox %s at offset %d was discarded; it begins at %d", id, q.Offset, o.first())
	}
	r.offset = q.Offset
	return r, nil
}

// keep remembers the output of a sandbox that is deleted.
func (b *Backend) keep(id string, s *sandbox) {
	s.output.close(s.last.Reason != core.EndLost)
	if len(b.keptLogs) >= maxKeptLogs {
		clear(b.keptLogs)
	}
	b.keptLogs[id] = s.output
}

// logs is one reader.
type logs struct {
	o      *mainLog
	ctx    context.Context //nolint:containedctx // a reader lives as long as its request
	cancel context.CancelCauseFunc
	follow bool
	// offset is that of the next byte; what lies before behind is a gap.
	offset, behind int64
}

func (r *logs) Session() string { return r.o.session }

func (r *logs) Close() error {
	r.cancel(backend.ErrLogsClosed())
	return nil
}

// Recv returns the next frame.
func (r *logs) Recv() (backend.LogFrame, error) {
	for {
		f, changed, err := r.next()
		if err != nil || changed == nil {
			return f, err
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return f, context.Cause(r.ctx)
		}
	}
}

// next returns a frame, or the end, or what to wait for.
func (r *logs) next() (f backend.LogFrame, changed chan struct{}, err error) {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	if err := r.ctx.Err(); err != nil {
		return f, nil, context.Cause(r.ctx)
	}
	if from := max(r.behind, r.o.first()); from > r.offset {
		f = backend.LogFrame{Kind: backend.LogGap, Offset: r.offset, Lost: from - r.offset}
		r.offset = from
		return f, nil, nil
	}
	for _, p := range r.o.pieces {
		if p.End() <= r.offset {
			continue
		}
		p.Data = p.Data[r.offset-p.Offset:]
		p.Offset = r.offset
		r.offset = p.End()
		return p, nil, nil
	}
	switch {
	case r.o.closed && !r.o.known:
		return f, nil, fault.Preconditionf(fault.ReasonStreamTruncated, "the end of the output was not observed: there may have been more")
	case r.o.closed || !r.follow:
		return f, nil, io.EOF
	}
	return f, r.o.changed, nil
}
