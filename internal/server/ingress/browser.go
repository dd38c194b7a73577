package ingress

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/wire"
)

const (
	// enterPath is the one path on the host of a port that is not the sandbox's.
	enterPath = "/.berm/enter"
	// passParameter is the query parameter of a link that has the pass.
	passParameter = "pass"
	// maxCookies is how many cookies are tried of a request: each is a look into the store.
	maxCookies = 8
)

// enter lets a browser in that follows a link: it gets a cookie for the host, and is sent to where the link is not in its address any more.
func (f *Front) enter(w http.ResponseWriter, r *http.Request, to *target) {
	var cookie string
	who := func(ctx context.Context) (p core.Principal, err error) {
		if cookie != "" {
			return f.cfg.Control.PortPass(ctx, cookie, to.id, to.port)
		}
		p, cookie, err = f.cfg.Control.EnterPort(ctx, r.URL.Query().Get(passParameter), to.id, to.port)
		return p, err
	}
	if r.Method != http.MethodGet { // whoever looks whether a link is good does not use it up
		who = func(context.Context) (core.Principal, error) {
			return core.Principal{}, &wire.HTTPError{Status: http.StatusMethodNotAllowed, Err: fault.New(fault.Unimplemented, "METHOD_NOT_ALLOWED", "a link is followed with GET")}
		}
	}
	f.cfg.Chain.Stream(w, r, who, func(w http.ResponseWriter, _ *http.Request) error {
		http.SetCookie(w, &http.Cookie{
			Name: f.cfg.Base.cookie(), Value: cookie, Path: "/", MaxAge: int(control.PortPassTTL.Seconds()),
			Secure: f.cfg.Base.scheme == "https", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
		h := w.Header()
		h.Set("Location", "/")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		w.WriteHeader(http.StatusSeeOther)
		return nil
	})
}

// cookie is the name of Berm's cookie: over TLS one that no other host can set.
func (b *Base) cookie() string {
	if b.scheme == "https" {
		return hostCookieName
	}
	return cookieName
}

// browser returns who a browser is that was let in: nobody without an error for one that was not. Another host of the domain may have set
// a cookie with the same name, so each is tried.
func (f *Front) browser(ctx context.Context, r *http.Request, to *target) (core.Principal, error) {
	if !to.ownOrigin() {
		return core.Principal{}, nil
	}
	named := r.CookiesNamed(f.cfg.Base.cookie())
	for _, c := range named[:min(len(named), maxCookies)] {
		p, err := f.cfg.Control.PortPass(ctx, c.Value, to.id, to.port)
		if fault.Is(err, fault.Unauthenticated) {
			continue
		}
		if err == nil && !fromHere(r, f.cfg.Base.scheme) {
			err = fault.New(fault.Denied, reasonPortOrigin, "a page of another origin asks for this, with the cookie of somebody who was let in here")
		}
		return p, err
	}
	return core.Principal{}, nil
}

// fromHere reports whether a request of a browser comes from a page of the host that it is for, or from none, or does no more than to go
// there. A cookie alone does not say so: hosts of one domain are one site, and a page of another sandbox is no better than any.
func fromHere(r *http.Request, scheme string) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "": // an older browser, or none
		from := r.Header.Get("Origin")
		if u, err := url.Parse(r.Referer()); from == "" && err == nil {
			from = u.Scheme + "://" + u.Host
		}
		return strings.EqualFold(from, scheme+"://"+r.Host)
	}
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}
