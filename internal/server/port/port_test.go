package port_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/port"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stub is a service small enough to see the transport through it.
type stub struct {
	v1beta2rpc.UnimplementedGatewayServiceServer
	v1beta2rpc.UnimplementedGatewayStreamingServiceServer
	// hold, when not nil, makes streams wait before they read on.
	hold chan struct{}
	// ended receives how each stream ended.
	ended chan error
	drain func() <-chan struct{}
	// began, when not nil, receives when a stream got its first message.
	began chan struct{}
}

func (s *stub) AddFile(_ context.Context, r *v1beta2pb.AddFileSandboxRequest) (*v1beta2pb.AddFileSandboxResponse, error) {
	switch r.GetFilepath() {
	case "/panic":
		panic("boom")
	case "/internal":
		return nil, errors.New("the password is hunter2")
	}
	return &v1beta2pb.AddFileSandboxResponse{Success: true, ErrorMessage: r.GetFilepath()}, nil
}

func (s *stub) RetrieveFile(ctx context.Context, r *v1beta2pb.RetrieveFileSandboxRequest) (*v1beta2pb.RetrieveFileSandboxResponse, error) {
	if r.GetFilepath() == "/who" {
		return &v1beta2pb.RetrieveFileSandboxResponse{ErrorMessage: edge.Principal(ctx).Actor + " " + edge.RequestID(ctx)}, nil
	}
	return &v1beta2pb.RetrieveFileSandboxResponse{FileContents: make([]byte, r.GetMaxTimeoutSeconds()<<20)}, nil
}

func (s *stub) StreamExec(stream grpc.BidiStreamingServer[v1beta2pb.ExecStreamRequest, v1beta2pb.ExecStreamResponse]) error {
	err := s.streamExec(stream)
	if s.ended != nil {
		s.ended <- err
	}
	return err
}

func (s *stub) streamExec(stream grpc.BidiStreamingServer[v1beta2pb.ExecStreamRequest, v1beta2pb.ExecStreamResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetInit().GetTty() {
		panic("boom")
	}
	if s.began != nil {
		s.began <- struct{}{}
	}
	if s.drain != nil {
		select {
		case <-s.drain():
			return stream.Send(&v1beta2pb.ExecStreamResponse{Response: &v1beta2pb.ExecStreamResponse_Error{Error: &v1beta2pb.ExecStreamError{Code: "DRAINED"}}})
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
	if s.hold != nil {
		<-s.hold
	}
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

type fixture struct {
	port     *port.Port
	stub     *stub
	url      string
	addr     string
	nativeAt string
	roots    *x509.CertPool
}

// start serves a stub on loopback; encrypted with the certificate of httptest when secure.
func start(t *testing.T, secure bool, change ...func(*port.Config)) *fixture {
	t.Helper()
	f := build(t, secure, change...)
	f.addr = serve(t, listen(t), f.port.Serve)
	f.nativeAt = serve(t, listen(t), f.port.ServeGRPC)
	f.url = map[bool]string{false: "http://", true: "https://"}[secure] + f.addr
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = f.port.Shutdown(ctx)
	})
	return f
}

// build makes a port that does not listen yet.
func build(t *testing.T, secure bool, change ...func(*port.Config)) *fixture {
	t.Helper()
	f := &fixture{stub: &stub{}}
	cfg := port.Config{Logger: slog.New(slog.DiscardHandler), MaxBody: 1 << 20}
	for _, c := range change {
		c(&cfg)
	}
	chain := edge.New(edge.Config{
		Logger: cfg.Logger, Now: time.Now, NewID: func() string { return "id-1" },
		Authenticate: func(_ context.Context, secret string) (core.Principal, error) {
			if secret != "good" {
				return core.Principal{}, fault.New(fault.Unauthenticated, fault.ReasonTokenInvalid, "the token is not known")
			}
			return core.Principal{OrgID: "o", Actor: "token:t", Role: core.RoleAdmin}, nil
		},
	})
	cfg.Chain = chain
	cfg.Register = func(r grpc.ServiceRegistrar) {
		chain.Register(r, &v1beta2rpc.GatewayService_ServiceDesc, f.stub)
		chain.Register(r, &v1beta2rpc.GatewayStreamingService_ServiceDesc, f.stub)
	}
	cfg.REST = chain.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("boom")
		case "/late":
			_, _ = io.WriteString(w, strings.Repeat("x", 8<<10))
			panic("boom")
		}
		n, err := io.Copy(io.Discard, r.Body)
		if over, ok := errors.AsType[*http.MaxBytesError](err); ok {
			http.Error(w, over.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		_, _ = io.WriteString(w, r.Proto+" "+edge.Principal(r.Context()).Actor+" "+strings.Repeat("b", int(n)))
	}))
	if secure {
		borrowed := httptest.NewTLSServer(nil)
		cfg.TLS = &tls.Config{Certificates: borrowed.TLS.Certificates, MinVersion: tls.VersionTLS12}
		f.roots = x509.NewCertPool()
		f.roots.AddCert(borrowed.Certificate())
		borrowed.Close()
	}
	f.port = port.New(cfg)
	return f
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func serve(t *testing.T, l net.Listener, with func(net.Listener) error) string {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- with(l) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

// dial connects with gRPC; good adds a token that is accepted to every call.
func (f *fixture) dial(t *testing.T, addr, token string, more ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	creds := insecure.NewCredentials()
	if f.roots != nil {
		creds = credentials.NewTLS(&tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12})
	}
	add := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	conn, err := grpc.NewClient(addr, append(more, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20), grpc.MaxCallSendMsgSize(256<<20)),
		grpc.WithUnaryInterceptor(func(ctx context.Context, m string, q, a any, cc *grpc.ClientConn, i grpc.UnaryInvoker, o ...grpc.CallOption) error {
			return i(add(ctx), m, q, a, cc, o...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string, s grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			return s(add(ctx), d, cc, m, o...)
		}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// client speaks HTTP/1.1 or HTTP/2, with prior knowledge in plain text.
func (f *fixture) client(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: &http.Protocols{}, TLSClientConfig: &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12}}
	tr.Protocols.SetHTTP1(!http2)
	if f.roots != nil {
		tr.Protocols.SetHTTP2(http2)
	} else {
		tr.Protocols.SetUnencryptedHTTP2(http2)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (f *fixture) get(t *testing.T, http2 bool, path, token, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := f.client(t, http2).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Logf("reading the answer: %v", err)
	}
	return resp, string(text)
}

func TestOnePort(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			f := start(t, secure)
			for http2, proto := range map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"} {
				if _, body := f.get(t, http2, "/", "good", "b"); body != proto+" token:t b" {
					t.Errorf("REST answered %q over %s", body, proto)
				}
			}
			for where, addr := range map[string]string{"shared": f.addr, "native": f.nativeAt} {
				client := v1beta2rpc.NewGatewayServiceClient(f.dial(t, addr, "good"))
				var header metadata.MD
				got, err := client.RetrieveFile(t.Context(), &v1beta2pb.RetrieveFileSandboxRequest{Filepath: "/who"}, grpc.Header(&header))
				if err != nil || got.GetErrorMessage() != "token:t id-1" {
					t.Errorf("%s: got %v, %v", where, got, err)
				}
				if id := header.Get("x-request-id"); len(id) != 1 || id[0] != "id-1" {
					t.Errorf("%s: request id %v", where, id)
				}
			}
		})
	}
}

