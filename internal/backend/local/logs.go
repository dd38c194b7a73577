package local

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/spool"
	"github.com/bermhq/berm/internal/shim/wire"
)

// maxReopens is how often in a row a source of output may fail without having given any, and reopenPause what lies between the
// later of these: a shim that died keeps its lock for a moment, and a sandbox that is deleted is between two places.
const (
	maxReopens  = 200
	reopenPause = 20 * time.Millisecond
)

// Logs reads what the main process of a sandbox printed: from its shim while there is one, from the disk afterwards, also
// when it ends in the middle.
func (b *Backend) Logs(ctx context.Context, id string, q backend.LogQuery) (backend.LogReader, error) {
	if s, err := b.get(id); err == nil {
		if err := b.created(ctx, s, id); err != nil {
			return nil, err
		}
	}
	l := &logs{b: b, id: id, follow: q.Follow}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	if err := l.begin(q); err != nil {
		l.cancel(err)
		return nil, err
	}
	return l, nil
}

// logs is one reader of output. It knows the offset that comes next, so that its source can be changed at any time.
type logs struct {
	b       *Backend
	id      string
	ctx     context.Context //nolint:containedctx // a reader lives as long as its request
	cancel  context.CancelCauseFunc
	follow  bool
	session string
	// mu is held by Recv, and by Close once that ended.
	mu sync.Mutex
	// offset is that of the next byte. next is a piece that waits behind a gap.
	offset int64
	gap    int64
	next   *wire.Output
	// One of the two is the source, none before it is opened.
	live *shim.Output
	disk *spool.Reader
	// over says that there is nothing more; known whether the end was seen.
	over, known bool
	reopened    int
}

// whereabouts is where the output of a sandbox is now.
type whereabouts struct {
	// client is set while there is a shim to ask, and state is its directory.
	client *shim.Client
	state  string
	// dir is the spool's directory.
	dir string
	// end is how it ended; nil while it runs.
	end     *ending
	session string
}

// find looks for it. What is kept is kept for good: the records of a sandbox that is being deleted go away piece by piece.
func (l *logs) find() (whereabouts, error) {
	if o, ok := l.b.kept.get(l.id); ok {
		return whereabouts{dir: l.b.place.output(l.id), end: &o.ending, session: o.Session}, nil
	}
	s, err := l.b.get(l.id)
	if err != nil {
		return whereabouts{}, unknown(l.id)
	}
	state := l.b.place.shimState(s.slot)
	s.mu.Lock()
	client, ended := s.client, s.last.Phase == backend.PhaseEnded
	s.mu.Unlock()
	if !ended && client != nil {
		w := whereabouts{client: client, state: state, dir: shim.OutputDir(state)}
		if r, err := shim.ReadRecord(state); err == nil && r != nil {
			w.session = r.Session
		}
		return w, nil
	}
	e := l.b.endingOf(s)
	return whereabouts{dir: shim.OutputDir(state), end: &e, session: e.Session}, nil
}

// moving reports whether output that is not in dir was moved just now to where it is kept, and is about to be known there.
func (l *logs) moving(dir string) bool {
	to := l.b.place.output(l.id)
	return dir != to && exists(to)
}

// settled is find once the output is in its place.
func (l *logs) settled() (whereabouts, error) {
	for n := 0; ; n++ {
		w, err := l.find()
		if err != nil || n >= maxReopens || exists(w.dir) || !l.moving(w.dir) {
			return w, err
		}
		select {
		case <-time.After(reopenPause):
		case <-l.ctx.Done():
			return w, context.Cause(l.ctx)
		}
	}
}

// begin finds the offset to begin at.
func (l *logs) begin(q backend.LogQuery) error {
	w, err := l.settled()
	if err != nil {
		return err
	}
	l.session = w.session
	if q.Session != "" {
		return l.resume(w, q)
	}
	at, err := startOf(w.dir, q)
	if errors.Is(err, fs.ErrNotExist) { // Nothing was printed, or it was just moved; reading will tell.
		err = nil
	}
	if err != nil {
		return l.unreadable(err)
	}
	l.offset = at.Offset
	if at.Cut {
		l.gap, l.offset = at.Offset, 0
	}
	return nil
}

// startOf is where a fresh reader begins.
func startOf(dir string, q backend.LogQuery) (spool.Place, error) {
	if q.Tail == nil && q.Since.IsZero() {
		return spool.Oldest(dir)
	}
	var at spool.Place
	if q.Tail != nil {
		p, err := spool.Tail(dir, max(*q.Tail, 0))
		if err != nil {
			return p, err
		}
		at = p
	}
	if !q.Since.IsZero() {
		p, err := spool.Since(dir, q.Since)
		if err != nil || q.Tail == nil || p.Offset > at.Offset {
			return p, err
		}
	}
	return at, nil
}

