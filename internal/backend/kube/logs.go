package kube

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim/spool"
	"github.com/bermhq/berm/internal/shim/wire"
)

// Logs reads what the main process of a sandbox printed, from what the runner keeps of it.
func (b *Backend) Logs(ctx context.Context, id string, q backend.LogQuery) (backend.LogReader, error) {
	var out *output
	s, err := b.get(id)
	if err == nil {
		if out, err = b.outputOf(s); err != nil {
			return nil, fault.Internalf(err, "the output of sandbox %s cannot be read", id)
		}
	} else if out = b.keptOutput(id); out == nil {
		return nil, err
	}
	l := &logs{id: id, closing: b.ctx, out: out, follow: q.Follow}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	if err := l.begin(q); err != nil {
		l.cancel(err)
		return nil, err
	}
	return l, nil
}

// logs is one reader of output.
type logs struct {
	id           string
	ctx, closing context.Context //nolint:containedctx // a reader lives as long as its request
	cancel       context.CancelCauseFunc
	out          *output
	follow       bool
	// mu is held by Recv, and by Close once that ended.
	mu sync.Mutex
	// offset is that of the next byte, gap, when larger, that of the next byte there is.
	offset, gap int64
	next        *wire.Output
	reader      *spool.Reader
	over        bool
}

// end returns how the output ended, nil while it goes on.
func (l *logs) end() *outputEnd {
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	return l.out.ending
}

func (l *logs) begin(q backend.LogQuery) error {
	dir := l.out.spool()
	if q.Session != "" {
		return l.resume(dir, q)
	}
	at, err := spool.Oldest(dir)
	if err == nil && q.Tail != nil {
		at, err = spool.Tail(dir, max(*q.Tail, 0))
	}
	if err == nil && !q.Since.IsZero() {
		var since spool.Place
		if since, err = spool.Since(dir, q.Since); err == nil && (q.Tail == nil || since.Offset > at.Offset) {
			at = since
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l.unreadable(err)
	}
	l.offset = at.Offset
	if at.Cut {
		l.gap, l.offset = at.Offset, 0
	}
	return nil
}

func (l *logs) resume(dir string, q backend.LogQuery) error {
	if q.Session != l.out.session {
		return fault.NotFoundf(fault.ReasonSessionNotFound, "sandbox %s has no output session %.80q", l.id, q.Session)
	}
	end, err := spool.Tail(dir, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l.unreadable(err)
	}
	if e := l.end(); e != nil && e.Known {
		end.Offset = max(end.Offset, e.Bytes)
	}
	if q.Offset < 0 || q.Offset > end.Offset {
		return fault.Invalidf(fault.ReasonResumeOffset, "offset %d of the output of sandbox %s was never reached: it ends at %d", q.Offset, l.id, end.Offset)
	}
	if first, err := spool.Oldest(dir); err == nil && q.Offset < first.Offset {
		return fault.New(fault.OutOfRange, fault.ReasonReplayGap, "output of sandbox %s at offset %d was discarded; it begins at %d", l.id, q.Offset, first.Offset)
	}
	l.offset = q.Offset
	return nil
}

func (l *logs) unreadable(err error) error {
	return fault.Internalf(err, "the output of sandbox %s cannot be read", l.id)
}

// Session names the run.
func (l *logs) Session() string { return l.out.session }

// Close ends the reader, and a Recv that waits.
func (l *logs) Close() error {
	l.cancel(backend.ErrLogsClosed())
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.release()
}

// release closes the source.
func (l *logs) release() error {
	if l.reader == nil {
		return nil
	}
	err := l.reader.Close()
	l.reader = nil
	return err
}

// Recv returns the next frame.
func (l *logs) Recv() (backend.LogFrame, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if f, ok := l.ready(); ok {
			return f, nil
		}
		if l.ctx.Err() != nil {
			return backend.LogFrame{}, context.Cause(l.ctx)
		}
		if l.over {
			if e := l.end(); e == nil || e.Known {
				return backend.LogFrame{}, io.EOF
			}
			return backend.LogFrame{}, fault.Preconditionf(fault.ReasonStreamTruncated, "the end of the output of sandbox %s was not observed: there may have been more", l.id)
		}
		if err := l.fetch(); err != nil {
			return backend.LogFrame{}, err
		}
	}
}

// ready returns what is there already: a gap, and the piece behind it.
func (l *logs) ready() (backend.LogFrame, bool) {
	if l.gap > l.offset {
		f := backend.LogFrame{Kind: backend.LogGap, Offset: l.offset, Lost: l.gap - l.offset}
		l.offset = l.gap
		return f, true
	}
	if l.next == nil {
		return backend.LogFrame{}, false
	}
	o := l.next
	l.next = nil
	if o.Offset < l.offset || len(o.Data) == 0 {
		return backend.LogFrame{}, false
	}
	kind := backend.LogStdout
	if o.Stream == wire.Stderr {
		kind = backend.LogStderr
	}
	l.offset = o.Offset + int64(len(o.Data))
	return backend.LogFrame{Kind: kind, Data: o.Data, At: o.Time, Offset: o.Offset}, true
}

// fetch reads the next piece, or waits for it.
func (l *logs) fetch() error {
	end := l.end() // Before it is read: what is not there then does not come.
	var changed <-chan struct{}
	if l.out.writer != nil {
		changed = l.out.writer.Changed()
	}
	o, err := l.read()
	switch {
	case err == nil:
		l.next, l.gap = &o, max(l.gap, o.Offset)
		return nil
	case errors.Is(err, spool.ErrGap): // Overtaken: it goes on with what there is.
		_ = l.release()
		if first, err := spool.Oldest(l.out.spool()); err == nil {
			l.gap = max(l.gap, first.Offset)
		}
		return nil
	case !errors.Is(err, io.EOF) && !errors.Is(err, fs.ErrNotExist):
		return l.unreadable(err)
	case end != nil:
		l.over, l.gap = true, max(l.gap, end.Bytes)
		return nil
	case !l.follow:
		l.over = true
		return nil
	}
	if l.out.writer != nil && l.out.writer.Closed() {
		changed = nil
	}
	select {
	case <-changed:
	case <-l.out.over:
	case <-l.ctx.Done():
	case <-l.closing.Done():
		return errClosing()
	}
	return nil
}

func (l *logs) read() (wire.Output, error) {
	if l.reader == nil {
		r, err := spool.Open(l.out.spool(), max(l.offset, l.gap))
		if err != nil {
			return wire.Output{}, err
		}
		l.reader = r
	}
	return l.reader.Next()
}
