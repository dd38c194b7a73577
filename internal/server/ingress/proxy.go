package ingress

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"

	"github.com/bermhq/berm/internal/server/edge"
)

// proxy has a request answered by what listens at the other end of a connection, which no other request gets.
func (f *Front) proxy(w http.ResponseWriter, r *http.Request, to *target, cred credential, c *conn) error {
	once := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return c, nil },
		DisableKeepAlives:      true,
		DisableCompression:     true, // what the caller takes is for the caller to say
		MaxResponseHeaderBytes: MaxAnswerHeader,
	}
	var failed error
	p := &httputil.ReverseProxy{
		Transport: once,
		// What a sandbox sends is passed on at once: it may be the first line of an answer that ends tomorrow.
		FlushInterval: -1,
		BufferPool:    &f.buffers,
		Rewrite:       func(pr *httputil.ProxyRequest) { rewrite(pr, to, cred, f.cfg.Base) },
		ModifyResponse: func(res *http.Response) error {
			answered(res, w.Header(), to)
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
		ErrorLog:     slog.NewLogLogger(f.cfg.Logger.Handler(), slog.LevelDebug),
	}
	if aborted := serveUntilAbort(p, w, r); aborted != nil {
		edge.Note(r.Context(), c.why(brokenOff(to)))
		return aborted
	}
	if failed == nil {
		return nil
	}
	return asAnswer(c.why(failed), to)
}

// errAborted is an answer that broke off.
var errAborted = errors.New("the answer broke off")

// serveUntilAbort returns errAborted where an answer broke off, which a ReverseProxy says by a panic.
func serveUntilAbort(p *httputil.ReverseProxy, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler { //nolint:errorlint // a sentinel that is panicked with, never wrapped
				panic(v)
			}
			err = errAborted
		}
	}()
	p.ServeHTTP(w, r)
	return nil
}

// rewrite makes the request that the sandbox gets: what came, without what is Berm's, and with who it came from. The forwarding headers of
// the caller are gone by then, and so is what holds for one hop.
func rewrite(pr *httputil.ProxyRequest, to *target, cred credential, base *Base) {
	out := pr.Out
	local := net.JoinHostPort("localhost", strconv.Itoa(int(to.port)))
	out.URL = &url.URL{Scheme: "http", Host: local, RawPath: to.path, RawQuery: pr.In.URL.RawQuery}
	out.URL.Path, _ = url.PathUnescape(to.path) // it was decoded once before
	cred.strip(out.Header)
	pr.SetXForwarded()
	if to.ownOrigin() {
		out.Header.Set("X-Forwarded-Proto", base.scheme)
		dropOwnCookies(out.Header)
		return
	}
	// What listens may check that it is called by a name that it knows, as servers for development do.
	out.Host = local
	out.Header.Set("X-Forwarded-Prefix", to.mount)
	out.Header.Del("Cookie")
}

// buffers are those that answers are copied with.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return make([]byte, bufferSize)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferSize]byte)(p)) }
