package port

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// maxLeftOver is how much is read of a body that nobody wanted whole, in bytes, as net/http does.
const maxLeftOver = 256 << 10

// bounded gives a REST request a largest body and a time in which that must arrive, and the answer a time in which it must be
// taken. The times are per request: http.Server.ReadTimeout and WriteTimeout would cut streams, and commands that run long.
func bounded(next http.Handler, maxBody int64) http.Handler {
	return http.MaxBytesHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		tw := &timedWriter{ResponseWriter: w, rc: rc, http1: r.ProtoMajor == 1}
		if r.ContentLength != 0 {
			_ = rc.SetReadDeadline(time.Now().Add(BodyTimeout)) // a writer without deadlines is a test's
			tw.body = &timedBody{ReadCloser: r.Body, rc: rc}
			r.Body = tw.body
		}
		if r.ContentLength > maxBody { // None of it need be read, nor waited for.
			r.Body = announced{r.Body, maxBody}
		}
		defer tw.done()
		next.ServeHTTP(tw, r)
	}), maxBody)
}

// announced is a body that says of itself that it is too long.
type announced struct {
	io.Closer
	limit int64
}

func (b announced) Read([]byte) (int, error) { return 0, &http.MaxBytesError{Limit: b.limit} }

// streamed is a request that may go on for as long as something passes, which is for next to see. What is left of a body when the answer
// has ended, or is an error, is waited for as after any refusal.
func streamed(next http.Handler, w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	tw := &timedWriter{ResponseWriter: w, rc: rc, http1: r.ProtoMajor == 1, endless: true}
	if r.ContentLength != 0 {
		tw.body = &timedBody{ReadCloser: r.Body, rc: rc}
		r.Body = tw.body
	}
	defer tw.done()
	next.ServeHTTP(tw, r)
}

// timedBody takes the deadline away once the body is complete: it would otherwise end a call that runs longer, because
// net/http goes on reading to see whether the client is still there.
type timedBody struct {
	io.ReadCloser
	rc *http.ResponseController
	// complete: all of it was read. Who reads it may go on doing so when the answer has ended.
	complete atomic.Bool
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.complete.Store(true)
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// timedWriter sets the deadline of an answer when it begins, however long the call took.
type timedWriter struct {
	http.ResponseWriter
	rc    *http.ResponseController
	begun bool
	// endless: the answer has no deadline. http1: a connection is for one request at a time.
	endless, http1 bool
	// body is that of the request, nil when it has none.
	body *timedBody
}

func (w *timedWriter) begin() {
	if !w.begun && !w.endless {
		w.begun = true
		_ = w.rc.SetWriteDeadline(time.Now().Add(BodyTimeout))
	}
}

func (w *timedWriter) WriteHeader(status int) {
	w.begin()
	if status >= http.StatusOK && w.body != nil && !w.body.complete.Load() {
		if w.http1 && (w.endless || status >= http.StatusBadRequest) {
			// What is left of the body would be taken for the next request by whoever stopped reading it.
			w.Header().Set("Connection", "close")
		}
		if status >= http.StatusBadRequest {
			// Else net/http waits for the rest, before it answers and again before it closes: nobody without a token makes it wait.
			_ = w.rc.SetReadDeadline(time.Now().Add(RefusedBodyTimeout))
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *timedWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// done leaves a kept-alive connection without the deadline of this answer.
func (w *timedWriter) done() {
	if w.begun {
		_ = w.rc.SetWriteDeadline(time.Time{})
	}
	if w.endless && w.body != nil && !w.body.complete.Load() {
		_ = w.rc.SetReadDeadline(time.Now().Add(RefusedBodyTimeout))
		// net/http takes the deadline away before it waits for the rest of the body, so that the wait is here.
		_, _ = io.CopyN(io.Discard, w.body, maxLeftOver)
	}
}
