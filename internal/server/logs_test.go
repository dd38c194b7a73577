package server_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	bermv1rpc "github.com/bermhq/berm/gen/berm/v1rpc"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/core"
)

type logStream = grpc.BidiStreamingClient[v1beta2pb.LogStreamRequest, v1beta2pb.LogStreamResponse]

// prints launches a sandbox whose main process is a script. It may not have printed anything yet.
func (w *world) prints(script string) string {
	w.Helper()
	started, err := w.gateway().Start(w.ctx(), &v1beta2pb.StartSandboxRequest{Command: "sh", Args: []string{"-c", script}})
	w.must(err)
	return started.GetSandboxId()
}

func (w *world) logs(token string, init *v1beta2pb.LogStreamInit) logStream {
	w.Helper()
	s, err := v1beta2rpc.NewGatewayStreamingServiceClient(w.dial(w.addr, token)).StreamLogs(w.ctx())
	w.must(err)
	w.must(s.Send(&v1beta2pb.LogStreamRequest{Request: &v1beta2pb.LogStreamRequest_Init{Init: init}}))
	return s
}

// logged is what a stream of logs gave.
type logged struct {
	text, session string
	offset        uint64
	complete      bool
	failed        *v1beta2pb.LogStreamError
	err           error
}

func (w *world) readLogs(init *v1beta2pb.LogStreamInit) (l logged) {
	w.Helper()
	s := w.logs(w.user, init)
	for {
		m, err := s.Recv()
		if err != nil {
			l.err = err
			return l
		}
		if l.complete || l.failed != nil {
			w.Errorf("%v came after the last message", m)
		}
		l.complete, l.failed = m.GetComplete() != nil, m.GetError()
		d := m.GetData()
		if d == nil {
			continue
		}
		if d.GetTimestamp() == nil || d.GetSessionId() == "" {
			w.Errorf("no time or session: %v", d)
		}
		if stamped := init.GetTimestamps() || strings.HasSuffix(init.GetResumeSessionId(), ".t"); !stamped && l.offset > 0 && d.GetOffset() != l.offset+uint64(len(d.GetData())) {
			w.Errorf("offset %d after %d and %d bytes", d.GetOffset(), l.offset, len(d.GetData()))
		}
		l.text, l.session, l.offset = l.text+string(d.GetData()), d.GetSessionId(), d.GetOffset()
	}
}

