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

	"github.com/spf13/cobra"
	"golang.org/x/term"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// stdinChunk is how much of standard input goes into one frame, in bytes.
const stdinChunk = 64 << 10

// execFlags are the flags of a command that runs in a sandbox.
type execFlags struct {
	interactive, tty bool
	env              []string
	timeout          time.Duration
	detachKeys       string
	keep             keepFlags
}

func (x *execFlags) bind(c *cobra.Command, env bool) {
	f := c.Flags()
	f.BoolVarP(&x.interactive, "interactive", "i", false, "pass standard input on")
	f.BoolVarP(&x.tty, "tty", "t", false, "give the command a terminal")
	f.DurationVar(&x.timeout, "timeout", 0, "kill the command after this time and return 124")
	x.bindDetachKeys(c)
	if env {
		f.StringArrayVarP(&x.env, "env", "e", nil, "environment variable NAME=VALUE, or NAME to pass one on; repeatable")
	}
}

// check is made before anything is launched.
func (x *execFlags) check() error {
	if x.timeout < 0 {
		return fault.Invalidf("USAGE", "--timeout %s is negative", x.timeout)
	}
	_, err := detachSequence(x.detachKeys)
	return err
}

func (s *session) execCmd() *cobra.Command {
	var x execFlags
	c := &cobra.Command{
		Use:   "exec [flags] SANDBOX -- COMMAND [ARG...]",
		Short: "Run a command in a sandbox",
		Long: `Run a command in a sandbox. Output streams as it is produced, and the exit code is the command's own: 128+n when signal n ended it,
124 when --timeout passed, 125 when Berm failed (the message says how). The detach keys leave a terminal; the command ends then.

With --keep the command outlives this program: a connection that breaks is taken up again where it was, input included, and whoever goes
away, by the detach keys too, leaves it running. With --detach it is started like that, and its id is printed. See berm execs.`,
		Example: `  berm exec SANDBOX -- python train.py
  berm exec --detach --drop-oldest --id train SANDBOX -- python train.py`,
		RunE: func(cmd *cobra.Command, a []string) error {
			head, argv, err := command(cmd, a, 1)
			if err != nil {
				return err
			}
			if len(argv) == 0 {
				return fault.Invalidf("USAGE", "no command was given").WithHint("Usage: %s", cmd.UseLine())
			}
			if err := x.check(); err != nil {
				return err
			}
			if err := x.keep.check(cmd); err != nil {
				return err
			}
			return asRun(s.with(func(ctx context.Context, c *client.Client, _ []string) error {
				if x.keep.detach || x.keep.keep {
					return s.kept(ctx, c, head[0], argv, x)
				}
				return s.detached(head[0], s.exec(ctx, c, head[0], argv, x))
			})(cmd, a))
		},
	}
	x.bind(c, true)
	x.keep.bind(c)
	c.Flags().SetInterspersed(false)
	return c
}

// detached tells a person who has left a terminal what became of the command: with its stream it ends.
func (s *session) detached(id string, err error) error {
	if !errors.Is(err, errDetached) {
		return err
	}
	fmt.Fprintf(s.Err, "detached; the command was ended, sandbox %s goes on\n", id)
	return nil
}

// exec runs argv and returns an exitError with its code, a runError when Berm failed, or errDetached.
func (s *session) exec(ctx context.Context, c *client.Client, id string, argv []string, x execFlags) error {
	env, err := pairs("--env", x.env, s.Getenv)
	if err != nil {
		return err
	}
	init := &v1beta2pb.ExecStreamInit{SandboxId: id, Command: argv, Tty: x.tty, Env: env}
	restore, err := s.terminal(init, x)
	if err != nil {
		return err
	}
	defer restore()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	if x.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, x.timeout, fault.New(fault.Deadline, fault.ReasonCommandTimeout, "the command did not end within %s and was killed", x.timeout))
		defer cancel()
	}
	stream, err := c.Streaming().StreamExec(ctx)
	if err != nil {
		return &runError{client.FromRPC(err)}
	}
	if err := stream.Send(&v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Init{Init: init}}); err != nil && !errors.Is(err, io.EOF) {
		return &runError{client.FromRPC(err)}
	}
	ready := make(chan struct{})
	if x.interactive || x.tty {
		go s.sendInput(stream, x, ready, end)
	} else if err := stream.CloseSend(); err != nil {
		return &runError{client.FromRPC(err)}
	}
	return s.receive(ctx, stream, ready)
}

