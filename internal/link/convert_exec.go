package link

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/backend"
)

// ExecStateMessage returns how a command that is kept stands.
func ExecStateMessage(s *backend.ExecState) *linkv1.ExecState {
	out := &linkv1.ExecState{
		Id: s.ID, Command: s.Command, Shortened: s.Shortened, Tty: s.TTY, Stdin: s.Stdin, Drop: s.Drop, Limit: s.Limit,
		Timeout: span(s.Timeout), CreatedAt: Stamp(s.CreatedAt), First: s.First, End: s.End,
		StdinOffset: s.StdinOffset, StdinTaken: s.StdinTaken, StdinClosed: s.StdinClosed, TimedOut: s.TimedOut, EndedAt: Stamp(s.EndedAt), Done: s.Done,
	}
	if s.ExitCode != nil {
		out.Exit = &linkv1.Exit{Code: *s.ExitCode, Signal: int32(s.Signal)} //nolint:gosec // a signal
	}
	return out
}

// ExecStateOf is the reverse.
func ExecStateOf(m *linkv1.ExecState) backend.ExecState {
	out := backend.ExecState{
		ID: m.GetId(), Command: m.GetCommand(), Shortened: m.GetShortened(), TTY: m.GetTty(), Stdin: m.GetStdin(), Drop: m.GetDrop(), Limit: m.GetLimit(),
		Timeout: m.GetTimeout().AsDuration(), CreatedAt: Time(m.GetCreatedAt()), First: m.GetFirst(), End: m.GetEnd(),
		StdinOffset: m.GetStdinOffset(), StdinTaken: m.GetStdinTaken(), StdinClosed: m.GetStdinClosed(), TimedOut: m.GetTimedOut(),
		EndedAt: Time(m.GetEndedAt()), Done: m.GetDone(),
	}
	if e := m.GetExit(); e != nil {
		code := e.GetCode()
		out.ExitCode, out.Signal = &code, int(e.GetSignal())
	}
	return out
}

// span returns a length of time as a message, nil for none.
func span(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// KeptExecMessage returns a command to keep.
func KeptExecMessage(sandbox string, e *backend.KeptExec) *linkv1.CreateExecRequest {
	return &linkv1.CreateExecRequest{Start: ExecStartMessage(sandbox, &e.Exec), Id: e.ID, OutputLimit: e.OutputLimit, DropOldest: e.DropOldest, Timeout: span(e.Timeout)}
}

// KeptExecOf is the reverse.
func KeptExecOf(m *linkv1.CreateExecRequest) backend.KeptExec {
	return backend.KeptExec{
		Exec: ExecOf(m.GetStart()), ID: m.GetId(), OutputLimit: m.GetOutputLimit(), DropOldest: m.GetDropOldest(), Timeout: m.GetTimeout().AsDuration(),
	}
}

// ExecStartMessage returns a command.
func ExecStartMessage(sandbox string, e *backend.Exec) *linkv1.ExecStart {
	return &linkv1.ExecStart{
		SandboxId: sandbox, Argv: e.Argv, Env: e.Env, Dir: e.Dir, Tty: e.TTY, Stdin: e.Stdin, Size: &linkv1.Size{Width: uint32(e.Width), Height: uint32(e.Height)},
	}
}

// ExecOf is the reverse.
func ExecOf(m *linkv1.ExecStart) backend.Exec {
	return backend.Exec{
		Argv: m.GetArgv(), Env: m.GetEnv(), Dir: m.GetDir(), TTY: m.GetTty(), Stdin: m.GetStdin(),
		Width: Short(m.GetSize().GetWidth()), Height: Short(m.GetSize().GetHeight()),
	}
}

// Short is a side of a terminal.
func Short(n uint32) uint16 { return uint16(min(n, math.MaxUint16)) } //nolint:gosec // bounded
