// Package remote is the gateway's end of a line: a runner.Link over the two connections that a runner opened. It believes nothing that
// cannot be: sizes, phases, times and the ends of streams are checked, and what is too long is cut. Whose sandboxes a runner may
// speak of is not known here; internal/control checks that.
package remote

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	linkv1rpc "github.com/bermhq/berm/gen/berm/link/v1rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/link"
	"github.com/bermhq/berm/internal/runner"
)

// Config is what a Link is made with.
type Config struct {
	// RunnerID is the name in messages.
	RunnerID string
	// Software is the version of the runner's program, for one that does not say it itself.
	Software string
	Logger   *slog.Logger
	// Heartbeat and Silence are link.Heartbeat and link.Silence where they are 0.
	Heartbeat, Silence time.Duration
	Now                func() time.Time
}

// Link is a runner in another process. It works until Done.
type Link struct {
	cfg           Config
	conns         [2]*grpc.ClientConn
	control, bulk linkv1rpc.LinkServiceClient
	session       linkv1rpc.LinkService_SessionClient
	checks        *checks

	told       backend.Told
	owner      *resolve.Input
	images     bool
	pools      atomic.Pointer[[]backend.PoolStatus]
	deployment atomic.Pointer[rollout.State]
	// heard is when the runner last gave a sign of life, with its monotonic reading: the clock may be set meanwhile.
	heard atomic.Pointer[time.Time]
	kept  chan struct{}
	// renewed has the credential that another server gave the runner.
	renewed chan string
	pongs   chan struct{}

	sending sync.Mutex // orders what is sent in the session

	end   context.CancelCauseFunc
	ended <-chan struct{}
	cause func() error
	group sync.WaitGroup
}

var _ runner.Link = (*Link)(nil)

// New opens the session with a runner and returns once it has said what it is, within ctx and link.HelloTimeout. It takes the connections
// over also when it fails.
func New(ctx context.Context, cfg Config, control, bulk net.Conn) (*Link, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = link.Heartbeat
	}
	if cfg.Silence <= 0 {
		cfg.Silence = link.Silence
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	l := &Link{
		cfg: cfg, checks: newChecks(), kept: make(chan struct{}, 1), renewed: make(chan string, 1), pongs: make(chan struct{}, 1),
		end: end, ended: life.Done(), cause: func() error { return context.Cause(life) },
	}
	if err := l.open(ctx, life, control, bulk); err != nil {
		l.Close(err)
		_, _ = control.Close(), bulk.Close() // those that grpc has not taken
		return nil, err
	}
	return l, nil
}

func (l *Link) open(ctx, life context.Context, control, bulk net.Conn) error {
	for i, c := range []net.Conn{control, bulk} {
		in, out := link.MaxReport, link.MaxControl
		if c == bulk {
			in, out = link.MaxBulk, link.MaxBulk
		}
		var err error
		if l.conns[i], err = l.client(c, in, out); err != nil {
			return fault.Internalf(err, "make a client of a connection")
		}
	}
	l.control, l.bulk = linkv1rpc.NewLinkServiceClient(l.conns[0]), linkv1rpc.NewLinkServiceClient(l.conns[1])
	l.conns[1].Connect()
	l.hear()
	hello := time.AfterFunc(link.HelloTimeout, func() {
		l.end(fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "runner %s did not say what it is within %s", l.cfg.RunnerID, link.HelloTimeout))
	})
	defer hello.Stop()
	defer context.AfterFunc(ctx, func() { l.end(context.Cause(ctx)) })()
	var err error
	if l.session, err = l.control.Session(life); err != nil {
		return l.failed(life, err)
	}
	first, err := l.session.Recv()
	if err != nil {
		return l.failed(life, err)
	}
	if err := l.hello(first.GetHello()); err != nil {
		return err
	}
	l.group.Go(func() { l.listen(life) })
	l.group.Go(func() { l.beat(life) })
	return nil
}

// failed says why a call of the session failed: the end of the link explains more than what it did to the call.
func (l *Link) failed(life context.Context, err error) error {
	if cause := l.cause(); cause != nil {
		return cause
	}
	return link.FromStatus(life, l.cfg.RunnerID, err)
}

// client makes a gRPC client of one connection. It never makes another.
func (l *Link) client(c net.Conn, in, out int) (*grpc.ClientConn, error) {
	one := make(chan net.Conn, 1)
	one <- &watched{Conn: c, over: func() { l.end(link.Broken(l.cfg.RunnerID, nil)) }}
	return grpc.NewClient("passthrough:///runner",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the connection is encrypted already, or was meant not to be
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-one:
				return c, nil
			default:
				return nil, net.ErrClosed
			}
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(in), grpc.MaxCallSendMsgSize(out)),
		grpc.WithMaxHeaderListSize(link.MaxHeaders), grpc.WithIdleTimeout(0), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
		grpc.WithInitialWindowSize(link.Window), grpc.WithInitialConnWindowSize(link.ConnWindow),
		grpc.WithWriteBufferSize(2*link.Chunk), grpc.WithReadBufferSize(2*link.Chunk),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: l.cfg.Silence, Timeout: l.cfg.Silence, PermitWithoutStream: true}),
	)
}

func (l *Link) hello(m *linkv1.Hello) error {
	if m == nil {
		return link.Lied(l.cfg.RunnerID, "it did not begin by saying what it is")
	}
	l.images = m.GetImages()
	l.setDeployment(m.GetDeployment())
	if err := l.take(m.GetInfo()); err != nil {
		return err
	}
	if g := m.GetGuardrails(); g != nil {
		owner, err := link.LayerOf(g)
		if err != nil {
			return link.Lied(l.cfg.RunnerID, "its guardrails cannot be read: %v", err)
		}
		owner.Origin = resolve.Origin{Layer: resolve.LayerZone, Object: "owner of runner " + l.cfg.RunnerID}
		l.owner = &owner
	}
	return nil
}

