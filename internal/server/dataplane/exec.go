package dataplane

import (
	"context"
	"errors"
	"io"
	"slices"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
)

// MaxExecOutputKiB is how much of each output stream a unary exec returns at most, in KiB, and what it returns when the
// request states no limit. What is beyond is counted and dropped.
const MaxExecOutputKiB = 32 << 10

// Exec runs a command to its end. A non-zero exit code is a result. A command that does not exist is an error, because there
// was no process whose code could be reported; one that does not end in time is killed: CWSANDBOX_COMMAND_TIMEOUT.
func (s *gateway) Exec(ctx context.Context, r *v1beta2pb.ExecSandboxRequest) (*v1beta2pb.ExecSandboxResponse, error) {
	ctx, cancel, err := bounded(ctx, r.GetMaxTimeoutSeconds())
	if err != nil {
		return nil, err
	}
	defer cancel()
	keep, err := outputLimit(r)
	if err != nil {
		return nil, err
	}
	argv := slices.Concat(r.GetCommand(), r.GetArgs())
	proc, err := s.control.Exec(ctx, edge.Principal(ctx), r.GetSandboxId(), backend.Exec{Argv: argv})
	if err != nil {
		return nil, err
	}
	defer func() { _ = proc.Close() }() // it kills, and what was to be told has been told
	result, err := collect(proc, keep)
	if ctx.Err() != nil { // the process was killed: its code says nothing about the command
		return nil, timedOut(ctx)
	}
	if err != nil {
		return nil, err
	}
	return &v1beta2pb.ExecSandboxResponse{Result: result}, nil
}

// outputLimit returns how many bytes of each stream are kept.
func outputLimit(r *v1beta2pb.ExecSandboxRequest) (int, error) {
	switch r.GetOutputHandling() {
	case v1beta2pb.OutputPolicy_OUTPUT_POLICY_DISCARD:
		return 0, nil
	case v1beta2pb.OutputPolicy_OUTPUT_POLICY_UNSPECIFIED, v1beta2pb.OutputPolicy_OUTPUT_POLICY_BUFFERED, v1beta2pb.OutputPolicy_OUTPUT_POLICY_STREAM:
	default:
		return 0, fault.Invalidf(fault.ReasonInvalidRequest, "invalid exec").WithField("output_handling", "%d is no output policy", r.GetOutputHandling())
	}
	kib := r.GetBufferedMaxKib()
	if kib > MaxExecOutputKiB {
		return 0, fault.Invalidf(fault.ReasonInvalidRequest, "invalid exec").
			WithField("buffered_max_kib", "%d is more than %d; StreamExec has no limit", kib, MaxExecOutputKiB)
	}
	if kib == 0 {
		kib = MaxExecOutputKiB
	}
	return int(kib) << 10, nil
}

// collect reads a process to its end and keeps the first bytes of each stream.
func collect(proc backend.Process, keep int) (*v1beta2pb.ExecResponse, error) {
	out := &v1beta2pb.ExecResponse{}
	for {
		f, err := proc.Recv()
		if errors.Is(err, io.EOF) {
			return nil, fault.Internalf(nil, "a command ended without an exit code")
		}
		if err != nil {
			return nil, err
		}
		switch f.Kind {
		case backend.FrameStdout:
			out.Stdout, out.StdoutTruncated = kept(out.Stdout, f.Data, keep, out.StdoutTruncated)
			out.StdoutBytesProduced += int64(len(f.Data))
		case backend.FrameStderr:
			out.Stderr, out.StderrTruncated = kept(out.Stderr, f.Data, keep, out.StderrTruncated)
			out.StderrBytesProduced += int64(len(f.Data))
		case backend.FrameExit:
			out.ExitCode = f.ExitCode
			return out, nil
		}
	}
}

func kept(have, more []byte, keep int, truncated bool) ([]byte, bool) {
	if room := keep - len(have); len(more) > room {
		more, truncated = more[:room], true
	}
	return append(have, more...), truncated
}

// timedOut says why a command was killed: its time was up, its caller went away, or the caller's token is not valid any more.
func timedOut(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault.New(fault.Deadline, fault.ReasonCommandTimeout, "the command did not end in time and was killed").WithCause(ctx.Err())
	}
	return context.Cause(ctx)
}
