package server_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"

	"google.golang.org/grpc"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	bermv1rpc "github.com/bermhq/berm/gen/berm/v1rpc"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
)

// unreadBound is how much memory may be taken, in bytes, by streams that nobody reads, client and server together.
const unreadBound = 64 << 20

// heap is what is in use once all is collected that can be.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// TestNobodyReads: streams of every kind whose clients never read take bounded memory, and hold up nobody else on their connection. What
// they were for is still there afterwards, or what is missing is told.
func TestNobodyReads(t *testing.T) {
	const size, each = 200 << 20, 4
	w := newWorld(t)
	id := w.idle()
	loud := w.prints("head -c 209715200 /dev/zero; echo the end; sleep infinity")
	w.both(func(where string, conn *grpc.ClientConn) {
		ctx, cancel := context.WithCancel(w.ctx())
		defer cancel()
		before := heap()
		var attached attachStream
		for range each {
			w.ready(w.exec(ctx, conn, initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"head", "-c", "209715200", "/dev/zero"}})))
			logs, err := v1beta2rpc.NewGatewayStreamingServiceClient(conn).StreamLogs(ctx)
			w.must(err)
			w.must(logs.Send(&v1beta2pb.LogStreamRequest{Request: &v1beta2pb.LogStreamRequest_Init{Init: &v1beta2pb.LogStreamInit{SandboxId: loud, Follow: true}}}))
			_, err = bermv1rpc.NewLogServiceClient(conn).StreamLogs(ctx, &bermv1.StreamLogsRequest{SandboxId: loud, Follow: true})
			w.must(err)
			made, err := bermv1rpc.NewExecServiceClient(conn).CreateExec(ctx, &bermv1.CreateExecRequest{SandboxId: id, Command: []string{"head", "-c", "209715200", "/dev/zero"}})
			w.must(err)
			attached, err = bermv1rpc.NewExecServiceClient(conn).AttachExec(ctx)
			w.must(err)
			init := &bermv1.AttachExecInit{SandboxId: id, ExecId: made.GetExecId(), Follow: true}
			w.must(attached.Send(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_Init{Init: init}}))
		}
		// Another stream, on the same connection, is not held up, however long they are not read.
		for range 20 {
			out, _, last, err := w.rest(w.readied(w.ctx(), conn, &v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"head", "-c", "1000000", "/dev/zero"}}))
			if len(out) != 1_000_000 || last.GetExit() == nil || !errors.Is(err, io.EOF) {
				t.Errorf("%s: %d bytes, %v %v", where, len(out), last, err)
			}
		}
		if taken := heap() - min(before, heap()); taken > unreadBound {
			t.Errorf("%s: %d MiB are taken by streams that nobody reads", where, taken>>20)
		}
		w.idleProcesses(id, 2*each)
		// Read at last, nothing of it is missing.
		if n, end, err := readAttached(attached); n != size || end.ExitCode == nil || end.GetExitCode() != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %d bytes, %v %v", where, n, end, err)
		}
		// Who goes away ends what it alone was for, and nothing that is kept.
		cancel()
		w.idleProcesses(id, each-1)
		all, err := w.execs(w.user).ListExecs(w.ctx(), &bermv1.ListExecsRequest{SandboxId: id})
		w.must(err)
		for _, x := range all.GetExecs() {
			w.must(second(w.execs(w.user).DeleteExec(w.ctx(), &bermv1.DeleteExecRequest{SandboxId: id, ExecId: x.GetExecId()})))
		}
		w.idleProcesses(id, 0)
	})
	w.fakes["r1"].Exit(loud, 0)
}

// readAttached reads a command to its end, and counts what comes without a gap.
func readAttached(s attachStream) (n int64, end *bermv1.Exec, err error) {
	for {
		m, err := s.Recv()
		if err != nil {
			return n, end, err
		}
		if end = m.GetEnd(); end != nil {
			continue
		}
		if o := m.GetOutput(); o != nil && o.GetOffset() == n {
			n += int64(len(o.GetData()))
			_ = s.Send(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_Received{Received: n}}) // Recv says why not
		}
	}
}
