package server_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	bermv1rpc "github.com/bermhq/berm/gen/berm/v1rpc"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
)

type dialStream = grpc.BidiStreamingClient[bermv1.DialRequest, bermv1.DialResponse]

func (w *world) port(token, id string, port int32) dialStream {
	w.Helper()
	s, err := bermv1rpc.NewPortServiceClient(w.dial(w.addr, token)).Dial(w.ctx())
	w.must(err)
	w.must(s.Send(&bermv1.DialRequest{Request: &bermv1.DialRequest_Init{Init: &bermv1.DialInit{SandboxId: id, Port: port}}}))
	return s
}

// listening launches a sandbox that echoes at port 80 and counts at 81.
func (w *world) listening() string {
	w.Helper()
	started, err := w.gateway().Start(w.ctx(), &v1beta2pb.StartSandboxRequest{Command: "port-server", Args: []string{"echo", "127.0.0.1:80", "count", "127.0.0.1:81"}})
	w.must(err)
	id := started.GetSandboxId()
	// It listens once it said so.
	stream, err := bermv1rpc.NewLogServiceClient(w.dial(w.addr, w.user)).StreamLogs(w.ctx(), &bermv1.StreamLogsRequest{SandboxId: id, Follow: true})
	w.must(err)
	if _, err := stream.Recv(); err != nil {
		w.Fatal(err)
	}
	return id
}

// rest reads until the program's half ends.
func rest(s dialStream) (all []byte, err error) {
	for {
		m, err := s.Recv()
		if err != nil {
			return all, err
		}
		all = append(all, m.GetData()...)
		if m.GetEnd() {
			return all, nil
		}
	}
}

// TestDial: a connection to a port of a sandbox, each half of which ends by itself.
func TestDial(t *testing.T) {
	w := newWorld(t)
	id := w.listening()
	data := func(b []byte) *bermv1.DialRequest {
		return &bermv1.DialRequest{Request: &bermv1.DialRequest_Data{Data: b}}
	}
	end := &bermv1.DialRequest{Request: &bermv1.DialRequest_End{End: true}}
	for port, want := range map[int32]string{80: "hello, sandbox", 81: "14\n"} {
		s := w.port(w.user, id, port)
		if m, err := s.Recv(); err != nil || !m.GetAccepted() {
			t.Fatalf("%v, %v", m, err)
		}
		w.must(s.Send(data([]byte("hello, "))))
		w.must(s.Send(data([]byte("sandbox"))))
		w.must(s.Send(end))
		got, err := rest(s)
		if err != nil || !bytes.Equal(got, []byte(want)) {
			t.Errorf("port %d: %q, %v; want %q", port, got, err, want)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("after both halves: %v", err)
		}
	}
	fails := func(name string, s dialStream, code codes.Code, says string) {
		t.Helper()
		if _, err := rest(s); status.Code(err) != code || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fails("nothing listens", w.port(w.user, id, 82), codes.FailedPrecondition, "nothing listens on port 82")
	fails("no port", w.port(w.user, id, 0), codes.InvalidArgument, "")
	fails("a port beyond", w.port(w.user, id, 65536), codes.InvalidArgument, "")
	fails("no sandbox", w.port(w.user, "00000000-0000-0000-0000-000000000000", 80), codes.NotFound, "")
	fails("another organization's", w.port(w.newOrg("other"), id, 80), codes.NotFound, "")
	fails("no token", w.port("nobody", id, 80), codes.Unauthenticated, "")
	s := w.port(w.user, id, 80)
	w.must(s.Send(&bermv1.DialRequest{Request: &bermv1.DialRequest_Init{Init: &bermv1.DialInit{SandboxId: id, Port: 81}}}))
	fails("a second init", s, codes.InvalidArgument, "")
	s = w.port(w.user, id, 80)
	w.must(s.Send(data(make([]byte, 64<<10+1))))
	fails("a large piece", s, codes.InvalidArgument, "")
	s, err := bermv1rpc.NewPortServiceClient(w.dial(w.addr, w.user)).Dial(w.ctx())
	w.must(err)
	w.must(s.Send(end))
	fails("no init", s, codes.InvalidArgument, "")

	// What is open when the sandbox ends was cut.
	s = w.port(w.user, id, 80)
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.gateway().Stop(w.ctx(), &v1beta2pb.StopSandboxRequest{SandboxId: id}); err != nil {
		t.Fatal(err)
	}
	if got, err := rest(s); err == nil {
		t.Errorf("a connection of a sandbox that ended has an end in order, after %q", got)
	}
}
