package server_test

import (
	"context"
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
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
)

// both calls f for each of the listeners, on a connection of its own.
func (w *world) both(f func(where string, conn *grpc.ClientConn)) {
	w.Helper()
	f("shared", w.dial(w.addr, w.user))
	f("native", w.dial(w.native, w.user))
}

// lastOf sends messages, ends the client's side and returns how the call ended. The server may have ended it before it had all.
func lastOf[Req, Res any](s grpc.BidiStreamingClient[Req, Res], frames []*Req) (all []*Res, err error) {
	for _, f := range frames {
		if s.Send(f) != nil {
			break
		}
	}
	_ = s.CloseSend()
	for {
		m, err := s.Recv()
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
}

// TestFramesOfLogs: what does not belong where it came ends a stream of logs, as the caller's mistake.
func TestFramesOfLogs(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	init := &v1beta2pb.LogStreamRequest{Request: &v1beta2pb.LogStreamRequest_Init{Init: &v1beta2pb.LogStreamInit{SandboxId: id, Follow: true}}}
	end := &v1beta2pb.LogStreamRequest{Request: &v1beta2pb.LogStreamRequest_Close{Close: &v1beta2pb.LogStreamClose{}}}
	w.both(func(where string, conn *grpc.ClientConn) {
		for name, c := range map[string]struct {
			frames []*v1beta2pb.LogStreamRequest
			says   string
		}{
			"nothing":             {nil, "before its first message"},
			"an end before init":  {[]*v1beta2pb.LogStreamRequest{end, init}, "not init"},
			"an empty message":    {[]*v1beta2pb.LogStreamRequest{{}}, "not init"},
			"init twice":          {[]*v1beta2pb.LogStreamRequest{init, init}, "only close may follow"},
			"an empty one behind": {[]*v1beta2pb.LogStreamRequest{init, {}}, "only close may follow"},
		} {
			s, err := v1beta2rpc.NewGatewayStreamingServiceClient(conn).StreamLogs(w.ctx())
			w.must(err)
			got, err := lastOf(s, c.frames)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.says) || len(got) > 0 {
				t.Errorf("%s, %s: %v %v", where, name, got, err)
			}
		}
	})
}

// TestFramesOfAttachments: what does not belong where it came ends the attachment, as the caller's mistake. The command goes on, and none of
// it reached it.
func TestFramesOfAttachments(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	made, err := w.execs(w.user).CreateExec(w.ctx(), &bermv1.CreateExecRequest{SandboxId: id, ExecId: "mine", Command: []string{"cat"}, Stdin: true})
	w.must(err)
	type frame = bermv1.AttachExecRequest
	first := func(stdin bool) *frame {
		return &frame{Request: &bermv1.AttachExecRequest_Init{Init: &bermv1.AttachExecInit{SandboxId: id, ExecId: made.GetExecId(), Follow: true, Stdin: stdin}}}
	}
	bytes := func(n int) *frame { return &frame{Request: &bermv1.AttachExecRequest_Stdin{Stdin: make([]byte, n)}} }
	end := &frame{Request: &bermv1.AttachExecRequest_CloseStdin{CloseStdin: true}}
	w.both(func(where string, conn *grpc.ClientConn) {
		for name, c := range map[string]struct {
			frames []*frame
			says   string
		}{
			"nothing":               {nil, "before its first message"},
			"input before init":     {[]*frame{bytes(1), first(true)}, "not init"},
			"an end before init":    {[]*frame{end, first(true)}, "not init"},
			"init twice":            {[]*frame{first(true), first(true)}, "init may come once"},
			"an empty one behind":   {[]*frame{first(true), {}}, "nothing that this server knows"},
			"a piece too large":     {[]*frame{first(true), bytes(100 << 20)}, "the limit is"},
			"input without asking":  {[]*frame{first(false), bytes(1)}, "did not ask for stdin"},
			"an end without asking": {[]*frame{first(false), end}, "did not ask for stdin"},
		} {
			s, err := bermv1rpc.NewExecServiceClient(conn).AttachExec(w.ctx())
			w.must(err)
			got, err := lastOf(s, c.frames)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %s: %v", where, name, err)
			}
			for _, m := range got {
				if m.GetEnd() != nil || m.GetOutput() != nil {
					t.Errorf("%s, %s: %v", where, name, m)
				}
			}
		}
	})
	still, err := w.execs(w.user).GetExec(w.ctx(), &bermv1.GetExecRequest{SandboxId: id, ExecId: "mine"})
	if err != nil || still.GetState() != bermv1.Exec_STATE_RUNNING || still.GetStdinOffset() != 0 || still.GetStdinClosed() {
		t.Errorf("%v %v", still, err)
	}
	w.must(second(w.execs(w.user).DeleteExec(w.ctx(), &bermv1.DeleteExecRequest{SandboxId: id, ExecId: "mine"})))
}