func TestStreamLogs(t *testing.T) {
	w := newWorld(t)
	const script, printed = "echo one; echo two >&2; echo -n thr; echo ee", "one\ntwo\nthree\n"
	id := w.prints(script)
	t.Run("everything, with follow without complete", func(t *testing.T) {
		for _, follow := range []bool{true, false} { // To follow it first is to wait for its end.
			l := w.readLogs(&v1beta2pb.LogStreamInit{SandboxId: id, Follow: follow})
			if l.text != printed || l.complete == follow || l.failed != nil || !errors.Is(l.err, io.EOF) || l.offset != uint64(len(printed)) {
				t.Errorf("follow %t: %+v", follow, l)
			}
		}
	})
	t.Run("tail and since", func(t *testing.T) {
		if l := w.readLogs(&v1beta2pb.LogStreamInit{SandboxId: id, TailLines: 2}); l.text != "two\nthree\n" || l.offset != uint64(len(printed)) {
			t.Errorf("%+v", l)
		}
		if l := w.readLogs(&v1beta2pb.LogStreamInit{SandboxId: id, SinceTime: timestamppb.New(time.Now().Add(time.Hour))}); l.text != "" || !l.complete {
			t.Errorf("%+v", l)
		}
	})
	t.Run("timestamps, also of a stream that is resumed anywhere", func(t *testing.T) {
		whole := w.readLogs(&v1beta2pb.LogStreamInit{SandboxId: id, Timestamps: true})
		lines := strings.SplitAfter(whole.text, "\n")
		for i, want := range []string{"one\n", "two\n", "three\n"} {
			stamp, text, _ := strings.Cut(lines[i], " ")
			if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || text != want {
				t.Errorf("line %q: %v", lines[i], err)
			}
		}
		for at := range len(printed) + 1 {
			init := &v1beta2pb.LogStreamInit{SandboxId: id, Follow: true, Timestamps: at%2 == 0, ResumeSessionId: whole.session, ResumeOffset: uint64(at)}
			l := w.readLogs(init)
			bare := strings.Count(l.text, "T") // Every stamp has one, and nothing that was printed.
			if want := strings.Count(printed[at:], "\n"); at > 0 && printed[at-1] != '\n' && want != bare+1 || (at == 0 || printed[at-1] == '\n') && want != bare {
				t.Errorf("resumed at %d: %q", at, l.text)
			}
			if !strings.HasSuffix(l.text, printed[max(at, len(printed)-2):]) || l.failed != nil {
				t.Errorf("resumed at %d: %+v", at, l)
			}
		}
	})
	t.Run("resumed", func(t *testing.T) {
		whole := w.readLogs(&v1beta2pb.LogStreamInit{SandboxId: id})
		for at := range len(printed) + 1 {
			l := w.readLogs(&v1beta2pb.LogStreamInit{SandboxId: id, Follow: true, ResumeSessionId: whole.session, ResumeOffset: uint64(at)})
			if l.text != printed[at:] || l.failed != nil {
				t.Errorf("at %d: %+v", at, l)
			}
		}
	})
	t.Run("what cannot be resumed is told in the stream", func(t *testing.T) {
		whole := w.readLogs(&v1beta2pb.LogStreamInit{SandboxId: id})
		for code, init := range map[string]*v1beta2pb.LogStreamInit{
			"SESSION_NOT_FOUND":     {SandboxId: id, Follow: true, ResumeSessionId: "unknown"},
			"INVALID_RESUME_OFFSET": {SandboxId: id, Follow: true, ResumeSessionId: whole.session, ResumeOffset: 1 << 63},
			"SANDBOX_NOT_FOUND":     {SandboxId: "unknown"},
		} {
			if l := w.readLogs(init); l.failed.GetCode() != code || l.text != "" || !errors.Is(l.err, io.EOF) {
				t.Errorf("%s: %+v", code, l)
			}
		}
	})
	t.Run("requests that make no sense", func(t *testing.T) {
		for field, init := range map[string]*v1beta2pb.LogStreamInit{
			"init.tail_lines":        {SandboxId: id, TailLines: -1},
			"init.resume_offset":     {SandboxId: id, ResumeOffset: 3},
			"init.resume_session_id": {SandboxId: id, ResumeSessionId: "x"},
			"init.timestamps":        {SandboxId: id, Follow: true, ResumeSessionId: "x", Timestamps: true},
			"init.since_time":        {SandboxId: id, SinceTime: &timestamppb.Timestamp{Nanos: -1}},
		} {
			if l := w.readLogs(init); status.Code(l.err) != codes.InvalidArgument || !strings.Contains(l.err.Error(), field) {
				t.Errorf("%s: %+v", field, l)
			}
		}
		s, err := v1beta2rpc.NewGatewayStreamingServiceClient(w.dial(w.addr, w.user)).StreamLogs(w.ctx())
		w.must(err)
		w.must(s.Send(&v1beta2pb.LogStreamRequest{}))
		if _, err := s.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("no init: %v", err)
		}
	})
	t.Run("of another organization it is missing", func(t *testing.T) {
		s := w.logs(w.newOrg("other"), &v1beta2pb.LogStreamInit{SandboxId: id})
		if m, err := s.Recv(); m.GetError().GetCode() != "SANDBOX_NOT_FOUND" {
			t.Errorf("%v %v", m, err)
		}
	})
}

