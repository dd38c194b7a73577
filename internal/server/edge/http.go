package edge

import (
	"context"
	"net/http"

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
			SetHeader: w.Header().Set, Status: rec.sent,
		}
		ctx, err := c.Run(r.Context(), call, func(ctx context.Context) error {
			next.ServeHTTP(rec, r.WithContext(ctx))
			return nil
		})
		if err == nil {
			return
		}
		if rec.status != 0 { // a panic in the middle of an answer: cut the connection, so that nobody takes it for complete
			panic(http.ErrAbortHandler)
		}
		Fail(ctx, rec, err)
	})
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
