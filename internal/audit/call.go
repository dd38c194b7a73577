package audit

import (
	"context"
	"sync"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// Call is what is known of the call that does something. The edge makes it, the use case adds to it, the store reads it for the rows that
// it writes. It is safe for concurrent use.
type Call struct {
	RequestID, Address, UserAgent string

	mu                   sync.Mutex
	p                    core.Principal
	method               string
	kind, object, reason string
	// told says that a row tells of what was done.
	told bool
}

type callKey struct{}

// With returns a context in which c is the call.
func With(ctx context.Context, c *Call) context.Context { return context.WithValue(ctx, callKey{}, c) }

// Of returns the call that a context belongs to. Where there is none, the server does something by itself: an empty one.
func Of(ctx context.Context) *Call {
	if c, ok := ctx.Value(callKey{}).(*Call); ok {
		return c
	}
	return &Call{}
}

// Begin notes which use case changes something, for whom, on what and why. The first one of a call counts: a use case may call others.
func (c *Call) Begin(p core.Principal, method string, t Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.method == "" {
		c.p, c.method, c.kind, c.object, c.reason = p, method, t.Kind, t.Ref, t.Reason
	}
}

// Target is what a use case is asked to do something to, as the caller names it.
type Target struct{ Kind, Ref, Reason string }

// Method returns the use case, "" before one that changes something was reached.
func (c *Call) Method() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.method
}

// Tell notes that a row tells of what the call did.
func (c *Call) Tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = true
}

// Told reports whether Tell was called: how the call ends says nothing new then.
func (c *Call) Told() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told
}

// Success returns the row of a call that did what it was asked to, without its time, and the chain that it belongs to.
func (c *Call) Success() (chain string, r *Row) {
	r = &Row{Outcome: Done}
	return c.chained(r), r
}

// chained fills a row in and returns the chain of the caller.
func (c *Call) chained(r *Row) string {
	c.mu.Lock()
	chain := c.p.OrgID
	c.mu.Unlock()
	c.Fill(chain, r)
	return chain
}

// Fill fills in what the call knows and a row of the chain does not say.
func (c *Call) Fill(chain string, r *Row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Method, r.RequestID, r.Address, r.UserAgent = c.method, c.RequestID, c.Address, c.UserAgent
	if c.p.Actor != "" {
		r.Actor, r.TokenID, r.Role = c.p.Actor, c.p.TokenID, string(c.p.Role)
		if c.p.OrgID != chain {
			r.ActorOrg = c.p.OrgID
		}
	}
	if r.Reason == "" {
		r.Reason = c.reason
	}
	if r.Kind == "" {
		r.Kind, r.Name = c.kind, c.object
	}
}

// Failure returns the row of a call that ended with an error, without its time, and the chain that it belongs to.
func (c *Call) Failure(err error) (chain string, r *Row) {
	f := fault.From(err)
	r = &Row{Outcome: Refused, Code: f.Code.String(), ErrorReason: f.Reason}
	switch f.Code {
	case fault.Internal, fault.Unavailable, fault.Deadline, fault.Canceled:
		r.Outcome = Failed
	default:
	}
	return c.chained(r), r
}
