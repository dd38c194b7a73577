package bermv1

import (
	"context"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
)

type attachStream = grpc.BidiStreamingServer[bermv1.AttachExecRequest, bermv1.AttachExecResponse]

// AttachExec joins the stream with a command. It ends with the command's end, without follow when there is no more now, or with an error.
func (s *execService) AttachExec(stream attachStream) error {
	first, err := firstOf(stream.Recv())
	if err != nil {
		return err
	}
	init := first.GetInit()
	if init == nil {
		return notInit()
	}
	if init.GetOffset() < 0 {
		return fault.Invalidf(fault.ReasonInvalidRequest, "invalid init").WithField("init.offset", "%d is negative", init.GetOffset())
	}
	ctx, done := s.untilDrain(stream.Context())
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a, err := s.control.AttachExec(ctx, edge.Principal(ctx), init.GetSandboxId(), init.GetExecId(), backend.Attach{
		Output: !init.GetQuiet(), Offset: init.GetOffset(), Follow: init.GetFollow(), Stdin: init.GetStdin(),
	})
	if err != nil {
		return drained(ctx, err)
	}
	defer func() { _ = a.Close() }() // the command goes on
	st := a.State()
	err = stream.Send(&bermv1.AttachExecResponse{Response: &bermv1.AttachExecResponse_Attached{Attached: execMessage(init.GetSandboxId(), &st)}})
	if err != nil {
		return err
	}
	go func() {
		if err := takeAttached(stream, a, init.GetStdin()); err != nil {
			cancel(err)
		}
	}()
	err = sendAttached(stream, init, a)
	if bad, ok := errors.AsType[*fault.Error](context.Cause(ctx)); ok && err != nil {
		return bad // What the caller sent made no sense.
	}
	return drained(ctx, err)
}

// sendAttached sends what comes of a command.
func sendAttached(stream attachStream, init *bermv1.AttachExecInit, a backend.Attachment) error {
	next := init.GetOffset()
	for {
		f, err := a.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if f.Kind == backend.AttachTaken {
			err = stream.Send(&bermv1.AttachExecResponse{Response: &bermv1.AttachExecResponse_StdinTaken{StdinTaken: f.Taken}})
			if err != nil {
				return err
			}
			continue
		}
		if f.Offset > next && !init.GetQuiet() {
			err = stream.Send(&bermv1.AttachExecResponse{Response: &bermv1.AttachExecResponse_Gap{Gap: &bermv1.ExecGap{Offset: next, Bytes: f.Offset - next}}})
			if err != nil {
				return err
			}
		}
		if f.Kind == backend.AttachExit {
			return stream.Send(&bermv1.AttachExecResponse{Response: &bermv1.AttachExecResponse_End{End: execMessage(init.GetSandboxId(), f.End)}})
		}
		next = f.Offset + int64(len(f.Data))
		for chunk := range slices.Chunk(f.Data, maxChunk) {
			err = stream.Send(&bermv1.AttachExecResponse{Response: &bermv1.AttachExecResponse_Output{Output: execOutput(&f, chunk)}})
			if err != nil {
				return err
			}
			f.Offset += int64(len(chunk))
		}
	}
}

// takeAttached passes on what a caller says, until that ends, which ends nothing else. An error is a message that makes no sense.
func takeAttached(stream attachStream, a backend.Attachment, writes bool) error {
	for {
		m, err := stream.Recv()
		if fault.Is(err, fault.Invalid) { // it does not decode
			return err
		}
		if err != nil {
			return nil //nolint:nilerr // the call is over, and its context says why
		}
		switch r := m.GetRequest().(type) {
		case *bermv1.AttachExecRequest_Received:
			err = a.Received(r.Received)
		case *bermv1.AttachExecRequest_Stdin:
			if !writes {
				return notAsked()
			}
			if len(r.Stdin) > backend.MaxExecChunk {
				return fault.Invalidf(fault.ReasonInvalidRequest, "a piece of %d bytes, the limit is %d", len(r.Stdin), backend.MaxExecChunk)
			}
			err = a.Send(r.Stdin)
		case *bermv1.AttachExecRequest_CloseStdin:
			if !writes {
				return notAsked()
			}
			err = a.CloseSend()
		case *bermv1.AttachExecRequest_Init:
			return fault.Invalidf(fault.ReasonInvalidRequest, "init may come once, as the first message")
		default:
			return fault.Invalidf(fault.ReasonInvalidRequest, "a message holds nothing that this server knows")
		}
		if err != nil {
			return nil //nolint:nilerr // the sending side says why
		}
	}
}

func notAsked() error {
	return fault.Invalidf(fault.ReasonInvalidRequest, "standard input is not this stream's: init did not ask for stdin")
}