func TestWithoutAToken(t *testing.T) {
	f := start(t, false)
	resp, body := f.get(t, false, "/", "", "")
	if resp.StatusCode != 401 || !strings.Contains(body, `"code":16`) || resp.Header.Get("WWW-Authenticate") != "Bearer" || resp.Header.Get("x-request-id") != "id-1" {
		t.Errorf("got %d %s %v", resp.StatusCode, body, resp.Header)
	}
	for _, addr := range []string{f.addr, f.nativeAt} {
		conn := f.dial(t, addr, "bad")
		_, err := v1beta2rpc.NewGatewayServiceClient(conn).AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{})
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("unary: %v", err)
		}
		stream, err := v1beta2rpc.NewGatewayStreamingServiceClient(conn).StreamExec(t.Context())
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("stream: %v", err)
		}
		if err := conn.Invoke(t.Context(), "/no.such.Service/Method", &v1beta2pb.GetSandboxRequest{}, &v1beta2pb.GetSandboxResponse{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("a method that does not exist: %v", err)
		}
	}
}

func TestPanicsEndTheCallAlone(t *testing.T) {
	f := start(t, false)
	for _, addr := range []string{f.addr, f.nativeAt} {
		conn := f.dial(t, addr, "good")
		client := v1beta2rpc.NewGatewayServiceClient(conn)
		for _, path := range []string{"/panic", "/internal"} {
			_, err := client.AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{Filepath: path})
			if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "id-1") {
				t.Errorf("%s: %v", path, err)
			}
		}
		stream, err := v1beta2rpc.NewGatewayStreamingServiceClient(conn).StreamExec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Init{Init: &v1beta2pb.ExecStreamInit{Tty: true}}})
		if _, err := stream.Recv(); status.Code(err) != codes.Internal {
			t.Errorf("stream: %v", err)
		}
		if _, err := client.AddFile(t.Context(), &v1beta2pb.AddFileSandboxRequest{}); err != nil {
			t.Errorf("after the panics: %v", err)
		}
	}
	if resp, body := f.get(t, false, "/panic", "good", ""); resp.StatusCode != 500 || !strings.Contains(body, "id-1") {
		t.Errorf("REST: %d %s", resp.StatusCode, body)
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+"/late", nil)
	r.Header.Set("Authorization", "Bearer good")
	resp, err := f.client(t, false).Do(r)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("half an answer was taken for a whole one")
	}
}

func TestUnknownMethod(t *testing.T) {
	f := start(t, false)
	err := f.dial(t, f.addr, "good").Invoke(t.Context(), "/no.such.Service/Method", &v1beta2pb.GetSandboxRequest{}, &v1beta2pb.GetSandboxResponse{})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "/no.such.Service/Method") {
		t.Error(err)
	}
}
