package ingress

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/control"
)

// TokenHeader carries a token as Authorization does, for callers whose Authorization is for the program in the sandbox.
const TokenHeader = "X-Berm-Authorization"

// ownHeaders begin the names of headers between callers and Berm. They never reach a sandbox, and none is believed that comes from one.
const ownHeaders = "X-Berm-"

// credential is what a request says about its caller.
type credential struct {
	// values are those of the header that the token is looked for in; name is that header, "" where no token of Berm is in any.
	name   string
	values []string
}

func credentialOf(r *http.Request) credential {
	if values := r.Header.Values(TokenHeader); len(values) > 0 {
		return credential{TokenHeader, values}
	}
	values := r.Header.Values("Authorization")
	if !slices.ContainsFunc(values, holdsToken) {
		return credential{"", values} // for the program, if for anybody
	}
	return credential{"Authorization", values}
}

// none reports whether a caller says nothing of who he is.
func (c credential) none() bool { return c.name == "" }

// strip takes credentials for Berm from a request: the header that was read, and what is a token of Berm in the other one all the same.
func (c credential) strip(h http.Header) {
	h.Del(c.name)
	dropOwn(h)
	if values := h.Values("Authorization"); slices.ContainsFunc(values, holdsToken) {
		h.Del("Authorization")
	}
}

// holdsToken reports whether the value of a header has a token of Berm in it.
func holdsToken(value string) bool {
	return slices.ContainsFunc(strings.Fields(value), control.IsToken)
}

func dropOwn(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, ownHeaders) {
			delete(h, name)
		}
	}
}

// originWide are headers of answers that act beyond the origin of the sandbox, or that bind it to something else.
var originWide = []string{"Clear-Site-Data", "Alt-Svc"}

// pathWide are headers of answers that act on a whole origin, which on a path is that of the API. Those of CORS are among them: no page of
// another origin is to read what is reached with a token of Berm.
var pathWide = []string{
	"Set-Cookie", "Set-Cookie2", "Strict-Transport-Security", "Service-Worker-Allowed", "Nel", "Report-To", "Reporting-Endpoints", "Refresh",
	"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
	"Access-Control-Expose-Headers", "Access-Control-Max-Age", "Access-Control-Allow-Private-Network",
}

// clean takes from headers of a sandbox, those before and behind an answer among them, what is Berm's or acts beyond its origin.
func clean(h http.Header, to *target) {
	dropOwn(h)
	for _, name := range originWide {
		h.Del(name)
	}
	if to.ownOrigin() {
		if kept := hostCookies(h["Set-Cookie"]); kept != nil {
			h["Set-Cookie"] = kept
		} else {
			h.Del("Set-Cookie")
		}
		return
	}
	for _, name := range pathWide {
		h.Del(name)
	}
}

// cleanTrailer is clean for what comes behind an answer, which is too late for what frames it.
func cleanTrailer(h http.Header, to *target) {
	clean(h, to)
	for _, name := range []string{"Transfer-Encoding", "Content-Length", "Trailer", "Connection", "Location", "Content-Security-Policy"} {
		h.Del(name)
	}
}

// answered changes an answer of a sandbox to a request. w are the headers that are there already.
func answered(res *http.Response, w http.Header, in *http.Request, to *target, cred credential) {
	h := res.Header
	clean(h, to)
	cleanTrailer(res.Trailer, to) // as far as they are announced
	redirect(h, in, to, cred)
	if len(h.Values("X-Request-Id")) > 0 {
		w.Del("X-Request-Id") // the program has one of its own
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		res.Body = &trailed{res.Body, res, to}
	}
	if to.ownOrigin() {
		return
	}
	// A browser that is made to show it has it in an origin of its own, without scripts.
	h.Add("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// trailed is the body of an answer, which is closed when its trailers are known and before they are passed on.
type trailed struct {
	io.ReadCloser
	res *http.Response
	to  *target
}

func (b *trailed) Close() error {
	defer cleanTrailer(b.res.Trailer, b.to)
	return b.ReadCloser.Close()
}
