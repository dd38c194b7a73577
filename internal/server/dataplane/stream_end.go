package dataplane

import (
	"context"
	"errors"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

// Codes of error frames that published clients know.
const (
	codeSandboxNotFound   = "SANDBOX_NOT_FOUND"
	codeExecFailed        = "EXEC_FAILED"
	codePermissionDenied  = "PERMISSION_DENIED"
	codeRunnerUnavailable = "RUNNER_UNAVAILABLE"
	codeRunnerDraining    = "RUNNER_DRAINING"
	codeSessionNotFound   = "SESSION_NOT_FOUND"
)

var errDraining = errors.New("the server is shutting down")

// finish ends a stream that has no exit code: with an error frame and OK, or with a status where the call itself is at fault
// or over.
func finish(ctx context.Context, stream execStream, err error) error {
	if stream.Context().Err() != nil {
		return timedOut(stream.Context())
	}
	code := frameCode(err)
	if code == "" {
		return err
	}
	text := "the server is shutting down and has ended the command"
	if code != codeRunnerDraining {
		text = wire.Text(err, edge.RequestID(ctx))
	}
	edge.Note(ctx, err)
	return stream.Send(&v1beta2pb.ExecStreamResponse{Response: &v1beta2pb.ExecStreamResponse_Error{
		Error: &v1beta2pb.ExecStreamError{Code: code, Message: text},
	}})
}

// frameCode returns the code of an error frame, "" for what is told as a status.
func frameCode(err error) string {
	if errors.Is(err, errDraining) {
		return codeRunnerDraining
	}
	switch f := fault.From(err); f.Code {
	case fault.NotFound:
		if f.Reason == fault.ReasonSessionNotFound {
			return codeSessionNotFound
		}
		return codeSandboxNotFound
	case fault.Denied:
		return codePermissionDenied
	case fault.Unavailable:
		if f.Reason == fault.ReasonExecFailed {
			return codeExecFailed
		}
		return codeRunnerUnavailable
	case fault.Invalid, fault.Unauthenticated, fault.Unimplemented, fault.Deadline, fault.Canceled:
		return ""
	case fault.Internal, fault.Precondition, fault.Exhausted, fault.Exists, fault.Conflict, fault.OutOfRange:
	}
	return codeExecFailed
}
