package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
)

type (
	request  = v1beta2pb.ExecStreamRequest
	response = v1beta2pb.ExecStreamResponse
	stream   = grpc.BidiStreamingClient[request, response]
)

func initFrame(init *v1beta2pb.ExecStreamInit) *request {
	return &request{Request: &v1beta2pb.ExecStreamRequest_Init{Init: init}}
}

func stdinFrame(s string) *request {
	return &request{Request: &v1beta2pb.ExecStreamRequest_Stdin{Stdin: &v1beta2pb.ExecStreamData{Data: []byte(s)}}}
}

func closeFrame() *request {
	return &request{Request: &v1beta2pb.ExecStreamRequest_Close{Close: &v1beta2pb.ExecStreamClose{}}}
}

func resizeFrame(width, height uint32) *request {
	return &request{Request: &v1beta2pb.ExecStreamRequest_Resize{Resize: &v1beta2pb.ExecStreamResize{Width: width, Height: height}}}
}

// exec opens a stream and sends the first messages.
func (w *world) exec(ctx context.Context, conn *grpc.ClientConn, frames ...*request) stream {
	w.Helper()
	s, err := v1beta2rpc.NewGatewayStreamingServiceClient(conn).StreamExec(ctx)
	w.must(err)
	for _, f := range frames {
		if err := s.Send(f); errors.Is(err, io.EOF) {
			break // the command has ended already
		} else if err != nil {
			w.Fatal(err)
		}
	}
	return s
}

// ready reads the first message, which must be ready.
func (w *world) ready(s stream) {
	w.Helper()
	m, err := s.Recv()
	w.must(err)
	if m.GetReady().GetReadyAt() == nil {
		w.Fatalf("the first message is %v", m)
	}
}

// rest reads a stream to its end: what was written, the last message, and the end itself.
func (w *world) rest(s stream) (stdout, stderr string, last *response, err error) {
	w.Helper()
	for {
		m, err := s.Recv()
		if err != nil {
			return stdout, stderr, last, err
		}
		if last.GetExit() != nil || last.GetError() != nil {
			w.Errorf("%v came after the last message", m)
		}
		if m.GetReady() != nil {
			w.Error("ready came twice")
		}
		switch o := m.GetOutput(); o.GetStreamType() {
		case v1beta2pb.ExecStreamOutput_STREAM_TYPE_STDOUT:
			stdout += string(o.GetData())
		case v1beta2pb.ExecStreamOutput_STREAM_TYPE_STDERR:
			stderr += string(o.GetData())
		case v1beta2pb.ExecStreamOutput_STREAM_TYPE_UNSPECIFIED:
		}
		last = m
	}
}

