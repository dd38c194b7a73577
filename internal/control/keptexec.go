package control

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
)

// Limits of commands that are kept, beside those of package kept.
const (
	// MaxExecStdin is the most input of one call, in bytes.
	MaxExecStdin = 1 << 20
	// MaxExecRead is the most output that one call reads, MaxExecWait how long it waits for some.
	MaxExecRead = 1 << 20
	MaxExecWait = time.Minute
	// MaxExecPieces is in how many pieces that is, pieceSpan how far apart in time what is in one may be.
	MaxExecPieces = 4096
	pieceSpan     = 10 * time.Millisecond
	// MaxExecStdinWait is how long one call waits for a command to read its input.
	MaxExecStdinWait = 10 * time.Minute
	// MaxExecTimeout is the longest timeout of a command.
	MaxExecTimeout = 366 * 24 * time.Hour
)

var execID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// CreateExec starts a command that goes on without its caller, once per id; without one it makes it. While the sandbox starts it waits,
// within ctx.
func (s *Service) CreateExec(ctx context.Context, p core.Principal, sandbox string, e backend.KeptExec) (backend.ExecState, error) {
	if err := s.allow(ctx, p, "CreateExec", audit.Target{Kind: store.ChangeSandbox, Ref: sandbox}); err != nil {
		return backend.ExecState{}, err
	}
	if e.ID == "" {
		e.ID = "x-" + strings.ReplaceAll(s.newID(), "-", "")[:12]
	}
	if err := errors.Join(checkExec(e.Exec), checkKept(e)); err != nil {
		return backend.ExecState{}, firstFault(err)
	}
	return atExec(ctx, s, p, sandbox, func(l runner.Link) (backend.ExecState, error) {
		failpoint.Hit(fpExecCreate)
		st, err := l.CreateExec(ctx, sandbox, e)
		failpoint.Hit(fpExecCreated)
		return st, err
	})
}

// firstFault is the first of joined errors, which callers can read.
func firstFault(err error) error {
	f, _ := errors.AsType[*fault.Error](err)
	return f
}

func checkKept(e backend.KeptExec) error {
	f := fault.Invalidf(fault.ReasonInvalidRequest, "invalid command")
	if !execID.MatchString(e.ID) {
		f.WithField("exec_id", "%.80q is no name: lower-case letters, digits and dashes, at most 63, not a dash first", e.ID)
	}
	if e.Timeout < 0 || e.Timeout > MaxExecTimeout {
		f.WithField("timeout", "%v, it must be from 0 to %v", e.Timeout, MaxExecTimeout)
	}
	return orNil(f)
}

func checkExecID(id string) error {
	if !execID.MatchString(id) { // There is none of that name, and none can be.
		return fault.NotFoundf(fault.ReasonExecNotFound, "there is no command %.80q", id)
	}
	return nil
}

// GetExec tells how a command stands.
func (s *Service) GetExec(ctx context.Context, p core.Principal, sandbox, id string) (backend.ExecState, error) {
	if err := s.allow(ctx, p, "GetExec"); err != nil {
		return backend.ExecState{}, err
	}
	if err := checkExecID(id); err != nil {
		return backend.ExecState{}, err
	}
	return atExec(ctx, s, p, sandbox, func(l runner.Link) (backend.ExecState, error) {
		all, err := l.ListExecs(ctx, sandbox, id)
		if err != nil {
			return backend.ExecState{}, err
		}
		return all[0], nil
	})
}

// ListExecs tells of all commands of a sandbox, oldest first.
func (s *Service) ListExecs(ctx context.Context, p core.Principal, sandbox string) ([]backend.ExecState, error) {
	if err := s.allow(ctx, p, "ListExecs"); err != nil {
		return nil, err
	}
	return atExec(ctx, s, p, sandbox, func(l runner.Link) ([]backend.ExecState, error) { return l.ListExecs(ctx, sandbox, "") })
}

// SignalExec sends a signal to the process group of a command.
func (s *Service) SignalExec(ctx context.Context, p core.Principal, sandbox, id string, signal int) (backend.ExecState, error) {
	if err := s.allow(ctx, p, "SignalExec", audit.Target{Kind: store.ChangeSandbox, Ref: sandbox}); err != nil {
		return backend.ExecState{}, err
	}
	if err := checkExecID(id); err != nil {
		return backend.ExecState{}, err
	}
	if signal < 1 || signal > 64 {
		return backend.ExecState{}, fault.Invalidf(fault.ReasonInvalidRequest, "invalid signal").WithField("signal", "is %d, must be from 1 to 64", signal)
	}
	return atExec(ctx, s, p, sandbox, func(l runner.Link) (backend.ExecState, error) { return l.SignalExec(ctx, sandbox, id, signal) })
}

