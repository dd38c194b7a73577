// Package serve is the runner's end of a line: a gRPC server on the connections that the runner opened, over a runner.Link of this
// process. It does what the gateway asks; what may be asked is the Link's to decide, which verifies every assignment.
package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	linkv1rpc "github.com/bermhq/berm/gen/berm/link/v1rpc"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link"
	"github.com/bermhq/berm/internal/runner"
)

// Config is what a gateway is served with.
type Config struct {
	// Link is what it gets: the agent of this process.
	Link runner.Link
	// Keep stores a new credential safely before it returns. nil refuses.
	Keep func(secret string, expires time.Time) error
	// Servers, when not nil, is called with the servers that are the gateway, and the one that this line is to.
	Servers func(self string, all []link.Server)
	// Renewed, when not nil, returns the credential that the runner has, and what is closed when it has another.
	Renewed func() (secret string, changed <-chan struct{})
	// Up, when not nil, is called once the gateway has opened the session.
	Up     func()
	Logger *slog.Logger
	// Heartbeat and Silence are link.Heartbeat and link.Silence where they are 0.
	Heartbeat, Silence time.Duration
}

// Run serves a gateway on its two connections until one of them ends, the gateway says goodbye or is silent for too long, or ctx ends.
// It closes both and returns why. What the gateway had under way is ended.
func Run(ctx context.Context, cfg Config, control, bulk net.Conn) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = link.Heartbeat
	}
	if cfg.Silence <= 0 {
		cfg.Silence = link.Silence
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &server{cfg: cfg, end: cancel, heard: make(chan struct{}, 1), ended: ctx.Done()}
	var group sync.WaitGroup
	for _, c := range []net.Conn{control, bulk} {
		most := link.MaxControl
		if c == bulk {
			most = link.MaxBulk
		}
		one := newOneConn(c, func() {
			cancel(fault.New(fault.Unavailable, "GATEWAY_UNREACHABLE", "the connection to the gateway ended"))
		})
		g := grpc.NewServer(
			grpc.MaxRecvMsgSize(most), grpc.MaxSendMsgSize(most), grpc.MaxHeaderListSize(link.MaxHeaders), grpc.MaxConcurrentStreams(link.MaxCalls),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: cfg.Silence, Timeout: cfg.Silence}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
			grpc.InitialWindowSize(link.Window), grpc.InitialConnWindowSize(link.ConnWindow),
			grpc.WriteBufferSize(2*link.Chunk), grpc.ReadBufferSize(2*link.Chunk),
			grpc.UnaryInterceptor(unaryFaults), grpc.StreamInterceptor(streamFaults),
		)
		linkv1rpc.RegisterLinkServiceServer(g, s)
		group.Go(func() { _ = g.Serve(one) }) // it ends when the listener does, which says why
		stop := context.AfterFunc(ctx, func() {
			_ = c.Close() // First: Stop waits for a handshake that nobody may end.
			g.Stop()
		})
		defer stop()
	}
	s.watch(ctx)
	group.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// watch ends the line when the gateway is silent.
func (s *server) watch(ctx context.Context) {
	quiet := time.NewTimer(s.cfg.Silence + link.HelloTimeout) // the gateway first waits for both connections
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.heard:
			quiet.Reset(s.cfg.Silence)
		case <-quiet.C:
			s.end(fault.New(fault.Unavailable, "GATEWAY_UNREACHABLE", "the gateway gave no sign of life for %s", s.cfg.Silence))
		}
	}
}

// unaryFaults and streamFaults turn errors of the Link into what crosses the line.
func unaryFaults(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	out, err := next(ctx, req)
	return out, link.Status(err)
}

func streamFaults(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return link.Status(next(srv, ss))
}

// server implements the service.
type server struct {
	linkv1rpc.UnsafeLinkServiceServer
	cfg   Config
	end   context.CancelCauseFunc
	heard chan struct{}
	ended <-chan struct{}

	mu   sync.Mutex
	open bool
	// told is the highest revision of a deployment that was wanted over these connections.
	told int32
	// sending orders what is sent in the session.
	sending sync.Mutex
}

var _ linkv1rpc.LinkServiceServer = (*server)(nil)

