package dataplane

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
)

// Size of a terminal whose request states none, in characters.
const (
	defaultWidth  = 80
	defaultHeight = 24
	maxSide       = 1<<16 - 1
)

// streaming is the service of streams.
type streaming struct {
	v1beta2rpc.UnsafeGatewayStreamingServiceServer
	*Front
}

var _ v1beta2rpc.GatewayStreamingServiceServer = (*streaming)(nil)

type execStream = grpc.BidiStreamingServer[v1beta2pb.ExecStreamRequest, v1beta2pb.ExecStreamResponse]

// StreamExec runs a command with its streams: init, then ready, any outputs, and exactly one exit or error frame, the last.
// The end of the client's side is the end of standard input; cancelling the call kills the command. Next to nothing is buffered: a
// client that does not read stops the command's output, a command that does not read stops the client's input.
//
// A request that breaks these rules ends in INVALID_ARGUMENT, a call that was cancelled or ran out of time in its status;
// everything else that goes wrong is told in the error frame.
func (s *streaming) StreamExec(stream execStream) error {
	init, err := firstInit(stream)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer s.onDrain(func() { cancel(errDraining) })()
	proc, err := s.open(ctx, init)
	if err != nil {
		return finish(ctx, stream, err)
	}
	defer func() { _ = proc.Close() }() // it kills, and what was to be told has been told
	err = stream.Send(&v1beta2pb.ExecStreamResponse{Response: &v1beta2pb.ExecStreamResponse_Ready{
		Ready: &v1beta2pb.StreamingExecReady{ReadyAt: timestamppb.New(s.now())},
	}})
	if err != nil {
		return err
	}
	in := &input{stream: stream, proc: proc, tty: init.GetTty()}
	go func() {
		if err := in.run(); err != nil {
			cancel(err)
		}
	}()
	exit, err := output(stream, proc, ctx.Done())
	if cause := context.Cause(ctx); cause != nil { // killed, so its code says nothing about the command
		err = cause
	}
	if err != nil {
		return finish(ctx, stream, err)
	}
	return stream.Send(exit)
}

// firstInit reads and checks the first message.
func firstInit(stream execStream) (*v1beta2pb.ExecStreamInit, error) {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, badStream("the stream ended before its first message, init")
	}
	if err != nil {
		return nil, err
	}
	init := first.GetInit()
	if init == nil {
		return nil, badStream("the first message is not init")
	}
	for path, v := range map[string]uint32{"tty_width": init.GetTtyWidth(), "tty_height": init.GetTtyHeight()} {
		if v > maxSide {
			return nil, badStream("invalid init").WithField("init."+path, "%d is more than %d", v, maxSide)
		}
	}
	if init.GetResumeSessionId() != "" && (len(init.GetCommand()) > 0 || init.GetTty() || init.GetTtyWidth() > 0 || init.GetTtyHeight() > 0 || len(init.GetEnv()) > 0) {
		return nil, badStream("invalid init").WithField("init.resume_session_id", "excludes command, tty, tty_width, tty_height and env")
	}
	return init, nil
}

func badStream(what string) *fault.Error {
	return fault.Invalidf(fault.ReasonInvalidRequest, "%s", what)
}

// open starts the command, once the sandbox runs.
func (s *streaming) open(ctx context.Context, init *v1beta2pb.ExecStreamInit) (backend.Process, error) {
	p := edge.Principal(ctx)
	if init.GetResumeSessionId() != "" {
		if _, err := s.control.Get(ctx, p, init.GetSandboxId()); err != nil {
			return nil, err
		}
		return nil, fault.NotFoundf(fault.ReasonSessionNotFound, "there is no session %.80q: streams cannot be resumed on this server", init.GetResumeSessionId())
	}
	e := backend.Exec{Argv: init.GetCommand(), Env: init.GetEnv(), TTY: init.GetTty(), Stdin: true}
	if e.TTY {
		e.Width, e.Height = side(init.GetTtyWidth(), defaultWidth), side(init.GetTtyHeight(), defaultHeight)
	}
	return s.control.Exec(ctx, p, init.GetSandboxId(), e)
}

func side(asked uint32, otherwise uint16) uint16 {
	if asked == 0 {
		return otherwise
	}
	return uint16(asked) //nolint:gosec // firstInit and the resize frame bound it
}