// take keeps what the runner says that it can do.
func (l *Link) take(m *linkv1.Info) error {
	info := link.InfoOf(m)
	if a := info.Capacity; min(a.CPUMillis, a.MemoryBytes, a.GPUs, a.Sandboxes) < 0 {
		return link.Lied(l.cfg.RunnerID, "a capacity is negative")
	}
	l.told.Tell(info)
	return nil
}

// listen takes in what the runner says.
func (l *Link) listen(life context.Context) {
	for {
		m, err := l.session.Recv()
		if err != nil {
			l.end(link.Broken(l.cfg.RunnerID, l.failed(life, err)))
			return
		}
		l.hear()
		switch k := m.GetKind().(type) {
		case *linkv1.FromRunner_Pong:
			l.setPools(k.Pong.GetPools())
			l.setDeployment(k.Pong.GetDeployment())
			signal(l.pongs)
		case *linkv1.FromRunner_Kept:
			signal(l.kept)
		case *linkv1.FromRunner_Renewed:
			select {
			case <-l.renewed: // an older one
			default:
			}
			l.renewed <- k.Renewed.GetSecret() // nobody else puts one there
		case *linkv1.FromRunner_Info:
			if err := l.take(k.Info); err != nil {
				l.end(err)
				return
			}
			l.checks.forget() // What passed may not any more.
		}
	}
}

func (l *Link) setPools(list []*linkv1.PoolStatus) {
	pools := link.PoolStatusesOf(list)
	l.pools.Store(&pools)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// beat asks for signs of life, and ends the link when there are none.
func (l *Link) beat(life context.Context) {
	tick := time.NewTicker(l.cfg.Heartbeat)
	defer tick.Stop()
	for n := int64(1); ; n++ {
		// A Send waits when the connection takes nothing: the ticker must not wait with it.
		l.group.Go(func() {
			_ = l.send(&linkv1.FromGateway{Kind: &linkv1.FromGateway_Ping{Ping: &linkv1.Ping{Sequence: n}}})
		})
		select {
		case <-life.Done():
			return
		case <-tick.C:
		}
		if quiet := l.cfg.Now().Sub(l.Heard()); quiet > l.cfg.Silence {
			l.end(fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "runner %s gave no sign of life for %s", l.cfg.RunnerID, quiet.Round(time.Millisecond)))
			return
		}
	}
}

func (l *Link) send(m *linkv1.FromGateway) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	return l.session.Send(m)
}

// Heard returns when the runner last gave a sign of life.
func (l *Link) Heard() time.Time { return *l.heard.Load() }

func (l *Link) hear() {
	now := l.cfg.Now()
	l.heard.Store(&now)
}

// Alive asks for a sign of life and reports whether one came before ctx ended.
func (l *Link) Alive(ctx context.Context) bool {
	select {
	case <-l.pongs: // an old one
	default:
	}
	go func() { _ = l.send(&linkv1.FromGateway{Kind: &linkv1.FromGateway_Ping{Ping: &linkv1.Ping{}}}) }()
	select {
	case <-l.pongs:
		return true
	case <-l.ended:
	case <-ctx.Done():
	}
	return false
}

// Offer gives the runner a new credential and returns once it has stored it.
func (l *Link) Offer(ctx context.Context, secret string, expires time.Time) error {
	m := &linkv1.Credential{Secret: secret, ExpiresAt: link.Stamp(expires)}
	if err := l.send(&linkv1.FromGateway{Kind: &linkv1.FromGateway_Credential{Credential: m}}); err != nil {
		return link.Broken(l.cfg.RunnerID, err)
	}
	select {
	case <-l.kept:
		return nil
	case <-l.ended:
		return l.cause()
	case <-ctx.Done():
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "runner %s did not say that it stored its new credential", l.cfg.RunnerID).WithCause(ctx.Err())
	}
}

// Renewed yields the credential that the runner says it was given by another server.
func (l *Link) Renewed() <-chan string { return l.renewed }

// Servers tells the runner which servers are the gateway; self is this one.
func (l *Link) Servers(self string, all []link.Server) error {
	err := l.send(&linkv1.FromGateway{Kind: &linkv1.FromGateway_Servers{Servers: link.ServersMessage(self, all)}})
	if err != nil {
		return link.Broken(l.cfg.RunnerID, err)
	}
	return nil
}

// Goodbye tells the runner why the line is about to end, as far as that is possible at once.
func (l *Link) Goodbye(why error) {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_ = l.send(&linkv1.FromGateway{Kind: &linkv1.FromGateway_Goodbye{Goodbye: &linkv1.Goodbye{Why: link.FaultMessage(why)}}})
	}()
	wait := time.NewTimer(time.Second)
	defer wait.Stop()
	select {
	case <-sent:
		select { // the runner ends the connections once it has read it
		case <-l.ended:
		case <-wait.C:
		}
	case <-l.ended:
	case <-wait.C:
	}
}

// Done is closed when the line has ended; Cause says why.
func (l *Link) Done() <-chan struct{} { return l.ended }

// Cause is nil until Done.
func (l *Link) Cause() error { return l.cause() }

// Close ends the line and waits for what this Link began.
func (l *Link) Close(why error) {
	l.end(why)
	for _, c := range l.conns {
		if c != nil {
			_ = c.Close()
		}
	}
	l.group.Wait()
}

// watched is a connection that tells its end.
type watched struct {
	net.Conn
	once sync.Once
	over func()
}

func (w *watched) Close() error {
	err := w.Conn.Close()
	w.once.Do(w.over)
	return err
}