// ResizeExec sets the size of a command's terminal.
func (s *Service) ResizeExec(ctx context.Context, p core.Principal, sandbox, id string, columns, rows uint32) (backend.ExecState, error) {
	const most = 1<<16 - 1
	if err := s.allow(ctx, p, "ResizeExec"); err != nil {
		return backend.ExecState{}, err
	}
	if err := checkExecID(id); err != nil {
		return backend.ExecState{}, err
	}
	if columns == 0 || rows == 0 || columns > most || rows > most {
		return backend.ExecState{}, fault.Invalidf(fault.ReasonInvalidRequest, "invalid size").WithField("columns", "%d×%d is no size of a terminal", columns, rows)
	}
	return atExec(ctx, s, p, sandbox, func(l runner.Link) (backend.ExecState, error) {
		return l.ResizeExec(ctx, sandbox, id, uint16(columns), uint16(rows))
	})
}

// DeleteExec kills a command that runs, and forgets it.
func (s *Service) DeleteExec(ctx context.Context, p core.Principal, sandbox, id string) error {
	if err := s.allow(ctx, p, "DeleteExec", audit.Target{Kind: store.ChangeSandbox, Ref: sandbox}); err != nil {
		return err
	}
	if err := checkExecID(id); err != nil {
		return err
	}
	_, err := atExec(ctx, s, p, sandbox, func(l runner.Link) (struct{}, error) { return struct{}{}, l.DeleteExec(ctx, sandbox, id) })
	return err
}

// atExec asks the runner of a sandbox about its commands.
func atExec[T any](ctx context.Context, s *Service, p core.Principal, sandbox string, ask func(runner.Link) (T, error)) (out T, err error) {
	link, err := s.reach(ctx, p.OrgID, sandbox)
	if err != nil {
		return out, err
	}
	defer s.busy(sandbox)()
	out, err = ask(link)
	return out, s.linkFault(ctx, p.OrgID, sandbox, err)
}

// AttachExec joins a command, within ctx. It counts as traffic for as long as it is open. Writing input is audited as
// WriteExecStdin, once.
func (s *Service) AttachExec(ctx context.Context, p core.Principal, sandbox, id string, a backend.Attach) (backend.Attachment, error) {
	method := "AttachExec"
	if a.Stdin {
		method = "WriteExecStdin"
	}
	if err := s.allow(ctx, p, method, audit.Target{Kind: store.ChangeSandbox, Ref: sandbox}); err != nil {
		return nil, err
	}
	to, err := s.attach(ctx, p, sandbox, id, a)
	if c := audit.Of(ctx); err == nil && a.Stdin && c.Method() == method {
		s.did(c) // now, since it may go on for long
	}
	return to, err
}

func (s *Service) attach(ctx context.Context, p core.Principal, sandbox, id string, a backend.Attach) (backend.Attachment, error) {
	if err := checkExecID(id); err != nil {
		return nil, err
	}
	link, err := s.reach(ctx, p.OrgID, sandbox)
	if err != nil {
		return nil, err
	}
	over := s.busy(sandbox)
	failpoint.Hit(fpExecAttach)
	to, err := link.AttachExec(ctx, sandbox, id, a)
	if err != nil {
		over()
		return nil, s.linkFault(ctx, p.OrgID, sandbox, err)
	}
	return &busyAttachment{Attachment: to, over: over, stop: context.AfterFunc(ctx, over)}, nil
}

// busyAttachment is traffic until it is closed.
type busyAttachment struct {
	backend.Attachment
	over func()
	stop func() bool
}

// Close leaves the command.
func (a *busyAttachment) Close() error {
	a.stop()
	a.over()
	return a.Attachment.Close()
}

// ExecRead is output that was read.
type ExecRead struct {
	Frames []backend.AttachFrame
	// Next is where the next read begins.
	Next int64
	// State is how the command stood after that.
	State backend.ExecState
}

// ReadExec reads output from an offset on, at most so many bytes; where there is none, and the command goes on, it waits for some.
func (s *Service) ReadExec(ctx context.Context, p core.Principal, sandbox, id string, offset int64, most int, wait time.Duration) (ExecRead, error) {
	if err := s.allow(ctx, p, "ReadExec"); err != nil {
		return ExecRead{}, err
	}
	f := fault.Invalidf(fault.ReasonInvalidRequest, "invalid read")
	if offset < 0 {
		f.WithField("offset", "%d is negative", offset)
	}
	if most < 0 || most > MaxExecRead {
		f.WithField("max_bytes", "%d, it must be from 0 to %d", most, MaxExecRead)
	}
	if wait < 0 || wait > MaxExecWait {
		f.WithField("wait", "%v, it must be from 0 to %v", wait, MaxExecWait)
	}
	if err := orNil(f); err != nil {
		return ExecRead{}, err
	}
	if most == 0 {
		most = MaxExecRead
	}
	return s.readExec(ctx, p, sandbox, id, offset, most, wait)
}

func (s *Service) readExec(ctx context.Context, p core.Principal, sandbox, id string, offset int64, most int, wait time.Duration) (ExecRead, error) {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	a, err := s.attach(limited, p, sandbox, id, backend.Attach{Output: true, Offset: offset, Follow: wait > 0})
	if err != nil {
		return ExecRead{}, err
	}
	defer func() { _ = a.Close() }()
	out := ExecRead{Next: offset, State: a.State()}
	waiting := func() bool { return false }
	if wait > 0 && out.State.End <= offset && !out.State.Done { // What is there is read however short the wait is.
		waiting = time.AfterFunc(wait, cancel).Stop
		defer waiting()
	}
	err = out.fill(a, most, wait > 0, waiting)
	if err != nil && (limited.Err() == nil || ctx.Err() != nil) {
		return ExecRead{}, s.linkFault(ctx, p.OrgID, sandbox, err)
	}
	return out, nil
}