// Session implements the service: signs of life, credentials, goodbyes.
func (s *server) Session(stream linkv1rpc.LinkService_SessionServer) error {
	s.mu.Lock()
	twice := s.open
	s.open = true
	s.mu.Unlock()
	if twice {
		return fault.New(fault.Exists, "SESSION_EXISTS", "these connections have a session already")
	}
	defer s.end(fault.New(fault.Unavailable, "GATEWAY_UNREACHABLE", "the gateway ended the session"))
	changed := s.cfg.Link.InfoChanged()
	_, renewed := s.cfg.renewed()
	if err := s.say(stream, s.hello()); err != nil {
		return err
	}
	if s.cfg.Up != nil {
		s.cfg.Up()
	}
	telling, stop := context.WithCancel(stream.Context())
	told := make(chan struct{})
	defer func() { stop(); <-told }()
	go func() {
		defer close(told)
		s.tell(telling, stream, changed, renewed)
	}()
	for {
		in, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case s.heard <- struct{}{}:
		default:
		}
		if err := s.take(stream, in); err != nil {
			return err
		}
	}
}

// say sends something in the session.
func (s *server) say(stream linkv1rpc.LinkService_SessionServer, m *linkv1.FromRunner) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	return stream.Send(m)
}

// renewed is Renewed, of a runner that has one line and nothing to tell of its credential.
func (c *Config) renewed() (string, <-chan struct{}) {
	if c.Renewed == nil {
		return "", nil
	}
	return c.Renewed()
}

// tell says what the runner can do whenever that changes, and which credential it has when another server replaced it.
func (s *server) tell(ctx context.Context, stream linkv1rpc.LinkService_SessionServer, changed, renewed <-chan struct{}) {
	for {
		var out *linkv1.FromRunner
		select {
		case <-changed:
			changed = s.cfg.Link.InfoChanged()
			info := s.cfg.Link.Info()
			out = &linkv1.FromRunner{Kind: &linkv1.FromRunner_Info{Info: link.InfoMessage(&info)}}
		case <-renewed:
			var secret string
			secret, renewed = s.cfg.renewed()
			out = &linkv1.FromRunner{Kind: &linkv1.FromRunner_Renewed{Renewed: &linkv1.Renewed{Secret: secret}}}
		case <-ctx.Done():
			return
		}
		if s.say(stream, out) != nil {
			return // The session ends, which tells who asks.
		}
	}
}

func (s *server) hello() *linkv1.FromRunner {
	info := s.cfg.Link.Info()
	hello := &linkv1.Hello{Info: link.InfoMessage(&info), Images: s.cfg.Link.Images() != nil, Deployment: s.deployment()}
	if owner := s.cfg.Link.Guardrails(); owner != nil {
		hello.Guardrails = link.LayerMessage(owner)
	}
	return &linkv1.FromRunner{Kind: &linkv1.FromRunner_Hello{Hello: hello}}
}

// take does what one message asks for. Kinds that a newer gateway may send are passed over.
func (s *server) take(stream linkv1rpc.LinkService_SessionServer, in *linkv1.FromGateway) error {
	switch k := in.GetKind().(type) {
	case *linkv1.FromGateway_Ping:
		pong := &linkv1.Pong{Sequence: k.Ping.GetSequence(), Pools: link.PoolStatusMessages(s.cfg.Link.Pools()), Deployment: s.deployment()}
		return s.say(stream, &linkv1.FromRunner{Kind: &linkv1.FromRunner_Pong{Pong: pong}})
	case *linkv1.FromGateway_Credential:
		if s.cfg.Keep == nil {
			return nil
		}
		if err := s.cfg.Keep(k.Credential.GetSecret(), link.Time(k.Credential.GetExpiresAt())); err != nil {
			s.cfg.Logger.Error("the new credential could not be stored; the old one stays in use", "error", err)
			return nil
		}
		return s.say(stream, &linkv1.FromRunner{Kind: &linkv1.FromRunner_Kept{Kept: &linkv1.Kept{}}})
	case *linkv1.FromGateway_Servers:
		if s.cfg.Servers != nil {
			s.cfg.Servers(link.ServersOf(k.Servers))
		}
	case *linkv1.FromGateway_Goodbye:
		s.end(link.FaultOf(k.Goodbye.GetWhy()))
	}
	return nil
}

// oneConn is a listener that yields one connection, and is open as long as that is.
type oneConn struct {
	conn chan net.Conn
	done chan struct{}
	once sync.Once
	over func()
	addr net.Addr
}

func newOneConn(c net.Conn, over func()) *oneConn {
	l := &oneConn{conn: make(chan net.Conn, 1), done: make(chan struct{}), over: over, addr: c.LocalAddr()}
	l.conn <- &watched{Conn: c, l: l}
	return l
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.over()
	})
	return nil
}

func (l *oneConn) Addr() net.Addr { return l.addr }

// watched is the connection; its end is the listener's.
type watched struct {
	net.Conn
	l *oneConn
}

func (w *watched) Close() error {
	err := w.Conn.Close()
	_ = w.l.Close()
	return err
}