// TestStreamLogsWhileItIsPrinted: output comes when it is printed; close ends the stream and not the sandbox; an end that nobody
// saw is no clean one.
func TestStreamLogsWhileItIsPrinted(t *testing.T) {
	w := newWorld(t)
	id := w.prints("echo first; sleep infinity")
	s := w.logs(w.user, &v1beta2pb.LogStreamInit{SandboxId: id, Follow: true})
	if m, err := s.Recv(); string(m.GetData().GetData()) != "first\n" {
		t.Fatalf("%v %v", m, err)
	}
	w.must(s.Send(&v1beta2pb.LogStreamRequest{Request: &v1beta2pb.LogStreamRequest_Close{Close: &v1beta2pb.LogStreamClose{}}}))
	if m, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after close: %v %v", m, err)
	}
	s = w.logs(w.user, &v1beta2pb.LogStreamInit{SandboxId: id, Follow: true})
	w.must(s.CloseSend()) // says nothing
	if m, err := s.Recv(); string(m.GetData().GetData()) != "first\n" {
		t.Fatalf("%v %v", m, err)
	}
	w.fakes["r1"].Fail(id, core.EndLost, "gone")
	if m, err := s.Recv(); m.GetError().GetCode() != "STREAM_TRUNCATED" {
		t.Errorf("an end that nobody saw: %v %v", m, err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the error: %v", err)
	}
}

// TestOwnStreamLogs: the two streams apart, over berm.v1.
func TestOwnStreamLogs(t *testing.T) {
	w := newWorld(t)
	id := w.prints("echo out; echo err >&2; echo more")
	read := func(token string, r *bermv1.StreamLogsRequest) (out, errs, session string, err error) {
		s, err := bermv1rpc.NewLogServiceClient(w.dial(w.addr, token)).StreamLogs(w.ctx(), r)
		w.must(err)
		for {
			m, err := s.Recv()
			if err != nil {
				return out, errs, session, err
			}
			o := m.GetOutput()
			session = o.GetSession()
			if o.GetStream() == bermv1.LogOutput_STREAM_STDERR {
				errs += string(o.GetData())
			} else {
				out += string(o.GetData())
			}
		}
	}
	none := int64(0)
	out, errs, session, err := read(w.user, &bermv1.StreamLogsRequest{SandboxId: id, Follow: true})
	if out != "out\nmore\n" || errs != "err\n" || !errors.Is(err, io.EOF) {
		t.Errorf("%q %q %v", out, errs, err)
	}
	if out, errs, _, err := read(w.user, &bermv1.StreamLogsRequest{SandboxId: id, TailLines: &none}); out+errs != "" || !errors.Is(err, io.EOF) {
		t.Errorf("no lines: %q %q %v", out, errs, err)
	}
	if out, errs, _, err := read(w.user, &bermv1.StreamLogsRequest{SandboxId: id, Session: session, Offset: 4}); out+errs != "more\nerr\n" || !errors.Is(err, io.EOF) {
		t.Errorf("resumed: %q %q %v", out, errs, err)
	}
	for want, r := range map[codes.Code]*bermv1.StreamLogsRequest{
		codes.NotFound:        {SandboxId: "unknown"},
		codes.InvalidArgument: {SandboxId: id, Session: session, TailLines: &none},
	} {
		if _, _, _, err := read(w.user, r); status.Code(err) != want {
			t.Errorf("%v: %v", r, err)
		}
	}
	if _, _, _, err := read(w.newOrg("other"), &bermv1.StreamLogsRequest{SandboxId: id}); status.Code(err) != codes.NotFound {
		t.Errorf("another organization: %v", err)
	}
}

// TestShutdownEndsLogs: when the time of a shutdown is up, a stream of logs says so in its last message.
func TestShutdownEndsLogs(t *testing.T) {
	w := newWorld(t)
	id := w.prints("echo first; sleep infinity")
	defer w.fakes["r1"].Exit(id, 0)
	s := w.logs(w.user, &v1beta2pb.LogStreamInit{SandboxId: id, Follow: true})
	own, err := bermv1rpc.NewLogServiceClient(w.dial(w.addr, w.user)).StreamLogs(w.ctx(), &bermv1.StreamLogsRequest{SandboxId: id, Follow: true})
	w.must(err)
	for _, recv := range []func() error{func() error { _, err := s.Recv(); return err }, func() error { _, err := own.Recv(); return err }} {
		w.must(recv())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = w.srv.Shutdown(ctx)
	if m, err := s.Recv(); m.GetError().GetCode() != "RUNNER_DRAINING" {
		t.Errorf("%v %v", m, err)
	}
	if _, err := own.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}
