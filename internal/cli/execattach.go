package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
	"google.golang.org/grpc"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// receivedEvery is how much output may come before the server is told that it is here; a command with a small limit is told sooner.
const receivedEvery = 64 << 10

// attachExec joins a command with this program's streams, until its end.
func (s *session) attachExec(ctx context.Context, c *client.Client, init *bermv1.AttachExecInit, flags execFlags) error {
	x := &attachedExec{session: s, client: c, init: init}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	if init.GetStdin() {
		x.input = newPendingInput()
		keys := &detacher{}
		if in, ok := s.In.(*os.File); ok && flags.tty && isTerminal(in) {
			keys.keys, _ = detachSequence(flags.detachKeys) // checked before
			old, err := term.MakeRaw(int(in.Fd()))
			if err != nil {
				return fault.Internalf(err, "cannot use the terminal")
			}
			defer func() { _ = term.Restore(int(in.Fd()), old) }()
			defer x.followSize(ctx, in)()
		}
		go func() {
			if x.input.fill(ctx, s.In, keys) {
				end(errDetached)
			}
		}()
	}
	err := x.run(ctx)
	if errors.Is(err, errDetached) {
		fmt.Fprintf(s.Err, "detached; the command goes on: berm execs attach --from %d %s %s\n", x.next, init.GetSandboxId(), init.GetExecId())
		return nil
	}
	return err
}

// attachedExec is a command that was joined, over one stream after another.
type attachedExec struct {
	*session
	client *client.Client
	init   *bermv1.AttachExecInit
	// input is nil for a command that gets none.
	input *pendingInput
	// next is the offset behind what was written here.
	next int64
	end  *bermv1.Exec
}

// run returns when the command has ended, with an exitError for its code, or when nothing helps any more.
func (x *attachedExec) run(ctx context.Context) error {
	x.next = x.init.GetOffset()
	for attempt, wait := 0, minResume; ; attempt++ {
		got, err := x.stream(ctx)
		if got {
			attempt, wait = 0, minResume
		}
		if cause := context.Cause(ctx); cause != nil {
			return &runError{cause}
		}
		if err == nil || !fault.Is(err, fault.Unavailable) || attempt >= resumeAttempts {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, maxResume)
	}
}

// stream joins once. It reports whether the server answered.
func (x *attachedExec) stream(ctx context.Context) (got bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := x.client.Execs().AttachExec(ctx)
	if err != nil {
		return false, client.FromRPC(err)
	}
	x.init.Offset = x.next
	if err := stream.Send(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_Init{Init: x.init}}); err != nil && !errors.Is(err, io.EOF) {
		return false, client.FromRPC(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return false, client.FromRPC(err)
	}
	out := &attachOutput{attachedExec: x, send: newSender(stream), told: x.next, every: min(receivedEvery, first.GetAttached().GetOutputLimit()/4)}
	if x.input != nil {
		if err := x.input.begin(first.GetAttached()); err != nil {
			return true, err
		}
		go x.input.pass(ctx, out.send)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return true, x.ended()
		}
		if err != nil {
			return true, client.FromRPC(err)
		}
		if err := out.take(m); err != nil {
			return true, err
		}
	}
}

// ended says how the command ended.
func (x *attachedExec) ended() error {
	switch {
	case x.end == nil && x.init.GetFollow():
		return &runError{fault.New(fault.Internal, "STREAM_ENDED", "the stream ended before the command did; how it ended is not known")}
	case x.end == nil:
		return nil
	case x.end.GetTimedOut():
		return &runError{fault.New(fault.Deadline, fault.ReasonCommandTimeout, "the command did not end within %s and was killed", x.end.GetTimeout().AsDuration())}
	case x.end.GetExitCode() != 0:
		return &exitError{int(x.end.GetExitCode())}
	}
	return nil
}

// attachOutput writes what comes of one stream.
type attachOutput struct {
	*attachedExec
	send *sender
	// told is up to where the server knows that output is here, every how often it is told.
	told, every int64
}

func (o *attachOutput) take(m *bermv1.AttachExecResponse) error {
	switch r := m.GetResponse().(type) {
	case *bermv1.AttachExecResponse_Gap:
		fmt.Fprintf(o.Err, "berm: %d bytes of output are not there any more\n", r.Gap.GetBytes())
		o.next = r.Gap.GetOffset() + r.Gap.GetBytes()
	case *bermv1.AttachExecResponse_Output:
		w := o.Out
		if r.Output.GetStream() == bermv1.ExecOutput_STREAM_STDERR {
			w = o.Err
		}
		_, err := w.Write(r.Output.GetData())
		if errors.Is(err, syscall.EPIPE) {
			return &exitError{exitSignal + int(syscall.SIGPIPE)} // as of any program in a pipe
		}
		if err != nil {
			return &runError{fault.New(fault.Canceled, "OUTPUT_CLOSED", "cannot write the output: %v", err)}
		}
		o.next = r.Output.GetOffset() + int64(len(r.Output.GetData()))
	case *bermv1.AttachExecResponse_StdinTaken:
		if o.input != nil {
			o.input.took(r.StdinTaken)
		}
	case *bermv1.AttachExecResponse_End:
		o.end = r.End
	}
	if o.next-o.told >= o.every {
		o.told = o.next
		o.send.say(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_Received{Received: o.next}})
	}
	return nil
}

// sender lets several goroutines send. What cannot be sent is told by the receiving side.
type sender struct {
	stream grpc.BidiStreamingClient[bermv1.AttachExecRequest, bermv1.AttachExecResponse]
	turn   chan struct{}
}

func newSender(stream grpc.BidiStreamingClient[bermv1.AttachExecRequest, bermv1.AttachExecResponse]) *sender {
	return &sender{stream: stream, turn: make(chan struct{}, 1)}
}

func (s *sender) say(m *bermv1.AttachExecRequest) bool {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	return s.stream.Send(m) == nil
}

// followSize keeps the command's terminal as large as this one, until the function that it returns is called.
func (x *attachedExec) followSize(ctx context.Context, in *os.File) func() {
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	resized <- syscall.SIGWINCH
	go func() {
		for range resized {
			if w, h, err := term.GetSize(int(in.Fd())); err == nil {
				// One that is lost is made up for by the next.
				_, _ = x.client.Execs().ResizeExec(ctx, &bermv1.ResizeExecRequest{
					SandboxId: x.init.GetSandboxId(), ExecId: x.init.GetExecId(), Columns: uint32(w), Rows: uint32(h), //nolint:gosec // a terminal's size fits
				})
			}
		}
	}()
	return func() {
		signal.Stop(resized)
		close(resized)
	}
}
