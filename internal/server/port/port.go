// Package port serves REST and gRPC on one port, in plain text or TLS, over HTTP/1.1 and HTTP/2, and gRPC alone on a second,
// native listener for heavy clients. It knows nothing of what is served.
//
// A request whose content type is application/grpc goes to grpc.Server.ServeHTTP, anything else to REST. The limits that
// grpc-go does not apply on that way are those of net/http here: concurrent streams, pings, header sizes. Reading and writing
// have no overall timeout, since a stream may last for days; what is slow is bounded where it matters (see bounded.go).
package port

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/bermhq/berm/internal/server/edge"
)

// Limits of the port.
const (
	// MaxMessage is the largest gRPC message in either direction, in bytes. Published clients send up to 100 MiB.
	MaxMessage = 128 << 20
	// DefaultMaxBody is the largest REST body unless configured, in bytes: the largest file of a unary call as base64, and some.
	DefaultMaxBody = 48 << 20
	// MaxHeader bounds the headers of a request, in bytes.
	MaxHeader = 64 << 10
	// MaxStreams is the largest number of concurrent calls on one HTTP/2 connection.
	MaxStreams = 1000

	// HeaderTimeout is how long a client may take to send the headers of a request, and to finish a TLS handshake.
	HeaderTimeout = 10 * time.Second
	// IdleTimeout is how long a connection without a request stays.
	IdleTimeout = 2 * time.Minute
	// BodyTimeout is how long a REST body may take to arrive, and a REST answer to be taken.
	BodyTimeout = 10 * time.Minute
	// RefusedBodyTimeout is how long the rest of a body may take that belongs to a call answered with an error already.
	RefusedBodyTimeout = 2 * time.Second
	// PingAfter is how long an HTTP/2 connection may be silent before it is pinged; PingTimeout is how long the answer may take.
	PingAfter   = 15 * time.Second
	PingTimeout = 5 * time.Second
	// MinPing is how often a client of the native listener may ping. The clients do every 10 to 30 s.
	MinPing = 10 * time.Second
	// DrainGrace is how long streams have to say why they end when the time of a shutdown is up.
	DrainGrace = 2 * time.Second
)

// Config is what a Port serves.
type Config struct {
	// Chain answers calls of gRPC methods that do not exist.
	Chain *edge.Chain
	// Register registers the services through the chain. It is called once per gRPC server.
	Register func(grpc.ServiceRegistrar)
	// REST serves everything that is not gRPC, through the chain but for what needs no token.
	REST http.Handler
	// Streams, when not nil, has requests that go neither to REST nor to gRPC, and that may last long.
	Streams Streams
	// TLS, when not nil, encrypts both listeners.
	TLS    *tls.Config
	Logger *slog.Logger
	// MaxBody bounds REST bodies, in bytes; 0 means DefaultMaxBody.
	MaxBody int64
	// MaxConnections bounds the connections of both listeners together; 0 means DefaultMaxConnections.
	MaxConnections int
}

// Streams serves some of the requests, by their host or path.
type Streams interface {
	http.Handler
	// Takes reports whether a request is one of them.
	Takes(r *http.Request) bool
}

// Port serves one configuration. Its methods are safe for concurrent use.
type Port struct {
	cfg Config
	// shared is behind net/http, native has its own listener. They are two servers because only the second can stop gracefully.
	shared, native *grpc.Server
	http           *http.Server
	crowd          *crowd
	draining       atomic.Bool
	drain          <-chan struct{}
	onDrain        func(func()) func() bool
	startDrain     func()
}