// fill reads what there is, at most so many bytes. What was there at the beginning comes at once; more is waited for only by who follows
// and has nothing, until came.
func (r *ExecRead) fill(a backend.Attachment, most int, follow bool, came func() bool) error {
	defer func() { r.State.End = max(r.State.End, r.Next) }()
	for size := 0; size < most && len(r.Frames) < MaxExecPieces; {
		if follow && len(r.Frames) > 0 && r.Next >= r.State.End {
			return nil
		}
		f, err := a.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case f.Kind == backend.AttachTaken:
			continue
		}
		came()
		if f.Kind == backend.AttachExit {
			r.State = *f.End
			r.Frames, r.Next = append(r.Frames, f), f.End.End
			return nil
		}
		f.Data = f.Data[:min(len(f.Data), most-size)]
		size += len(f.Data)
		r.add(f)
	}
	return nil
}

// add appends a piece, to the one before where that is of the same stream and moment: many small ones cost far more than their bytes.
func (r *ExecRead) add(f backend.AttachFrame) {
	next := f.Offset + int64(len(f.Data))
	if n := len(r.Frames); n > 0 && f.Offset == r.Next {
		if last := &r.Frames[n-1]; last.Kind == f.Kind && f.At.Sub(last.At).Abs() < pieceSpan {
			last.Data, r.Next = append(last.Data, f.Data...), next
			return
		}
	}
	f.Data = append([]byte(nil), f.Data...)
	r.Frames, r.Next = append(r.Frames, f), next
}

// WriteExecStdin writes standard input and returns when the process has taken it, or has not for long. What came before offset, -1 for
// behind all that came, is passed over.
func (s *Service) WriteExecStdin(ctx context.Context, p core.Principal, sandbox, id string, offset int64, data []byte, closing bool) (backend.ExecState, error) {
	if err := s.allow(ctx, p, "WriteExecStdin", audit.Target{Kind: store.ChangeSandbox, Ref: sandbox}); err != nil {
		return backend.ExecState{}, err
	}
	if len(data) > MaxExecStdin {
		return backend.ExecState{}, fault.Invalidf(fault.ReasonInvalidRequest, "invalid input").WithField("data", "%d bytes, the limit is %d", len(data), MaxExecStdin)
	}
	return s.writeExecStdin(ctx, p, sandbox, id, offset, data, closing, MaxExecStdinWait)
}

func (s *Service) writeExecStdin(
	ctx context.Context, p core.Principal, sandbox, id string, offset int64, data []byte, closing bool, wait time.Duration,
) (backend.ExecState, error) {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	a, err := s.attach(limited, p, sandbox, id, backend.Attach{Follow: true, Stdin: true})
	if err != nil {
		return backend.ExecState{}, err
	}
	defer func() { _ = a.Close() }()
	st := a.State()
	if offset < 0 {
		offset = st.StdinOffset
	}
	if offset > st.StdinOffset {
		return st, fault.Invalidf(fault.ReasonResumeOffset, "%d bytes of standard input came so far: %d was never reached", st.StdinOffset, offset)
	}
	end := max(st.StdinOffset, offset+int64(len(data)))
	rest := data[min(int64(len(data)), st.StdinOffset-offset):] // what came already is passed over
	go func() {
		if len(rest) > 0 {
			_ = a.Send(rest) // Recv says why not
		}
		if closing {
			_ = a.CloseSend()
		}
	}()
	st, err = taken(a, end, closing)
	switch {
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		return st, fault.New(fault.Deadline, fault.ReasonExecInputUnread, "command %s has read %d bytes of its input, of %d that came, within %v", id, st.StdinTaken, end, wait).
			WithHint("what came is not lost: the command gets it when it reads")
	case err != nil:
		return st, s.linkFault(ctx, p.OrgID, sandbox, err)
	}
	return st, nil
}

// taken waits until the process has its input up to an end.
func taken(a backend.Attachment, end int64, closing bool) (backend.ExecState, error) {
	st := a.State()
	for closed := st.StdinClosed || !closing; st.StdinTaken < end || !closed; {
		f, err := a.Recv()
		if err != nil {
			return st, err
		}
		if f.Kind == backend.AttachExit {
			if f.End.StdinTaken < end || f.End.StdinOffset < end {
				return st, fault.Preconditionf(fault.ReasonExecEnded, "command %s has ended and read %d bytes of its input", f.End.ID, f.End.StdinTaken)
			}
			return *f.End, nil
		}
		st.StdinTaken, closed = max(st.StdinTaken, f.Taken), closed || f.InputClosed
	}
	st.StdinOffset, st.StdinClosed = max(st.StdinOffset, end), st.StdinClosed || closing
	return st, nil
}
