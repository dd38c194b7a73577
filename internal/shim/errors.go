package shim

import (
	"errors"
	"strconv"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim/wire"
)

// reasons maps an error's code to what callers know. Most are preconditions: the request was fine, the sandbox is not as it
// would have to be. (Published clients take a permission status for a failed login, so it is not used.)
var reasons = map[wire.Code]struct {
	code   fault.Code
	reason string
}{
	wire.CodeCommandNotFound: {fault.Precondition, fault.ReasonCommandNotFound},
	wire.CodeExecFailed:      {fault.Precondition, fault.ReasonExecFailed},
	wire.CodeNotFound:        {fault.NotFound, fault.ReasonFileNotFound},
	wire.CodeIsDirectory:     {fault.Precondition, fault.ReasonFileIsDirectory},
	wire.CodeTooLarge:        {fault.Precondition, fault.ReasonFileTooLarge},
	wire.CodeChanged:         {fault.Conflict, fault.ReasonFileChanged},
	wire.CodeBusy:            {fault.Conflict, fault.ReasonFileBusy},
	wire.CodeIOFailed:        {fault.Precondition, fault.ReasonFileIOFailed},
	wire.CodePortClosed:      {fault.Precondition, fault.ReasonPortClosed},
	wire.CodeInvalid:         {fault.Invalid, fault.ReasonInvalidRequest},
	wire.CodeExhausted:       {fault.Exhausted, fault.ReasonLimitExceeded},
	wire.CodeStartFailed:     {fault.Precondition, string(wire.CodeStartFailed)},
	wire.CodeNotRunning:      {fault.Precondition, fault.ReasonSandboxNotRunning},
	wire.CodePaused:          {fault.Precondition, fault.ReasonSandboxNotRunning},
	wire.CodeNotSaved:        {fault.Precondition, fault.ReasonCheckpointFailed},
	wire.CodeGap:             {fault.OutOfRange, string(wire.CodeGap)},
	wire.CodeNoExec:          {fault.NotFound, fault.ReasonExecNotFound},
	wire.CodeExecExists:      {fault.Exists, fault.ReasonExecExists},
	wire.CodeExecEnded:       {fault.Precondition, fault.ReasonExecEnded},
	wire.CodeInputClosed:     {fault.Precondition, fault.ReasonExecInputClosed},
	wire.CodeInputTaken:      {fault.Conflict, fault.ReasonExecInputTaken},
	wire.CodeOffset:          {fault.Invalid, fault.ReasonResumeOffset},
	wire.CodeInternal:        {fault.Unavailable, fault.ReasonRunnerUnavailable},
}

// faultOf turns an error frame into a fault. A permission can be lacking for a file or for a program.
func faultOf(e *wire.Error) *fault.Error {
	f := fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "%s", e.Message)
	if r, ok := reasons[e.Code]; ok {
		f.Code, f.Reason = r.code, r.reason
	}
	if e.Code == wire.CodePermissionDenied {
		f.Code, f.Reason = fault.Precondition, fault.ReasonExecFailed
		if e.Path != "" {
			f.Reason = fault.ReasonFilePermissionDenied
		}
	}
	if e.Path != "" {
		f.WithMeta("filepath", e.Path)
	}
	if e.Code == wire.CodeTooLarge {
		f.WithMeta("size_bytes", strconv.FormatInt(e.Size, 10)).WithMeta("max_size_bytes", strconv.FormatInt(e.Limit, 10))
	}
	return f
}

// errInterrupted says that the shim went away in the middle of a request.
func errInterrupted(err error) *fault.Error {
	return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the connection to the sandbox's shim ended early").WithCause(err)
}

// errNotRunning says that there is no shim to ask.
func errNotRunning(err error) *fault.Error {
	return fault.Preconditionf(fault.ReasonSandboxNotRunning, "the sandbox is not running").WithCause(err)
}

// ErrLost is returned by Wait when the shim died without recording the end.
var ErrLost = errors.New("the sandbox's shim died before it recorded the end")