// New returns a port that does not listen yet.
func New(cfg Config) *Port {
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.MaxConnections <= 0 {
		cfg.MaxConnections = DefaultMaxConnections
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Port{
		crowd: newCrowd(cfg.MaxConnections, cfg.TLS == nil, cfg.Logger),
		cfg:   cfg, drain: ctx.Done(), startDrain: cancel,
		onDrain: func(f func()) func() bool { return context.AfterFunc(ctx, f) },
	}
	p.shared = p.grpcServer()
	native := []grpc.ServerOption{
		grpc.MaxConcurrentStreams(MaxStreams), grpc.MaxHeaderListSize(MaxHeader), grpc.ConnectionTimeout(HeaderTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: PingAfter, Timeout: PingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: MinPing, PermitWithoutStream: true}),
	}
	if cfg.TLS != nil {
		native = append(native, grpc.Creds(credentials.NewTLS(cfg.TLS.Clone())))
	}
	p.native = p.grpcServer(native...)
	p.http = p.httpServer()
	return p
}

func (p *Port) grpcServer(more ...grpc.ServerOption) *grpc.Server {
	s := grpc.NewServer(append(more,
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage), grpc.ForceServerCodecV2(edge.Codec()),
		grpc.UnknownServiceHandler(p.cfg.Chain.Unknown))...)
	p.cfg.Register(s)
	return s
}

func (p *Port) httpServer() *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           p.Handler(),
		Protocols:         protocols,
		TLSConfig:         p.cfg.TLS.Clone(),
		ReadHeaderTimeout: HeaderTimeout,
		IdleTimeout:       IdleTimeout,
		MaxHeaderBytes:    MaxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: MaxStreams, SendPingTimeout: PingAfter, PingTimeout: PingTimeout},
		ErrorLog:          slog.NewLogLogger(p.cfg.Logger.Handler(), slog.LevelDebug),
	}
}

// Handler returns what the shared port serves.
func (p *Port) Handler() http.Handler {
	rest := bounded(p.cfg.REST, p.cfg.MaxBody)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.cfg.Streams != nil && p.cfg.Streams.Takes(r) {
			streamed(p.cfg.Streams, w, r)
			return
		}
		if r.ProtoMajor == 2 && IsGRPC(r) {
			p.shared.ServeHTTP(w, edge.Gate(r))
			return
		}
		rest.ServeHTTP(w, r)
	})
}

// IsGRPC reports whether a request has the content type of gRPC, which gRPC-Web's is not.
func IsGRPC(r *http.Request) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(r.Header.Get("Content-Type")), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// Serve serves the shared port until Shutdown, and returns nil then.
func (p *Port) Serve(l net.Listener) error {
	var err error
	l = p.crowd.bound(l)
	if p.cfg.TLS != nil {
		err = p.http.ServeTLS(l, "", "")
	} else {
		err = p.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// ServeGRPC serves gRPC alone until Shutdown, and returns nil then.
func (p *Port) ServeGRPC(l net.Listener) error {
	err := p.native.Serve(p.crowd.bound(l))
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// Draining reports whether Shutdown began.
func (p *Port) Draining() bool { return p.draining.Load() }

// Drain is closed when the time of a shutdown is up: streams that would go on end now, and say why.
func (p *Port) Drain() <-chan struct{} { return p.drain }

// OnDrain calls f in a goroutine of its own once Drain is closed, unless the function returned was called first.
func (p *Port) OnDrain(f func()) (stop func() bool) { return p.onDrain(f) }

// Shutdown refuses new connections and calls and waits for those in flight until ctx ends. Then it closes Drain, waits
// DrainGrace at most, and cuts what is left. It returns nil when nothing had to be cut short, else the error of ctx.
func (p *Port) Shutdown(ctx context.Context) error {
	p.draining.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.http.Shutdown(context.WithoutCancel(ctx)) // its own error is that of a context, which this one never has
		p.native.GracefulStop()
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		p.startDrain()
		grace := time.NewTimer(DrainGrace)
		select {
		case <-done:
		case <-grace.C:
		}
		grace.Stop()
	}
	_ = p.http.Close()
	p.native.Stop()
	// Last: the server behind net/http has no graceful stop, it ends its calls at once.
	p.shared.Stop()
	<-done
	p.crowd.running.Wait()
	p.startDrain() // releases what waits for it
	return err
}
