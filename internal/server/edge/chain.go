// Package edge is what every call passes through before a front sees it, over REST and gRPC alike, in one fixed order:
//
//  1. recover: a panic becomes an internal error of this call, never the end of the process
//  2. request id: made here, never taken from the caller, returned as x-request-id
//  3. access log: one line when the call ends; never tokens, bodies or query strings
//  4. count: no more calls are under way than this server takes, and then, no more of one token
//  5. authenticate: from the Authorization header alone, before a byte of the body is read
//  6. the handler; what it returns becomes a status in package wire, in the form of the transport
//
// Chain.Run is that order, written once. Register and HTTP lead each transport through it. Nothing about a call is taken from
// the Host header or from X-Forwarded headers.
package edge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/wire"
	"github.com/bermhq/berm/internal/tracing"
)

// Config is what a Chain needs; all of it is required, but for the limits.
type Config struct {
	// Authenticate returns who a token belongs to. Unknown, expired and revoked tokens are Unauthenticated.
	Authenticate func(ctx context.Context, secret string) (core.Principal, error)
	Logger       *slog.Logger
	Now          func() time.Time
	// NewID makes request ids.
	NewID func() string
	// Audit is told how a call ended, and what its name was; nil: nobody is.
	Audit func(c *audit.Call, name string, err error)
	// MaxCalls and MaxCallsPerToken bound the calls under way; 0 is DefaultMaxCalls, and half of those.
	MaxCalls, MaxCallsPerToken int
}

// Chain leads calls to handlers. It is safe for concurrent use.
type Chain struct {
	cfg   Config
	calls *calls
}

// New returns a chain.
func New(cfg Config) *Chain {
	return &Chain{cfg: cfg, calls: newCalls(cfg.MaxCalls, cfg.MaxCallsPerToken)}
}

// Call describes a call to the chain.
type Call struct {
	// Transport is "grpc" or "http".
	Transport string
	// Name is the full gRPC method, or HTTP method and path without the query.
	Name string
	// Peer is the address that the connection comes from.
	Peer string
	// UserAgent is what the program of the caller calls itself.
	UserAgent string
	// Authorization holds the values of that header.
	Authorization []string
	// Authenticate, when not nil, says who calls in place of Authorization.
	Authenticate func(context.Context) (core.Principal, error)
	// Traceparent is that header, "" for none: the span of the caller that the call belongs to.
	Traceparent string
	// SetHeader sets a header of the answer; it is called before the handler.
	SetHeader func(key, value string)
	// Status, when not nil, is asked at the end for the HTTP status that was sent.
	Status func() int
}

// state is what the chain knows of a call while it runs.
type state struct {
	requestID string
	principal core.Principal
	// noted is an error that was already sent, kept for the log.
	noted error
}

type stateKey struct{}

// Principal returns the caller. It is the zero value outside a chain, which no use case accepts.
func Principal(ctx context.Context) core.Principal {
	if s, ok := ctx.Value(stateKey{}).(*state); ok {
		return s.principal
	}
	return core.Principal{}
}

// RequestID returns the id of the call, "" outside a chain.
func RequestID(ctx context.Context) string {
	if s, ok := ctx.Value(stateKey{}).(*state); ok {
		return s.requestID
	}
	return ""
}

// Note keeps an error that a handler sent itself, in a body or in a frame of a stream, so that the log has it.
func Note(ctx context.Context, err error) {
	if s, ok := ctx.Value(stateKey{}).(*state); ok && s.noted == nil {
		s.noted = err
	}
}

