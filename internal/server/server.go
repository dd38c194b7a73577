// Package server is the edge in: bytes become use cases of internal/control. One sub-package per front (controlplane,
// dataplane, bermv1), port for the listeners, edge for what every call passes, wire for errors, rest for what REST shares.
//
//	/v1beta2/sandbox/…   controlplane: profile templates, managed runners; hand-written REST
//	/v1beta2/…           dataplane: sandboxes, discovery; grpc-gateway
//	/berm/v1/zones…      bermv1: zones; hand-written REST
//	/berm/v1/…           bermv1: the rest; grpc-gateway
//	/berm/link/…         where runners connect; package link/hub
//	/metrics             Prometheus, for operators
//	/openapi.json        package openapi: what all of it looks like, without a token
//	/readyz, /livez      without a token
//
// The same services over gRPC are on the same port.
package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/server/bermv1"
	"github.com/bermhq/berm/internal/server/controlplane"
	"github.com/bermhq/berm/internal/server/dataplane"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/ingress"
	"github.com/bermhq/berm/internal/server/openapi"
	"github.com/bermhq/berm/internal/server/port"
	"github.com/bermhq/berm/internal/server/rest"
	"github.com/bermhq/berm/internal/telemetry"
)

// Config is what a Server needs. Only Control is required.
type Config struct {
	Control *control.Service
	// Logger gets the access log; nil discards.
	Logger *slog.Logger
	// Now is the clock, NewID makes request ids.
	Now   func() time.Time
	NewID func() string
	// TLS, when not nil, encrypts both listeners.
	TLS *tls.Config
	// MaxBodyBytes bounds REST bodies; 0 means port.DefaultMaxBody.
	MaxBodyBytes int64
	// Limits bound what is open at a time.
	Limits Limits
	// Version is that of the software, which runners of this server share.
	Version string
	// Metrics are served to operators; nil serves none.
	Metrics *telemetry.Metrics
	// Link takes runners in, below linkPrefix; nil takes none. It authenticates by itself.
	Link http.Handler
	// Ports is where ports of sandboxes have hosts of their own; nil: they have paths alone.
	Ports *ingress.Base
	// Pod renders the pods of plans; nil refuses to.
	Pod bermv1.PodFunc
}

// Limits are how much is open at a time; 0 is the default of each.
type Limits struct {
	// Connections is how many connections both listeners together have: port.DefaultMaxConnections.
	Connections int
	// Calls is how many calls are under way, streams among them: edge.DefaultMaxCalls. CallsPerToken is how many of one token:
	// half of them.
	Calls, CallsPerToken int
}

// Server serves one control service. Its methods are safe for concurrent use.
type Server struct {
	port    *port.Port
	control *control.Service
	metrics *telemetry.Metrics
	newID   func() string
	ports   *ingress.Front
}

// New returns a server that does not listen yet.
func New(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = uuid.NewString
	}
	s := &Server{control: cfg.Control, metrics: cfg.Metrics, newID: cfg.NewID}
	chain := edge.New(edge.Config{Authenticate: cfg.Control.Authenticate, Logger: cfg.Logger, Now: cfg.Now, NewID: cfg.NewID, Audit: cfg.Control.AuditCall, MaxCalls: cfg.Limits.Calls, MaxCallsPerToken: cfg.Limits.CallsPerToken})
	configure := controlplane.New(cfg.Control, cfg.Version)
	onDrain := func(f func()) func() bool { return s.port.OnDrain(f) }
	own := bermv1.New(cfg.Control, configure, cfg.Pod, onDrain)
	run := dataplane.New(dataplane.Config{Control: cfg.Control, Now: cfg.Now, OnDrain: onDrain})
	routes, err := s.routes(&cfg, chain, configure, own, run)
	if err != nil {
		return nil, err
	}
	s.ports = ingress.New(ingress.Config{Control: cfg.Control, Chain: chain, OnDrain: onDrain, Logger: cfg.Logger, Base: cfg.Ports})
	s.port = port.New(port.Config{
		Chain: chain, REST: routes, Streams: s.ports, TLS: cfg.TLS, Logger: cfg.Logger, MaxBody: cfg.MaxBodyBytes, MaxConnections: cfg.Limits.Connections,
		Register: func(r grpc.ServiceRegistrar) {
			register := func(desc *grpc.ServiceDesc, impl any) { chain.Register(r, desc, impl) }
			configure.Register(register)
			own.Register(register)
			run.Register(register)
		},
	})
	return s, nil
}

func (s *Server) routes(cfg *Config, chain *edge.Chain, configure *controlplane.Front, own *bermv1.Front, run *dataplane.Front) (http.Handler, error) {
	byHand := &rest.Router{}
	configure.Route(byHand)
	own.Route(byHand)
	// The context of a gateway registration is that of its connections, and there are none: the implementations are called.
	ownGateway, err := own.Gateway(context.Background())
	if err != nil {
		return nil, err
	}
	own.ServeEdits(byHand, ownGateway)
	runGateway, err := run.Gateway(context.Background())
	if err != nil {
		return nil, err
	}
	out := &routes{
		openapi: openapi.Handler(),
		server:  s, byHand: chain.HTTP(byHand), dataplane: chain.HTTP(runGateway), bermv1: chain.HTTP(ownGateway),
	}
	out.link = cfg.Link
	if s.metrics != nil {
		out.metrics = chain.HTTP(http.HandlerFunc(s.serveMetrics))
	}
	return out, nil
}

// Handler returns what the shared port serves.
func (s *Server) Handler() http.Handler { return s.port.Handler() }

// Serve serves REST and gRPC on l until Shutdown, and returns nil then.
func (s *Server) Serve(l net.Listener) error { return s.port.Serve(l) }

// ServeGRPC serves gRPC alone on l until Shutdown, and returns nil then. It is faster than the shared port.
func (s *Server) ServeGRPC(l net.Listener) error { return s.port.ServeGRPC(l) }

// Shutdown stops serving: not ready any more, then no new calls, then those in flight until ctx ends, then the streams, which
// are told. It returns the error of ctx when something was cut short.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.ports.Wait() // net/http does not wait for connections that have changed their protocol
	return s.port.Shutdown(ctx)
}
