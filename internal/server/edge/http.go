package edge

import (
	"context"
	"net/http"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/wire"
	"github.com/bermhq/berm/internal/tracing"
)

// HTTP is the chain around a REST handler. The handler sends its own errors with Fail.
func (c *Chain) HTTP(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		call := &Call{
			Transport: "http", Name: r.Method + " " + r.URL.EscapedPath(), Peer: r.RemoteAddr,
			Authorization: r.Header.Values("Authorization"), Traceparent: r.Header.Get(tracing.Header),
			SetHeader: w.Header().Set, Status: rec.sent, UserAgent: r.UserAgent(),
		}
		ctx, err := c.Run(r.Context(), call, func(ctx context.Context) error {
			next.ServeHTTP(rec, r.WithContext(ctx))
			return nil
		})
		rec.end(ctx, err) // an error here is a panic, in the middle of an answer perhaps
	})
}

// Stream is the chain around a request that may last long, and whose caller who tells. It ends when who does not any more. An error
// before the answer began is sent; one after it cuts the answer.
func (c *Chain) Stream(w http.ResponseWriter, r *http.Request, who func(context.Context) (core.Principal, error), next func(http.ResponseWriter, *http.Request) error) {
	rec := &recorder{ResponseWriter: w}
	call := &Call{
		Transport: "http", Name: r.Method + " " + r.URL.EscapedPath(), Peer: r.RemoteAddr, Authenticate: who,
		Traceparent: r.Header.Get(tracing.Header), SetHeader: w.Header().Set, Status: rec.sent,
	}
	ctx, err := c.Run(r.Context(), call, func(ctx context.Context) error {
		return whileValid(ctx, who, func(ctx context.Context) error { return next(rec, r.WithContext(ctx)) })
	})
	rec.end(ctx, err)
}

// end answers a call that failed, or cuts what was answered so far, so that nobody takes it for complete.
func (r *recorder) end(ctx context.Context, err error) {
	switch {
	case err == nil:
	case r.status != 0:
		panic(http.ErrAbortHandler)
	default:
		Fail(ctx, r, err)
	}
}

// Failer is a ResponseWriter that takes an error as it is, for a call within a call.
type Failer interface{ FailWith(err error) }

// Fail sends err as a google.rpc.Status body.
func Fail(ctx context.Context, w http.ResponseWriter, err error) {
	if f, ok := w.(Failer); ok {
		f.FailWith(err)
		return
	}
	Note(ctx, err)
	if fault.Is(err, fault.Unauthenticated) {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	wire.WriteError(w, err, RequestID(ctx))
}

// recorder remembers the status for the log.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) sent() int { return r.status }