// terminal puts the user's terminal into raw mode for a command with one, and returns what undoes it.
func (s *session) terminal(init *v1beta2pb.ExecStreamInit, x execFlags) (func(), error) {
	none := func() {}
	if !x.tty {
		return none, nil
	}
	in, ok := s.In.(*os.File)
	if !ok || !isTerminal(in) {
		if !x.interactive {
			return none, fault.Invalidf("USAGE", "--tty needs a terminal as standard input").WithHint("Leave --tty out, or use -i to pass input on.")
		}
		init.TtyWidth, init.TtyHeight = 80, 24
		return none, nil
	}
	if w, h, err := term.GetSize(int(in.Fd())); err == nil {
		init.TtyWidth, init.TtyHeight = uint32(w), uint32(h) //nolint:gosec // a terminal's size fits
	}
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return none, fault.Internalf(err, "cannot use the terminal")
	}
	return func() { _ = term.Restore(int(in.Fd()), old) }, nil
}

// sendInput passes input and window sizes on from the moment the command is ready, until the detach keys. It ends with the stream.
func (s *session) sendInput(stream v1beta2rpc.GatewayStreamingService_StreamExecClient, x execFlags, ready <-chan struct{}, end context.CancelCauseFunc) {
	select {
	case <-ready:
	case <-stream.Context().Done():
		return
	}
	frames := make(chan *v1beta2pb.ExecStreamRequest)
	keys := &detacher{}
	if in, ok := s.In.(*os.File); ok && x.tty && isTerminal(in) {
		keys.keys, _ = detachSequence(x.detachKeys) // checked before
	}
	go s.readInput(stream.Context(), frames, keys, end)
	resized := make(chan os.Signal, 1)
	if x.tty {
		signal.Notify(resized, syscall.SIGWINCH)
		defer signal.Stop(resized)
	}
	for {
		var frame *v1beta2pb.ExecStreamRequest
		select {
		case <-stream.Context().Done():
			return
		case f, ok := <-frames:
			if !ok {
				_ = stream.Send(&v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Close{Close: &v1beta2pb.ExecStreamClose{}}})
				_ = stream.CloseSend()
				return
			}
			frame = f
		case <-resized:
			if in, ok := s.In.(*os.File); ok {
				if w, h, err := term.GetSize(int(in.Fd())); err == nil {
					frame = &v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Resize{Resize: &v1beta2pb.ExecStreamResize{Width: uint32(w), Height: uint32(h)}}} //nolint:gosec // a terminal's size fits
				}
			}
		}
		if frame != nil && stream.Send(frame) != nil {
			return // the receiver reports why
		}
	}
}

func (s *session) readInput(ctx context.Context, frames chan<- *v1beta2pb.ExecStreamRequest, keys *detacher, end context.CancelCauseFunc) {
	defer close(frames)
	for {
		buf := make([]byte, stdinChunk)
		n, err := s.In.Read(buf)
		data, detached := keys.filter(buf[:n])
		if detached {
			end(errDetached)
			return
		}
		if len(data) > 0 {
			select {
			case frames <- &v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Stdin{Stdin: &v1beta2pb.ExecStreamData{Data: data}}}:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// receive writes what the command says until its end. An end that was not seen is an error, never a code.
func (s *session) receive(ctx context.Context, stream v1beta2rpc.GatewayStreamingService_StreamExecClient, ready chan<- struct{}) error {
	var once bool
	for {
		resp, err := stream.Recv()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return &runError{cause}
			}
			if errors.Is(err, io.EOF) {
				return &runError{fault.New(fault.Internal, "STREAM_ENDED", "the stream ended before the command did; how it ended is not known")}
			}
			return &runError{client.FromRPC(err)}
		}
		switch r := resp.GetResponse().(type) {
		case *v1beta2pb.ExecStreamResponse_Ready:
			if !once {
				once = true
				close(ready)
			}
		case *v1beta2pb.ExecStreamResponse_Output:
			w := s.Out
			if r.Output.GetStreamType() == v1beta2pb.ExecStreamOutput_STREAM_TYPE_STDERR {
				w = s.Err
			}
			_, err := w.Write(r.Output.GetData())
			if errors.Is(err, syscall.EPIPE) {
				return &exitError{exitSignal + int(syscall.SIGPIPE)} // as of any program in a pipe
			}
			if err != nil {
				return &runError{fault.New(fault.Canceled, "OUTPUT_CLOSED", "cannot write the output: %v", err)}
			}
		case *v1beta2pb.ExecStreamResponse_Exit:
			if code := int(r.Exit.GetExitCode()); code != 0 {
				return &exitError{code}
			}
			return nil
		case *v1beta2pb.ExecStreamResponse_Error:
			return &runError{fault.Preconditionf(r.Error.GetCode(), "%s", r.Error.GetMessage())}
		}
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
