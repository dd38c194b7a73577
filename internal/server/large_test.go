package server_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	bermv1rpc "github.com/bermhq/berm/gen/berm/v1rpc"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/server/port"
)

// allocated is what f allocates, with all that goes on beside it, in bytes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// plainHTTP2 is a client that speaks HTTP/2 without TLS, and can begin a message that it never ends.
func plainHTTP2(t *testing.T) *http.Client {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestAnnouncedMessages: a message that is announced as larger than the limit is refused at its first bytes, with the words by which
// published clients know, and costs no memory.
func TestAnnouncedMessages(t *testing.T) {
	w := newWorld(t)
	client := plainHTTP2(t)
	for where, addr := range map[string]string{"shared": w.addr, "native": w.native} {
		for _, method := range []string{
			"coreweave.sandbox.v1beta2.GatewayService/AddFile", "coreweave.sandbox.v1beta2.GatewayStreamingService/StreamExec", "berm.v1.FileService/WriteFile", "berm.v1.ExecService/AttachExec",
		} {
			for _, size := range []uint32{port.MaxMessage + 1, 1 << 31, 1<<32 - 1} {
				body, begun := io.Pipe()
				r, err := http.NewRequestWithContext(w.ctx(), http.MethodPost, "http://"+addr+"/"+method, body)
				w.must(err)
				r.Header.Set("Content-Type", "application/grpc")
				r.Header.Set("Te", "trailers")
				r.Header.Set("Authorization", "Bearer "+w.user)
				go func() {
					_, _ = begun.Write(append(binary.BigEndian.AppendUint32([]byte{0}, size), make([]byte, 100)...))
				}()
				var answer *http.Response
				taken := allocated(func() {
					if answer, err = client.Do(r); err == nil {
						_, _ = io.Copy(io.Discard, answer.Body)
						answer.Body.Close()
					}
				})
				w.must(err)
				_ = begun.Close()
				code, text := answer.Trailer.Get("Grpc-Status"), answer.Trailer.Get("Grpc-Message")
				if code == "" { // an answer without a message has its trailers in front
					code, text = answer.Header.Get("Grpc-Status"), answer.Header.Get("Grpc-Message")
				}
				if code != "8" || !strings.Contains(text, "larger than max") || taken > 16<<20 {
					t.Errorf("%s, %s with %d bytes: status %s %q, %d MiB allocated", where, method, size, code, text, taken>>20)
				}
			}
		}
	}
}

// TestAnnouncedBodies: the same of REST: what is announced is not waited for.
func TestAnnouncedBodies(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	for _, c := range []struct {
		path  string
		limit int64
	}{{"/v1beta2/sandboxes/" + id + "/files", port.DefaultMaxBody}, {"/v1beta2/sandbox/profile-templates", 1 << 20}} {
		for _, size := range []string{"104857600", "1099511627776"} {
			conn, err := net.Dial("tcp", w.addr)
			w.must(err)
			var answer string
			taken := allocated(func() {
				_, err = io.WriteString(conn, "POST "+c.path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer "+w.admin+"\r\nContent-Length: "+size+"\r\n\r\n{")
				w.must(err)
				all, err := io.ReadAll(conn) // what is left of the body would be taken for a request
				w.must(err)
				answer = string(all)
			})
			_ = conn.Close()
			if !strings.HasPrefix(answer, "HTTP/1.1 413 ") || !strings.Contains(answer, "LIMIT_EXCEEDED") || taken > 16<<20 {
				t.Errorf("%s of %s bytes: %d MiB allocated, %s", c.path, size, taken>>20, answer)
			}
		}
	}
}

// TestHundredMebibytes: what published clients may send is taken as a message; what is in it is as large as it may be, which is told with
// the number, and what may be as large is taken whole.
func TestHundredMebibytes(t *testing.T) {
	const size = 100 << 20
	w := newWorld(t)
	id := w.idle()
	w.both(func(where string, conn *grpc.ClientConn) {
		gateway, files := v1beta2rpc.NewGatewayServiceClient(conn), bermv1rpc.NewFileServiceClient(conn)
		_, err := gateway.AddFile(w.ctx(), &v1beta2pb.AddFileSandboxRequest{SandboxId: id, Filepath: "/tmp/big", FileContents: make([]byte, size)})
		if reasonOf(err) != "CWSANDBOX_FILE_TOO_LARGE" || metaOf(err)["size_bytes"] != "104857600" {
			t.Errorf("%s: AddFile: %v", where, err)
		}
		// In one message of a stream, and out of it in pieces.
		const file = backend.MaxUnaryFile
		up, err := files.WriteFile(w.ctx())
		w.must(err)
		w.must(up.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: &bermv1.WriteFileInit{SandboxId: id, Path: "/tmp/big"}}}))
		w.must(up.Send(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Data{Data: make([]byte, file)}}))
		w.must(second(up.CloseAndRecv()))
		down, err := files.ReadFile(w.ctx(), &bermv1.ReadFileRequest{SandboxId: id, Path: "/tmp/big"})
		w.must(err)
		got := 0
		for {
			m, err := down.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			w.must(err)
			got += len(m.GetData())
		}
		if got != file {
			t.Errorf("%s: %d bytes came back", where, got)
		}
		// As input of a command: all of it, in order, with one end.
		s := w.exec(w.ctx(), conn, initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"cat"}}))
		go func() {
			_ = s.Send(stdinFrame(strings.Repeat("x", size)))
			_ = s.CloseSend()
		}()
		w.ready(s)
		printed := 0
		for {
			m, err := s.Recv()
			w.must(err)
			if printed += len(m.GetOutput().GetData()); m.GetOutput() == nil {
				if m.GetExit() == nil || m.GetExit().GetExitCode() != 0 || printed != size {
					t.Errorf("%s: %d bytes, %v", where, printed, m)
				}
				break
			}
		}
		if m, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: behind the end: %v %v", where, m, err)
		}
	})
}

// TestMessageInTheMiddleTooLarge: one that is larger than the limit, behind others, ends the stream with that, and the command with it.
func TestMessageInTheMiddleTooLarge(t *testing.T) {
	w := newWorld(t)
	id := w.idle()
	w.both(func(where string, conn *grpc.ClientConn) {
		ctx, cancel := context.WithCancel(w.ctx())
		defer cancel()
		s := w.exec(ctx, conn, initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"sleep", "infinity"}}))
		w.ready(s)
		big, err := v1beta2rpc.NewGatewayStreamingServiceClient(conn).StreamExec(ctx, grpc.MaxCallSendMsgSize(1<<30))
		w.must(err)
		w.must(big.Send(initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"sleep", "infinity"}})))
		w.ready(big)
		_ = big.Send(stdinFrame(strings.Repeat("x", port.MaxMessage)))
		_, _, last, err := w.rest(big)
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "received message larger than max") || last.GetExit() != nil || last.GetError() != nil {
			t.Errorf("%s: %v %v", where, last, err)
		}
		w.idleProcesses(id, 1) // the other one
		cancel()
		w.idleProcesses(id, 0)
	})
}