// Run leads one call through the chain and returns what ended it. The caller turns the error into its transport's form.
func (c *Chain) Run(ctx context.Context, call *Call, handle func(context.Context) error) (context.Context, error) {
	s := &state{requestID: c.cfg.NewID()}
	audited := &audit.Call{RequestID: s.requestID, Address: call.Peer, UserAgent: call.UserAgent}
	ctx = audit.With(context.WithValue(ctx, stateKey{}, s), audited)
	began := c.cfg.Now()
	ctx, span := call.span(ctx, s.requestID)
	err := c.recovering(func() error {
		call.SetHeader(RequestIDHeader, s.requestID)
		return c.authenticated(ctx, s, call, handle)
	})
	c.log(ctx, s, call, c.cfg.Now().Sub(began), err)
	// Whoever comes to a port of a sandbox is its visitor, and not refused anything of Berm's.
	if c.cfg.Audit != nil && call.Authenticate == nil {
		c.cfg.Audit(audited, call.Name, cmp.Or(err, s.noted))
	}
	span.End(cmp.Or(err, s.noted))
	return ctx, err
}

// span begins the span of the call. A path has ids in it, and is no name of a span.
func (call *Call) span(ctx context.Context, requestID string) (context.Context, tracing.Span) {
	name, path, ok := strings.Cut(call.Name, " ")
	ctx, span := tracing.StartCall(ctx, name, call.Traceparent)
	if ok {
		span.Set("url.path", clip(path))
	}
	span.Set("berm.request_id", requestID)
	return ctx, span
}

// RequestIDHeader carries the id of a call, which log lines and error bodies have too.
const RequestIDHeader = "x-request-id"

func (c *Chain) authenticated(ctx context.Context, s *state, call *Call, handle func(context.Context) error) error {
	leave, err := c.calls.enter()
	if err != nil {
		return err
	}
	defer leave()
	who := call.Authenticate
	if who == nil {
		who = func(ctx context.Context) (core.Principal, error) { return c.Bearer(ctx, call.Authorization) }
	}
	if s.principal, err = who(ctx); err != nil {
		return err
	}
	leaveAs, err := c.calls.enterAs(s.principal)
	if err != nil {
		return err
	}
	defer leaveAs()
	return handle(ctx)
}

// panicked is an error made of a panic.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

func (c *Chain) recovering(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler { //nolint:errorlint // a sentinel that is panicked with, never wrapped
				panic(v)
			}
			err = fault.Internalf(&panicked{value: v, stack: debug.Stack()}, "internal error")
		}
	}()
	return fn()
}

// log writes the access line. Failures of ours are errors, with cause and stack; what was refused is information, and what
// went well is for those who want to see every call.
func (c *Chain) log(ctx context.Context, s *state, call *Call, took time.Duration, err error) {
	if err == nil {
		err = s.noted
	}
	code := wire.Code(err)
	level, text := slog.LevelDebug, "call"
	switch {
	case code == codes.Internal:
		level, text = slog.LevelError, "call failed"
	case err != nil:
		level = slog.LevelInfo
	}
	if !c.cfg.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", s.requestID), slog.String("transport", call.Transport), slog.String("call", clip(call.Name)),
		slog.String("code", code.String()), slog.Duration("took", took), slog.String("peer", call.Peer),
		slog.String("org", s.principal.OrgID), slog.String("actor", s.principal.Actor),
	}
	if call.Status != nil {
		sent := call.Status()
		if sent == 0 { // the error goes out after this line
			sent = wire.StatusOf(err)
		}
		attrs = append(attrs, slog.Int("status", sent))
	}
	c.cfg.Logger.LogAttrs(ctx, level, text, append(attrs, whyFailed(err, code)...)...)
}

// whyFailed returns the reason of what was refused, and the cause and the stack of what is our failure.
func whyFailed(err error, code codes.Code) []slog.Attr {
	if err == nil {
		return nil
	}
	if code != codes.Internal {
		return []slog.Attr{slog.String("reason", fault.From(err).Reason)}
	}
	attrs := []slog.Attr{slog.Any("error", err)}
	if p, ok := errors.AsType[*panicked](err); ok {
		attrs = append(attrs, slog.String("stack", string(p.stack)))
	}
	return attrs
}

// clip bounds what a caller can write into the log.
func clip(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