// TestHalfClosedEarly: a client that says no more has said all: an upload that is not whole is refused and leaves what was there, and
// what it only listens to goes on.
func TestHalfClosedEarly(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	w.must(w.writeFile(w.user, id, "/tmp/f", 0, "before"))
	w.both(func(where string, conn *grpc.ClientConn) {
		files := bermv1rpc.NewFileServiceClient(conn)
		up, err := files.WriteFile(w.ctx())
		w.must(err)
		_, err = up.CloseAndRecv()
		wantStatus(t, err, codes.InvalidArgument, "before its first message")
		up, err = files.WriteFile(w.ctx())
		w.must(err)
		w.must(up.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: &bermv1.WriteFileInit{
			SandboxId: id, Path: "/tmp/f", Resumable: &bermv1.ResumableWrite{Size: 10},
		}}}))
		w.must(up.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Data{Data: []byte("after")}}))
		_, err = up.CloseAndRecv()
		wantStatus(t, err, codes.InvalidArgument, "than it was to have")
		archive, err := files.WriteArchive(w.ctx())
		w.must(err)
		w.must(archive.Send(&bermv1.WriteArchiveRequest{Request: &bermv1.WriteArchiveRequest_Init{Init: &bermv1.WriteArchiveInit{SandboxId: id, Path: "/tmp", Name: "tree"}}}))
		_, err = archive.CloseAndRecv()
		wantStatus(t, err, codes.InvalidArgument, "")
		w.call(w.user, "GET", "/v1beta2/sandboxes/"+id+"/files/%2Ftmp%2Ff", nil).want(200, "YmVmb3Jl")
		state, err := files.GetFileState(w.ctx(), &bermv1.GetFileStateRequest{SandboxId: id, Path: "/tmp/f"})
		if err != nil || state.GetPartialSize() != 0 || state.GetBusy() {
			t.Errorf("%s: %v %v", where, state, err)
		}
		// It ends the input of a command, and no more: what that prints afterwards comes, with its code.
		s := w.exec(w.ctx(), conn, initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"sh", "-c", "cat; echo late; exit 4"}}))
		w.must(s.CloseSend())
		out, _, last, err := w.rest2(s)
		if out != "late\n" || last.GetExit().GetExitCode() != 4 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %q %v %v", where, out, last, err)
		}
	})
}

// TestClientGone: who goes away in the middle of a unary call has its command killed; in the middle of an upload, leaves nothing of it.
func TestClientGone(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	w.must(w.writeFile(w.user, id, "/tmp/f", 0, "before"))
	w.both(func(where string, conn *grpc.ClientConn) {
		ctx, cancel := context.WithCancel(w.ctx())
		unary := make(chan error, 1)
		go func() {
			_, err := v1beta2rpc.NewGatewayServiceClient(conn).Exec(ctx, &v1beta2pb.ExecSandboxRequest{SandboxId: id, Command: []string{"sleep", "infinity"}})
			unary <- err
		}()
		w.idleProcesses(id, 1)
		cancel()
		if err := <-unary; status.Code(err) != codes.Canceled {
			t.Errorf("%s: %v", where, err)
		}
		w.idleProcesses(id, 0)

		ctx, cancel = context.WithCancel(w.ctx())
		files := bermv1rpc.NewFileServiceClient(conn)
		up, err := files.WriteFile(ctx)
		w.must(err)
		w.must(up.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: &bermv1.WriteFileInit{SandboxId: id, Path: "/tmp/f"}}}))
		archive, err := files.WriteArchive(ctx)
		w.must(err)
		w.must(archive.Send(&bermv1.WriteArchiveRequest{Request: &bermv1.WriteArchiveRequest_Init{Init: &bermv1.WriteArchiveInit{SandboxId: id, Path: "/tmp", Name: "tree"}}}))
		for range 100 {
			w.must(up.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Data{Data: make([]byte, 1000)}}))
		}
		cancel()
		_, err = up.CloseAndRecv()
		wantStatus(t, err, codes.Canceled, "")
		_, err = archive.CloseAndRecv()
		wantStatus(t, err, codes.Canceled, "")
		w.call(w.user, "GET", "/v1beta2/sandboxes/"+id+"/files/%2Ftmp%2Ff", nil).want(200, "YmVmb3Jl")
		w.call(w.user, "GET", "/v1beta2/sandboxes/"+id+"/files/%2Ftmp%2Ftree", nil).want(404)
	})
}
