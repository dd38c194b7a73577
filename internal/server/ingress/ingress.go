// Package ingress serves what listens in sandboxes to callers of HTTP, through the gateway's own port.
//
// A port has two addresses: a path, /berm/v1/sandboxes/{id}/ports/{port}/…, and, where the operator gave a domain for it, a host,
// {port}-{id}.DOMAIN. The host is an origin of its own for browsers. The path shares one with the API and with every other sandbox, so it
// is for programs: no cookie passes in either direction, and what is answered there is sandboxed for a browser that shows it anyway.
//
// Each request has a connection of its own into the sandbox, made by control.Dial. So nothing of one request can be left in a connection
// for another's, whatever the two ends make of its framing, and each is checked as every call is. Credentials for Berm end here.
package ingress

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/server/edge"
)

// Limits of what passes.
const (
	// MaxAnswerHeader bounds the headers of an answer of a sandbox, in bytes. Those of requests are bounded by the port.
	MaxAnswerHeader = 64 << 10
	// MaxOpen is how many requests are under way on this server, MaxOpenOfOrg and MaxOpenOfSandbox how many to sandboxes of one
	// organization and to one sandbox. An upgraded connection is one for as long as it is open.
	MaxOpen          = 4096
	MaxOpenOfOrg     = MaxOpen / 2
	MaxOpenOfSandbox = 256
	// DialTimeout is how long a connection into the sandbox may take, the rest of the sandbox's start included.
	DialTimeout = 60 * time.Second
	// IdleTimeout is how long a request may last without a byte from or to the sandbox.
	IdleTimeout = 10 * time.Minute
	// farewellTime is how long a caller has to take the news that a request was cut.
	farewellTime = 2 * time.Second
)

// Control is what the front needs of the use cases.
type Control interface {
	// Dial connects to a port; the connection is cut when ctx ends.
	Dial(ctx context.Context, p core.Principal, id string, port int32) (backend.Conn, error)
	// Visitor is whom a caller counts as at a port that may be exposed to him. public says whether he may be without a token.
	Visitor(p core.Principal, id string, port int32, public bool) core.Principal
	// EnterPort takes a link, and returns who follows it and a pass for his browser; PortPass returns who has such a pass.
	EnterPort(ctx context.Context, link, id string, port int32) (core.Principal, string, error)
	PortPass(ctx context.Context, pass, id string, port int32) (core.Principal, error)
}

// Config is what a Front needs. All of it is required, but for what says so.
type Config struct {
	Control Control
	Chain   *edge.Chain
	// OnDrain calls a function when streams have to end, unless what it returns was called first.
	OnDrain func(func()) (stop func() bool)
	Logger  *slog.Logger
	// Base is where ports have hosts of their own; nil: they have paths alone.
	Base *Base
	// Idle is IdleTimeout, or what a test makes of it; 0 is IdleTimeout.
	Idle time.Duration
}

// Front serves ports of sandboxes. It is safe for concurrent use.
type Front struct {
	cfg     Config
	open    *open
	buffers buffers
	running sync.WaitGroup
}

// New returns a front.
func New(cfg Config) *Front {
	if cfg.Idle == 0 {
		cfg.Idle = IdleTimeout
	}
	return &Front{cfg: cfg, open: newOpen()}
}

// Takes reports whether a request is for a port of a sandbox, or for a host that only such ports have.
func (f *Front) Takes(r *http.Request) bool {
	return f.cfg.Base.has(r.Host) || isPortPath(r.URL.EscapedPath())
}

// Wait waits for the requests under way. It is called once they have been told to end.
func (f *Front) Wait() { f.running.Wait() }

// ServeHTTP leads a request through the chain and into the sandbox.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.running.Add(1)
	defer f.running.Done()
	cred := credentialOf(r)
	to, err := f.targetOf(r)
	if err == nil && to.ownOrigin() && r.URL.Path == enterPath {
		f.enter(w, r, to)
		return
	}
	who := func(ctx context.Context) (core.Principal, error) {
		if err == nil && cred.none() {
			if p, err := f.unsaid(ctx, r, to); p.OrgID != "" || err != nil {
				return p, err
			}
		}
		return f.cfg.Chain.Bearer(ctx, cred.values)
	}
	f.cfg.Chain.Stream(w, r, who, func(w http.ResponseWriter, r *http.Request) error {
		if err != nil {
			return err
		}
		return f.serve(w, r, to, cred)
	})
}

// unsaid returns who may come that sends no token: everybody, where the sandbox exposes the port so, or a browser that was let in.
func (f *Front) unsaid(ctx context.Context, r *http.Request, to *target) (core.Principal, error) {
	if p := f.cfg.Control.Visitor(core.Principal{}, to.id, to.port, to.ownOrigin()); p.OrgID != "" {
		return p, nil
	}
	return f.browser(ctx, r, to)
}

// serve connects into the sandbox, and then has the request answered from there.
func (f *Front) serve(w http.ResponseWriter, r *http.Request, to *target, cred credential) error {
	if err := servable(r, to); err != nil {
		return err
	}
	p := f.cfg.Control.Visitor(edge.Principal(r.Context()), to.id, to.port, to.ownOrigin())
	leave, err := f.open.enter(p.OrgID, to.id)
	if err != nil {
		return err
	}
	defer leave()
	c, w, r, end := f.begin(w, r, to)
	defer end()
	if err := c.dial(func(ctx context.Context) (backend.Conn, error) { return f.cfg.Control.Dial(ctx, p, to.id, to.port) }); err != nil {
		return asAnswer(err, to)
	}
	defer func() { _ = c.Close() }()
	return f.proxy(w, r, to, cred, c)
}