// resume begins where an earlier reader stopped.
func (l *logs) resume(w whereabouts, q backend.LogQuery) error {
	if q.Session != w.session {
		return fault.NotFoundf(fault.ReasonSessionNotFound, "sandbox %s has no output session %.80q", l.id, q.Session)
	}
	end, err := spool.Tail(w.dir, 0)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return l.unreadable(err)
	}
	if w.end != nil && w.end.Known { // The last of it may be missing on the disk.
		end.Offset = max(end.Offset, w.end.Bytes)
	}
	if q.Offset < 0 || q.Offset > end.Offset {
		return fault.Invalidf(fault.ReasonResumeOffset, "offset %d of the output of sandbox %s was never reached: it ends at %d", q.Offset, l.id, end.Offset)
	}
	if first, err := spool.Oldest(w.dir); err == nil && q.Offset < first.Offset {
		return fault.New(fault.OutOfRange, fault.ReasonReplayGap, "output of sandbox %s at offset %d was discarded; it begins at %d", l.id, q.Offset, first.Offset)
	}
	l.offset = q.Offset
	return nil
}

func (l *logs) unreadable(err error) error {
	return fault.Internalf(err, "the output of sandbox %s cannot be read", l.id)
}

// Session names the run.
func (l *logs) Session() string { return l.session }

// Close ends the reader, and a Recv that waits.
func (l *logs) Close() error {
	l.cancel(backend.ErrLogsClosed())
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.release()
}

// release closes the source.
func (l *logs) release() error {
	var err error
	if l.live != nil {
		err = l.live.Close()
	}
	if l.disk != nil {
		err = errors.Join(err, l.disk.Close())
	}
	l.live, l.disk = nil, nil
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
		if err := l.ctx.Err(); err != nil {
			return backend.LogFrame{}, context.Cause(l.ctx)
		}
		if l.over {
			if l.known {
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

// fetch gets the next piece from the source, or changes the source.
func (l *logs) fetch() error {
	if l.live == nil && l.disk == nil {
		if err := l.open(); err != nil || (l.live == nil && l.disk == nil) {
			return err
		}
	}
	var o wire.Output
	var err error
	if l.live != nil {
		o, err = l.live.Recv()
	} else {
		o, err = l.disk.Next()
	}
	switch {
	case err == nil:
		l.reopened = 0
		l.next = &o
		l.gap = max(l.gap, o.Offset)
		return nil
	case errors.Is(err, io.EOF) && l.live != nil:
		l.over, l.known = true, true // The shim has seen all of it, or all that there is now.
		return nil
	case errors.Is(err, io.EOF):
		return l.finish()
	}
	// Overtaken, moved, or the shim went: what there is now is found anew, from the next offset on.
	_ = l.release()
	return l.again(err)
}

// failed makes a fault of what made the last source fail.
func (l *logs) failed(err error) error {
	if f := fault.From(err); f.Code != fault.Internal {
		return f
	}
	return l.unreadable(err)
}

// open opens the source at the next offset, or at the oldest output there is.
func (l *logs) open() error {
	w, err := l.find()
	if err != nil {
		if l.session != "" || l.offset > 0 { // Its time was over while it was read.
			return fault.New(fault.OutOfRange, fault.ReasonOutputNotKept, "the output of sandbox %s is not kept any more", l.id)
		}
		return err
	}
	if l.session == "" {
		l.session = w.session
	}
	if w.client != nil {
		if l.live, err = l.openLive(w.client); err == nil {
			return nil
		}
		state, ierr := shim.Inspect(w.state)
		if ierr != nil || (state.Status != shim.StatusExited && state.Status != shim.StatusLost) {
			return l.again(err)
		}
	}
	return l.openDisk(w.dir)
}

// again lets a failure pass unless there were too many in a row.
func (l *logs) again(err error) error {
	if l.reopened++; l.reopened > maxReopens {
		return l.failed(err)
	}
	if l.reopened > 1 {
		select {
		case <-time.After(reopenPause):
		case <-l.ctx.Done(): // Recv says so.
		}
	}
	return nil
}

func (l *logs) openLive(c *shim.Client) (*shim.Output, error) {
	out, err := c.Output(l.ctx, l.offset, l.follow)
	if fault.HasReason(err, fault.ReasonReplayGap) {
		out, err = c.Output(l.ctx, -1, l.follow)
	}
	if err != nil {
		return nil, err
	}
	l.session = out.Session
	return out, nil
}

func (l *logs) openDisk(dir string) error {
	r, err := spool.Open(dir, l.offset)
	if errors.Is(err, spool.ErrGap) {
		r, err = spool.Open(dir, -1)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w, found := l.find()
		if found == nil && w.dir != dir || l.moving(dir) {
			return l.again(err) // It was moved just now.
		}
		return l.finish() // Nothing was printed.
	case err != nil:
		return l.unreadable(err)
	}
	l.disk = r
	return nil
}

// finish ends the reading of what is on the disk: what is missing at its end is a gap too.
func (l *logs) finish() error {
	w, err := l.find()
	if err != nil {
		return err
	}
	if w.end == nil { // The shim is gone, and nobody has said yet how the sandbox ended.
		s, gone := l.b.get(l.id)
		if gone != nil {
			return nil //nolint:nilerr // it was deleted just now: the next look finds it where it is kept
		}
		select {
		case <-s.released:
			return nil
		case <-l.ctx.Done():
			return nil
		case <-l.b.ctx.Done():
			return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the runner is being stopped")
		}
	}
	l.over, l.known = true, w.end.Known
	l.gap = max(l.gap, w.end.Bytes)
	return nil
}