func TestStreamExec(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	init := func(argv ...string) *v1beta2pb.ExecStreamInit {
		return &v1beta2pb.ExecStreamInit{SandboxId: id, Command: argv}
	}
	for where, addr := range map[string]string{"shared": w.addr, "native": w.native} {
		conn := w.dial(addr, w.user)
		t.Run(where+" output and code", func(t *testing.T) {
			s := w.exec(t.Context(), conn, initFrame(init("sh", "-c", "echo out; echo err >&2; exit 3")))
			w.must(s.CloseSend()) // the end of standard input, and of nothing else
			w.ready(s)
			out, errs, last, err := w.rest(s)
			if out != "out\n" || errs != "err\n" || last.GetExit().GetExitCode() != 3 || last.GetExit().GetCompletedAt() == nil || !errors.Is(err, io.EOF) {
				t.Errorf("%q %q %v %v", out, errs, last, err)
			}
		})
		t.Run(where+" input as it comes", func(t *testing.T) {
			s := w.exec(t.Context(), conn, initFrame(init("cat")))
			w.ready(s)
			for _, word := range []string{"one", "two", strings.Repeat("x", 200<<10)} {
				w.must(s.Send(stdinFrame(word)))
				var got string
				for len(got) < len(word) {
					m, err := s.Recv()
					w.must(err)
					got += string(m.GetOutput().GetData())
				}
				if got != word {
					t.Errorf("%d bytes came back as %d", len(word), len(got))
				}
			}
			w.must(s.Send(closeFrame()))
			if _, _, last, err := w.rest(s); last.GetExit() == nil || last.GetExit().GetExitCode() != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("%v %v", last, err)
			}
		})
		t.Run(where+" input for nobody", func(t *testing.T) {
			s := w.exec(t.Context(), conn, initFrame(init("true")), stdinFrame(strings.Repeat("x", 1<<20)), closeFrame())
			w.ready(s)
			if _, _, last, err := w.rest(s); last.GetExit() == nil || !errors.Is(err, io.EOF) {
				t.Errorf("%v %v", last, err)
			}
		})
		t.Run(where+" environment and terminal", func(t *testing.T) {
			in := init("sh", "-c", "printenv X; stty size; cat; stty size")
			in.Env, in.Tty, in.TtyWidth, in.TtyHeight = map[string]string{"X": "y"}, true, 100, 30
			s := w.exec(t.Context(), conn, initFrame(in))
			w.ready(s)
			var out string
			for !strings.Contains(out, "30 100") {
				m, err := s.Recv()
				w.must(err)
				out += string(m.GetOutput().GetData())
			}
			w.must(s.Send(resizeFrame(120, 40)))
			w.must(s.Send(closeFrame()))
			more, errs, last, err := w.rest(s)
			if out += more; !strings.Contains(out, "y\n") || !strings.Contains(out, "40 120") || errs != "" || last.GetExit() == nil || !errors.Is(err, io.EOF) {
				t.Errorf("%q %q %v %v", out, errs, last, err)
			}
		})
		t.Run(where+" cancel kills", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			s := w.exec(ctx, conn, initFrame(init("sleep", "infinity")))
			w.ready(s)
			cancel()
			if _, _, last, err := w.rest(s); last != nil || status.Code(err) != codes.Canceled {
				t.Errorf("%v %v", last, err)
			}
			w.idleProcesses(id, 0)
			if _, err := w.gateway().Exec(t.Context(), &v1beta2pb.ExecSandboxRequest{SandboxId: id, Command: []string{"true"}}); err != nil {
				t.Errorf("the sandbox suffered: %v", err)
			}
		})
		t.Run(where+" a deadline kills", func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			s := w.exec(ctx, conn, initFrame(init("sleep", "infinity")))
			if _, _, _, err := w.rest2(s); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("%v", err)
			}
			w.idleProcesses(id, 0)
		})
		t.Run(where+" a client that never reads", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			s := w.exec(ctx, conn, initFrame(init("head", "-c", "1000000000", "/dev/zero")))
			w.ready(s)
			// Its command waits; others do not, on the same connection.
			out, _, last, err := w.rest(w.readied(t.Context(), conn, init("echo", "hello")))
			if out != "hello\n" || last.GetExit() == nil || !errors.Is(err, io.EOF) {
				t.Errorf("%q %v %v", out, last, err)
			}
			w.idleProcesses(id, 1)
			cancel()
			w.idleProcesses(id, 0)
		})
	}
}

// readied opens a stream and reads ready.
func (w *world) readied(ctx context.Context, conn *grpc.ClientConn, init *v1beta2pb.ExecStreamInit) stream {
	w.Helper()
	s := w.exec(ctx, conn, initFrame(init))
	w.must(s.CloseSend())
	w.ready(s)
	return s
}

// rest2 is rest for a stream whose ready may or may not have come.
func (w *world) rest2(s stream) (stdout, stderr string, last *response, err error) {
	if m, err := s.Recv(); err != nil || m.GetReady() == nil {
		return "", "", m, err
	}
	return w.rest(s)
}

