package ingress

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
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
			if res.StatusCode < http.StatusContinue {
				return errStatus // net/http has no such answers, and panics
			}
			answered(res, w.Header(), r, to, cred)
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

// errStatus is an answer with a status that HTTP does not have.
var errStatus = errors.New("a status below 100")

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
	out.URL = &url.URL{Scheme: "http", Host: to.local(), RawPath: to.path, RawQuery: pr.In.URL.RawQuery}
	out.URL.Path, _ = url.PathUnescape(to.path) // it was decoded once before
	cred.strip(out.Header)
	if !tunnels(out.Header) {
		out.Header.Del("Upgrade")
		out.Header.Del("Connection")
	}
	pr.SetXForwarded()
	if to.ownOrigin() {
		out.Header.Set("X-Forwarded-Proto", base.scheme)
		out.Header.Del("X-Forwarded-Prefix") // the caller's word
		out.Header.Del("X-Forwarded-Port")
		dropOwnCookies(out.Header)
		return
	}
	out.Host = to.local()
	out.Header.Del("X-Forwarded-Port")
	out.Header.Set("X-Forwarded-Prefix", to.mount)
	out.Header.Del("Cookie")
}

// tunnels reports whether a caller asks for a protocol of his own between him and the program, as WebSocket is. Another version of HTTP is
// none: who offers it, as some clients do with every request, takes what answers from then on for the server, and sends it his other requests.
func tunnels(h http.Header) bool {
	for _, value := range h.Values("Upgrade") {
		for name := range strings.SplitSeq(value, ",") {
			name, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(name)), "/")
			switch name {
			case "h2c", "h2", "h3", "http", "tls", "":
				return false
			}
		}
	}
	return true
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
