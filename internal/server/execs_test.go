package server_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
)

type attachStream = grpc.BidiStreamingClient[bermv1.AttachExecRequest, bermv1.AttachExecResponse]

func (w *world) execs(token string) bermv1rpc.ExecServiceClient {
	w.Helper()
	return bermv1rpc.NewExecServiceClient(w.dial(w.addr, token))
}

// attach joins a command and returns how it stood.
func (w *world) attach(token string, init *bermv1.AttachExecInit) (attachStream, *bermv1.Exec, error) {
	w.Helper()
	s, err := w.execs(token).AttachExec(w.ctx())
	w.must(err)
	w.must(s.Send(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_Init{Init: init}}))
	m, err := s.Recv()
	return s, m.GetAttached(), err
}

// collected is what came of a command.
func collected(s attachStream) (out string, gaps int64, end *bermv1.Exec, err error) {
	for {
		m, err := s.Recv()
		if err != nil {
			return out, gaps, end, err
		}
		switch r := m.GetResponse().(type) {
		case *bermv1.AttachExecResponse_Output:
			out += string(r.Output.GetData())
			_ = s.Send(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_Received{Received: r.Output.GetOffset() + int64(len(r.Output.GetData()))}})
		case *bermv1.AttachExecResponse_Gap:
			gaps += r.Gap.GetBytes()
		case *bermv1.AttachExecResponse_End:
			end = r.End
		}
	}
}

// TestKeptExecs: a command that is started, left, written to, read again from the middle and ended.
func TestKeptExecs(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	x := w.execs(w.user)
	made, err := x.CreateExec(w.ctx(), &bermv1.CreateExecRequest{SandboxId: id, Command: []string{"cat"}, Stdin: true})
	w.must(err)
	if made.GetState() != bermv1.Exec_STATE_RUNNING || made.ExitCode != nil || made.GetExecId() == "" || made.GetOutputLimit() != 512<<10 {
		t.Fatalf("%v", made)
	}
	name := made.GetExecId()
	s, _, err := w.attach(w.user, &bermv1.AttachExecInit{SandboxId: id, ExecId: name, Follow: true, Stdin: true})
	w.must(err)
	w.must(s.Send(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_Stdin{Stdin: []byte("one\n")}}))
	for {
		m, err := s.Recv()
		w.must(err)
		if o := m.GetOutput(); o != nil {
			if string(o.GetData()) != "one\n" || o.GetOffset() != 0 || o.GetTime() == nil {
				t.Fatalf("%v", o)
			}
			break
		}
	}
	w.must(s.CloseSend()) // It ends nothing.

	// Sent twice, typed once.
	for range 2 {
		got, err := x.WriteExecStdin(w.ctx(), &bermv1.WriteExecStdinRequest{SandboxId: id, ExecId: name, Offset: new(int64(4)), Data: []byte("two\n")})
		w.must(err)
		if got.GetStdinOffset() != 8 || got.GetStdinTaken() != 8 {
			t.Errorf("%v", got)
		}
	}
	_, err = x.WriteExecStdin(w.ctx(), &bermv1.WriteExecStdinRequest{SandboxId: id, ExecId: name, Offset: new(int64(9))})
	wantStatus(t, err, codes.InvalidArgument, "9 was never reached")
	_, err = x.WriteExecStdin(w.ctx(), &bermv1.WriteExecStdinRequest{SandboxId: id, ExecId: name, Data: []byte("three\n"), Close: true})
	w.must(err)

	again, at, err := w.attach(w.user, &bermv1.AttachExecInit{SandboxId: id, ExecId: name, Offset: 2, Follow: true})
	w.must(err)
	if at.GetStdinOffset() != 14 {
		t.Errorf("%v", at)
	}
	out, gaps, end, err := collected(again)
	if out != "e\ntwo\nthree\n" || gaps != 0 || end.GetExitCode() != 0 || end.ExitCode == nil || !end.GetOutputComplete() || end.GetEndOffset() != 14 || !errors.Is(err, io.EOF) {
		t.Errorf("%q, %d missing, %v, %v", out, gaps, end, err)
	}
	_, err = x.SignalExec(w.ctx(), &bermv1.SignalExecRequest{SandboxId: id, ExecId: name, Signal: 15})
	wantStatus(t, err, codes.FailedPrecondition, "has ended")
}

func wantStatus(t *testing.T, err error, code codes.Code, part string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), part) {
		t.Errorf("%v, want %v with %q", err, code, part)
	}
}

