package port_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/server/port"
)

// TestLargeMessages sends what the clients may, and more.
func TestLargeMessages(t *testing.T) {
	f := start(t, false)
	for where, addr := range map[string]string{"shared": f.addr, "native": f.nativeAt} {
		client := v1beta2rpc.NewGatewayServiceClient(f.dial(t, addr, "good"))
		if _, err := client.AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{FileContents: make([]byte, 100<<20)}); err != nil {
			t.Errorf("%s: 100 MiB up: %v", where, err)
		}
		got, err := client.RetrieveFile(t.Context(), &v1beta2pb.RetrieveFileSandboxRequest{MaxTimeoutSeconds: 100})
		if err != nil || len(got.GetFileContents()) != 100<<20 {
			t.Errorf("%s: 100 MiB down: %v", where, err)
		}
		// The words are those by which published clients know that a file has to be streamed.
		_, err = client.AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{FileContents: make([]byte, port.MaxMessage)})
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "message") || !strings.Contains(err.Error(), "larger than max") {
			t.Errorf("%s: over the limit: %v", where, err)
		}
		if _, err := client.AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{}); err != nil {
			t.Errorf("%s: after that: %v", where, err)
		}
	}
	if resp, _ := f.get(t, false, "/", "good", strings.Repeat("x", 1<<20+1)); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a REST body over the limit: %d", resp.StatusCode)
	}
}

func TestOversizedMetadata(t *testing.T) {
	f := start(t, false)
	big := metadata.AppendToOutgoingContext(t.Context(), "x-big", strings.Repeat("x", 2*port.MaxHeader))
	for where, addr := range map[string]string{"shared": f.addr, "native": f.nativeAt} {
		client := v1beta2rpc.NewGatewayServiceClient(f.dial(t, addr, "good"))
		if _, err := client.AddFile(big, &v1beta2pb.AddFileSandboxRequest{}); err == nil {
			t.Errorf("%s took %d bytes of metadata", where, 2*port.MaxHeader)
		}
		if _, err := client.AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{}); err != nil {
			t.Errorf("%s: after that: %v", where, err)
		}
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url, nil)
	r.Header.Set("X-Big", strings.Repeat("x", 2*port.MaxHeader))
	resp, err := f.client(t, false).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("REST: %d", resp.StatusCode)
	}
}

// TestStdinReachesNoBuffer proves flow control: while a handler does not read, only what the HTTP/2 windows hold is taken from
// the client, whatever grpc-go's own reader would do. In a bubble, "nothing moves any more" is a state and not a guess.
func TestStdinReachesNoBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, false)
		f.stub.hold, f.stub.ended = make(chan struct{}), make(chan error, 1)
		l := bufconn.Listen(64 << 10)
		serve(t, l, f.port.Serve)
		conn := f.dial(t, "passthrough:///bubble", "good", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return l.DialContext(ctx)
		}))
		const frames, size = 64, 1 << 20
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := v1beta2rpc.NewGatewayStreamingServiceClient(conn).StreamExec(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Init{Init: &v1beta2pb.ExecStreamInit{}}}); err != nil {
			t.Fatal(err)
		}
		var taken atomic.Int64
		go func() {
			for range frames {
				if stream.Send(&v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Stdin{Stdin: &v1beta2pb.ExecStreamData{Data: make([]byte, size)}}}) != nil {
					return
				}
				taken.Add(1)
			}
			_ = stream.CloseSend()
		}()
		synctest.Wait()
		if got := taken.Load(); got > 8 {
			t.Errorf("%d MiB were taken although nothing read them", got)
		}
		close(f.stub.hold)
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) || taken.Load() != frames {
			t.Errorf("after reading on: %d frames, %v", taken.Load(), err)
		}
		if err := <-f.stub.ended; err != nil {
			t.Error(err)
		}
		conn.Close()
		if err := f.port.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestNothingIsReadWithoutAToken sends a large message whose sender is not known.
func TestNothingIsReadWithoutAToken(t *testing.T) {
	f := start(t, false)
	client := v1beta2rpc.NewGatewayServiceClient(f.dial(t, f.addr, "bad"))
	for range 4 {
		_, err := client.AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{FileContents: make([]byte, 64<<20)})
		if status.Code(err) != codes.Unauthenticated {
			t.Fatal(err)
		}
	}
}

func TestCanceledStreamsEnd(t *testing.T) {
	f := start(t, false)
	f.stub.ended = make(chan error, 1)
	for where, addr := range map[string]string{"shared": f.addr, "native": f.nativeAt} {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := v1beta2rpc.NewGatewayStreamingServiceClient(f.dial(t, addr, "good")).StreamExec(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Init{Init: &v1beta2pb.ExecStreamInit{}}})
		cancel()
		if err := <-f.stub.ended; err == nil {
			t.Errorf("%s: the stream ended as if nothing had happened", where)
		}
	}
}

// TestHTTPServerTimeouts are the settings that slow clients run into; a test of the effect would take as long as they do.
func TestHTTPServerTimeouts(t *testing.T) {
	f := start(t, false)
	s := port.HTTPServer(f.port)
	if s.ReadTimeout != 0 || s.WriteTimeout != 0 {
		t.Error("an overall timeout would cut streams")
	}
	if s.ReadHeaderTimeout != port.HeaderTimeout || s.IdleTimeout != port.IdleTimeout || s.MaxHeaderBytes != port.MaxHeader {
		t.Errorf("headers %v, idle %v, header bytes %d", s.ReadHeaderTimeout, s.IdleTimeout, s.MaxHeaderBytes)
	}
	if h := s.HTTP2; h.MaxConcurrentStreams != port.MaxStreams || h.SendPingTimeout != port.PingAfter || h.PingTimeout != port.PingTimeout {
		t.Errorf("HTTP/2: %+v", h)
	}
}

func TestShutdown(t *testing.T) {
	for _, where := range []string{"shared", "native"} {
		t.Run(where, func(t *testing.T) {
			f := start(t, false)
			f.stub.drain, f.stub.began = f.port.Drain, make(chan struct{}, 1)
			addr := map[string]string{"shared": f.addr, "native": f.nativeAt}[where]
			stream, err := v1beta2rpc.NewGatewayStreamingServiceClient(f.dial(t, addr, "good")).StreamExec(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_ = stream.Send(&v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Init{Init: &v1beta2pb.ExecStreamInit{}}})
			<-f.stub.began
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- f.port.Shutdown(ctx) }()
			cancel() // the time is up at once: the stream is told
			got, err := stream.Recv()
			if err != nil || got.GetError().GetCode() != "DRAINED" {
				t.Errorf("the stream got %v, %v", got, err)
			}
			if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("then %v", err)
			}
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("shutdown: %v", err)
			}
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				t.Error("still listening")
			}
		})
	}
}

// TestAnErrorDoesNotWaitForTheBody: a caller without a token gets the answer although the body never comes, and the connection ends.
func TestAnErrorDoesNotWaitForTheBody(t *testing.T) {
	f := start(t, false)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bad\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 401 ") || !strings.Contains(string(answer), "Connection: close\r\n") {
		t.Errorf("%q, %v", answer, err)
	}
}