// TestStreamErrors: what the caller did wrong is a status, what went wrong is an error frame and OK.
func TestStreamErrors(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	ended := w.idle()
	_, err := w.gateway().Delete(t.Context(), &v1beta2pb.DeleteSandboxRequest{SandboxId: ended})
	w.must(err)
	conn := w.dial(w.addr, w.user)
	cat := &v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"cat"}}
	idles := &v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"sleep", "infinity"}}
	for name, c := range map[string]struct {
		frames []*request
		frame  string
		status codes.Code
		says   string
	}{
		"nothing at all":          {status: codes.InvalidArgument, says: "first message"},
		"input before init":       {frames: []*request{stdinFrame("x")}, status: codes.InvalidArgument, says: "not init"},
		"a resize before init":    {frames: []*request{resizeFrame(80, 24), initFrame(cat)}, status: codes.InvalidArgument, says: "not init"},
		"an end before init":      {frames: []*request{closeFrame(), initFrame(cat)}, status: codes.InvalidArgument, says: "not init"},
		"init after the end":      {frames: []*request{initFrame(idles), closeFrame(), initFrame(idles)}, status: codes.InvalidArgument, says: "init came twice"},
		"an empty message":        {frames: []*request{{}}, status: codes.InvalidArgument, says: "not init"},
		"init twice":              {frames: []*request{initFrame(cat), initFrame(cat)}, status: codes.InvalidArgument, says: "init came twice"},
		"an empty message later":  {frames: []*request{initFrame(cat), {}}, status: codes.InvalidArgument, says: "nothing that this server knows"},
		"input after its end":     {frames: []*request{initFrame(idles), closeFrame(), stdinFrame("x")}, says: "after its end", status: codes.InvalidArgument},
		"no command":              {frames: []*request{initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id})}, status: codes.InvalidArgument, says: "command"},
		"a huge terminal":         {frames: []*request{initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"cat"}, Tty: true, TtyWidth: 1 << 20})}, status: codes.InvalidArgument, says: "tty_width"},
		"resize to nothing":       {frames: []*request{initFrame(cat), resizeFrame(0, 9)}, status: codes.InvalidArgument, says: "resize"},
		"resume with a command":   {frames: []*request{initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"cat"}, ResumeSessionId: "s"})}, status: codes.InvalidArgument, says: "resume_session_id"},
		"resume":                  {frames: []*request{initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, ResumeSessionId: "s"})}, frame: "SESSION_NOT_FOUND"},
		"resume in no sandbox":    {frames: []*request{initFrame(&v1beta2pb.ExecStreamInit{SandboxId: "none", ResumeSessionId: "s"})}, frame: "SANDBOX_NOT_FOUND"},
		"a sandbox that is not":   {frames: []*request{initFrame(&v1beta2pb.ExecStreamInit{SandboxId: "none", Command: []string{"cat"}})}, frame: "SANDBOX_NOT_FOUND"},
		"a sandbox that has been": {frames: []*request{initFrame(&v1beta2pb.ExecStreamInit{SandboxId: ended, Command: []string{"cat"}})}, frame: "EXEC_FAILED", says: "COMPLETED"},
		"a command that is not":   {frames: []*request{initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"no-such-program"}})}, frame: "EXEC_FAILED", says: "no-such-program"},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.exec(t.Context(), conn)
			for _, f := range c.frames {
				if s.Send(f) != nil {
					break // the server has answered already
				}
			}
			_ = s.CloseSend()
			_, _, last, err := w.rest2(s)
			if c.status != codes.OK {
				if status.Code(err) != c.status || !strings.Contains(err.Error(), c.says) || last.GetExit() != nil || last.GetError() != nil {
					t.Errorf("%v %v", last, err)
				}
				w.idleProcesses(id, 0)
				return
			}
			if last.GetError().GetCode() != c.frame || !strings.Contains(last.GetError().GetMessage(), c.says) {
				t.Errorf("%v %v", last, err)
			}
			if _, err := s.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("then %v", err)
			}
		})
	}
}

// TestStreamRunnerTrouble: an end that nobody saw is an error, never a code.
func TestStreamRunnerTrouble(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	conn := w.dial(w.addr, w.user)
	w.fakes["r1"].Unreachable(true)
	s := w.exec(t.Context(), conn, initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"cat"}}))
	if m, err := s.Recv(); m.GetError().GetCode() != "RUNNER_UNAVAILABLE" {
		t.Errorf("%v %v", m, err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("then %v", err)
	}
	w.fakes["r1"].Unreachable(false)
}

// TestExecWaitsForTheStart: an exec on a sandbox that is still being made waits for it.
func TestExecWaitsForTheStart(t *testing.T) {
	w := newWorld(t)
	w.fakes["r1"].Hold()
	started := w.call(w.user, http.MethodPost, "/v1beta2/sandboxes", object{"command": "sleep", "args": []string{"infinity"}}).want(http.StatusOK)
	id := started.text("sandboxId")
	conn := w.dial(w.addr, w.user)
	s := w.exec(t.Context(), conn, initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"echo", "hi"}}))
	unary := make(chan error, 1)
	go func() {
		got, err := w.gateway().Exec(t.Context(), &v1beta2pb.ExecSandboxRequest{SandboxId: id, Command: []string{"echo", "hi"}})
		if err == nil && string(got.GetResult().GetStdout()) != "hi\n" {
			err = errors.New("wrong output")
		}
		unary <- err
	}()
	// One that has no time to wait says so, and the others still wait.
	_, err := w.gateway().Exec(t.Context(), &v1beta2pb.ExecSandboxRequest{SandboxId: id, Command: []string{"true"}, MaxTimeoutSeconds: 1})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("without time: %v", err)
	}
	select {
	case err := <-unary:
		t.Fatalf("the exec did not wait: %v", err)
	default:
	}
	w.fakes["r1"].Release()
	w.ready(s)
	if out, _, last, err := w.rest(s); out != "hi\n" || last.GetExit() == nil || !errors.Is(err, io.EOF) {
		t.Errorf("%q %v %v", out, last, err)
	}
	w.must(<-unary)
}

// TestShutdownEndsStreams: when the time of a shutdown is up, a stream says so in its last message.
func TestShutdownEndsStreams(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	for _, addr := range []string{w.addr, w.native} {
		conn := w.dial(addr, w.user)
		defer conn.Close()
		s := w.exec(t.Context(), conn, initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"sleep", "infinity"}}))
		w.ready(s)
		defer func() {
			if _, _, last, err := w.rest(s); last.GetError().GetCode() != "RUNNER_DRAINING" || !errors.Is(err, io.EOF) {
				t.Errorf("%v %v", last, err)
			}
		}()
	}
	w.call("", http.MethodGet, "/readyz", nil).want(http.StatusOK)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.srv.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
}