// TestKeptExecsOverREST: the whole of it without streams.
func TestKeptExecsOverREST(t *testing.T) {
	w := newWorld(t)
	at := "/berm/v1/sandboxes/" + w.idle() + "/execs"
	body := object{"exec_id": "job-1", "command": []string{"sh", "-c", "echo out; echo err >&2; exit 3"}, "overflow": "OVERFLOW_DROP_OLDEST"}
	made := w.call(w.user, "POST", at, body)
	if made.status != 200 || made.text("execId") != "job-1" {
		t.Fatalf("%d %s", made.status, made.raw)
	}
	if again := w.call(w.user, "POST", at, body); again.text("createdAt") != made.text("createdAt") {
		t.Errorf("%s", again.raw)
	}
	text, next := "", "0"
	for range 10 {
		read := w.call(w.user, "GET", at+"/job-1/output?wait=10s&offset="+next, nil)
		if read.status != 200 {
			t.Fatalf("%d %s", read.status, read.raw)
		}
		pieces, _ := read.at("pieces").([]any)
		for _, p := range pieces {
			data, err := base64.StdEncoding.DecodeString(p.(map[string]any)["output"].(map[string]any)["data"].(string)) //nolint:forcetypeassert // a failure either way
			w.must(err)
			text += string(data)
		}
		next = read.text("nextOffset")
		if read.at("exec", "outputComplete") == true && read.text("exec", "endOffset") == next {
			if fmt.Sprint(read.at("exec", "exitCode")) != "3" {
				t.Errorf("%s", read.raw)
			}
			break
		}
	}
	if text != "out\nerr\n" {
		t.Errorf("%q up to %s", text, next)
	}
	for path, want := range map[string]int{"/job-1/output?offset=9": 400, "/job-1/output?offset=-1": 400, "/job-1/output?wait=2m": 400, "/none": 404, "/No%20Name": 404, "": 200, "/job-1": 200} {
		if got := w.call(w.user, "GET", at+path, nil); got.status != want {
			t.Errorf("GET %s: %d %s", path, got.status, got.raw)
		}
	}
	for _, bad := range []object{
		{"command": []string{}}, {"command": []string{"true"}, "exec_id": "No"}, {"command": []string{"true"}, "output_limit": 5}, {"command": []string{"true"}, "timeout": "-5s"},
		{"command": []string{"true"}, "tty_rows": 70000}, {"command": []string{"true"}, "overflow": "SOMEHOW"}, {"command": []string{"true"}, "no_such": 1},
	} {
		if got := w.call(w.user, "POST", at, bad); got.status != 400 {
			t.Errorf("%v: %d %s", bad, got.status, got.raw)
		}
	}
	if got := w.call(w.user, "DELETE", at+"/job-1", nil); got.status != 200 {
		t.Errorf("%d %s", got.status, got.raw)
	}
	if got := w.call(w.user, "POST", at, body); got.status != 409 {
		t.Errorf("a name was used again: %d %s", got.status, got.raw)
	}
}

// TestKeptExecsAreOnesOwn: commands of another organization are as missing as its sandboxes.
func TestKeptExecsAreOnesOwn(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	w.must(second(w.execs(w.user).CreateExec(w.ctx(), &bermv1.CreateExecRequest{SandboxId: id, ExecId: "mine", Command: []string{"sleep", "infinity"}, Stdin: true})))
	other := w.newOrg("other")
	x := w.execs(other)
	_, _, attached := w.attach(other, &bermv1.AttachExecInit{SandboxId: id, ExecId: "mine"})
	for what, err := range map[string]error{
		"create": second(x.CreateExec(w.ctx(), &bermv1.CreateExecRequest{SandboxId: id, Command: []string{"true"}})),
		"get":    second(x.GetExec(w.ctx(), &bermv1.GetExecRequest{SandboxId: id, ExecId: "mine"})),
		"list":   second(x.ListExecs(w.ctx(), &bermv1.ListExecsRequest{SandboxId: id})),
		"read":   second(x.ReadExec(w.ctx(), &bermv1.ReadExecRequest{SandboxId: id, ExecId: "mine"})),
		"write":  second(x.WriteExecStdin(w.ctx(), &bermv1.WriteExecStdinRequest{SandboxId: id, ExecId: "mine", Data: []byte("x")})),
		"signal": second(x.SignalExec(w.ctx(), &bermv1.SignalExecRequest{SandboxId: id, ExecId: "mine", Signal: 9})),
		"resize": second(x.ResizeExec(w.ctx(), &bermv1.ResizeExecRequest{SandboxId: id, ExecId: "mine", Columns: 1, Rows: 1})),
		"delete": second(x.DeleteExec(w.ctx(), &bermv1.DeleteExecRequest{SandboxId: id, ExecId: "mine"})),
		"attach": attached,
	} {
		if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), id) {
			t.Errorf("%s: %v", what, err)
		}
	}
	still, err := w.execs(w.user).GetExec(w.ctx(), &bermv1.GetExecRequest{SandboxId: id, ExecId: "mine"})
	if err != nil || still.GetState() != bermv1.Exec_STATE_RUNNING || still.GetStdinOffset() != 0 {
		t.Errorf("%v %v", still, err)
	}
	w.must(second(w.execs(w.user).DeleteExec(w.ctx(), &bermv1.DeleteExecRequest{SandboxId: id, ExecId: "mine"})))
}
