package bermv1

import (
	"context"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

type execService struct {
	bermv1rpc.UnsafeExecServiceServer
	*Front
}

var _ bermv1rpc.ExecServiceServer = (*execService)(nil)

// CreateExec starts a command.
func (s *execService) CreateExec(ctx context.Context, r *bermv1.CreateExecRequest) (*bermv1.Exec, error) {
	e := backend.KeptExec{
		ID: r.GetExecId(), OutputLimit: r.GetOutputLimit(), Timeout: r.GetTimeout().AsDuration(),
		Exec: backend.Exec{Argv: r.GetCommand(), Env: r.GetEnv(), Dir: r.GetWorkingDirectory(), TTY: r.GetTty(), Stdin: r.GetStdin()},
	}
	f := fault.Invalidf(fault.ReasonInvalidRequest, "invalid command")
	if r.GetTimeout() != nil && r.GetTimeout().CheckValid() != nil {
		f.WithField("timeout", "is no length of time")
	}
	switch r.GetOverflow() {
	case bermv1.Exec_OVERFLOW_UNSPECIFIED, bermv1.Exec_OVERFLOW_WAIT:
	case bermv1.Exec_OVERFLOW_DROP_OLDEST:
		e.DropOldest = true
	default:
		f.WithField("overflow", "%d is none", r.GetOverflow())
	}
	for _, side := range []struct {
		path string
		is   uint32
		to   *uint16
	}{{"tty_columns", r.GetTtyColumns(), &e.Width}, {"tty_rows", r.GetTtyRows(), &e.Height}} {
		if side.is > math.MaxUint16 {
			f.WithField(side.path, "%d is more than %d", side.is, math.MaxUint16)
		}
		*side.to = uint16(side.is) //nolint:gosec // refused if not
	}
	if len(f.Fields) > 0 {
		return nil, f
	}
	return shownExec(r)(s.control.CreateExec(ctx, edge.Principal(ctx), r.GetSandboxId(), e))
}

// GetExec tells how a command stands.
func (s *execService) GetExec(ctx context.Context, r *bermv1.GetExecRequest) (*bermv1.Exec, error) {
	return shownExec(r)(s.control.GetExec(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetExecId()))
}

// ListExecs tells of all commands of a sandbox.
func (s *execService) ListExecs(ctx context.Context, r *bermv1.ListExecsRequest) (*bermv1.ListExecsResponse, error) {
	all, err := s.control.ListExecs(ctx, edge.Principal(ctx), r.GetSandboxId())
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListExecsResponse{}
	for i := range all {
		out.Execs = append(out.Execs, execMessage(r.GetSandboxId(), &all[i]))
	}
	return out, nil
}

// ReadExec reads output.
func (s *execService) ReadExec(ctx context.Context, r *bermv1.ReadExecRequest) (*bermv1.ReadExecResponse, error) {
	read, err := s.control.ReadExec(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetExecId(), r.GetOffset(), int(r.GetMaxBytes()), r.GetWait().AsDuration())
	if err != nil {
		return nil, err
	}
	out := &bermv1.ReadExecResponse{NextOffset: read.Next, Exec: execMessage(r.GetSandboxId(), &read.State)}
	next := r.GetOffset()
	for i := range read.Frames {
		f := &read.Frames[i]
		if f.Offset > next {
			out.Pieces = append(out.Pieces, &bermv1.ExecPiece{Piece: &bermv1.ExecPiece_Gap{Gap: &bermv1.ExecGap{Offset: next, Bytes: f.Offset - next}}})
		}
		next = f.Offset + int64(len(f.Data))
		if f.Kind != backend.AttachExit {
			out.Pieces = append(out.Pieces, &bermv1.ExecPiece{Piece: &bermv1.ExecPiece_Output{Output: execOutput(f, f.Data)}})
		}
	}
	return out, nil
}

// WriteExecStdin writes standard input.
func (s *execService) WriteExecStdin(ctx context.Context, r *bermv1.WriteExecStdinRequest) (*bermv1.Exec, error) {
	offset := int64(-1)
	if r.Offset != nil {
		if offset = r.GetOffset(); offset < 0 {
			return nil, fault.Invalidf(fault.ReasonInvalidRequest, "invalid input").WithField("offset", "%d is negative", offset)
		}
	}
	return shownExec(r)(s.control.WriteExecStdin(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetExecId(), offset, r.GetData(), r.GetClose()))
}

// SignalExec sends a signal.
func (s *execService) SignalExec(ctx context.Context, r *bermv1.SignalExecRequest) (*bermv1.Exec, error) {
	return shownExec(r)(s.control.SignalExec(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetExecId(), int(r.GetSignal())))
}

// ResizeExec sets the size of a terminal.
func (s *execService) ResizeExec(ctx context.Context, r *bermv1.ResizeExecRequest) (*bermv1.Exec, error) {
	return shownExec(r)(s.control.ResizeExec(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetExecId(), r.GetColumns(), r.GetRows()))
}

// DeleteExec kills a command and forgets it.
func (s *execService) DeleteExec(ctx context.Context, r *bermv1.DeleteExecRequest) (*bermv1.DeleteExecResponse, error) {
	if err := s.control.DeleteExec(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetExecId()); err != nil {
		return nil, err
	}
	return &bermv1.DeleteExecResponse{}, nil
}

// shownExec turns what a use case returned into an answer to a request.
func shownExec(r interface{ GetSandboxId() string }) func(backend.ExecState, error) (*bermv1.Exec, error) {
	return func(st backend.ExecState, err error) (*bermv1.Exec, error) {
		if err != nil {
			return nil, err
		}
		return execMessage(r.GetSandboxId(), &st), nil
	}
}

func execMessage(sandbox string, s *backend.ExecState) *bermv1.Exec {
	out := &bermv1.Exec{
		SandboxId: sandbox, ExecId: s.ID, Command: s.Command, CommandShortened: s.Shortened, Tty: s.TTY, Stdin: s.Stdin,
		Overflow: bermv1.Exec_OVERFLOW_WAIT, OutputLimit: s.Limit, CreatedAt: wire.Time(s.CreatedAt), State: bermv1.Exec_STATE_RUNNING,
		FirstOffset: s.First, EndOffset: s.End, OutputComplete: s.Done, StdinOffset: s.StdinOffset, StdinTaken: s.StdinTaken, StdinClosed: s.StdinClosed,
		TimedOut: s.TimedOut, Timeout: span(s.Timeout),
	}
	if s.Drop {
		out.Overflow = bermv1.Exec_OVERFLOW_DROP_OLDEST
	}
	if s.ExitCode != nil {
		out.State, out.ExitCode, out.Signal, out.EndedAt = bermv1.Exec_STATE_ENDED, s.ExitCode, int32(s.Signal), wire.Time(s.EndedAt) //nolint:gosec // a signal
	}
	return out
}

func span(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func execOutput(f *backend.AttachFrame, data []byte) *bermv1.ExecOutput {
	stream := bermv1.ExecOutput_STREAM_STDOUT
	if f.Kind == backend.AttachStderr {
		stream = bermv1.ExecOutput_STREAM_STDERR
	}
	return &bermv1.ExecOutput{Stream: stream, Data: data, Time: wire.Time(f.At), Offset: f.Offset}
}
