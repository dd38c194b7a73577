package ingress

import (
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// encodedDot is a dot that a URL writes in another way. Clients take %2e for one where they resolve paths.
var encodedDot = regexp.MustCompile(`(?i)%2e`)

// redirect holds an answer's Location to what a client may be sent to with the credential that it came with, and on a path to where the
// sandbox meant. A client that is sent on takes the token along: to any place of the same host when it is in Authorization, to any host at all
// when it is in TokenHeader. So on a path a Location leads to the same port, or to another host that does not get the token; with TokenHeader
// to the same port alone. What leads elsewhere is taken away.
func redirect(h http.Header, in *http.Request, to *target, cred credential) {
	at := h.Get("Location")
	if at == "" {
		h.Del("Location")
		return
	}
	if got, ok := to.location(at, in, cred); ok {
		h.Set("Location", got)
	} else {
		h.Del("Location")
	}
}

func (t *target) location(at string, in *http.Request, cred credential) (string, bool) {
	if strings.Contains(at, `\`) { // a slash for browsers, and for nobody else
		return "", false
	}
	u, err := url.Parse(encodedDot.ReplaceAllString(at, "."))
	if err != nil || u.Opaque != "" || u.User != nil || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" || u.Scheme != "" && u.Host == "" {
		return "", false
	}
	elsewhere := cred.name != TokenHeader
	if t.ownOrigin() {
		// No cookie and no API is at another path of this host, and another host gets no Authorization.
		return at, elsewhere || u.Host == "" || strings.EqualFold(u.Host, in.Host)
	}
	if u.Host != "" && !strings.EqualFold(u.Host, t.local()) {
		return at, elsewhere && !strings.EqualFold(u.Hostname(), hostname(in.Host))
	}
	if u.Host != "" || strings.HasPrefix(u.Path, "/") {
		// What the program calls its own root is the mount.
		raw := t.mount + u.EscapedPath()
		u.Path, u.RawPath = t.mount+u.Path, raw
	}
	base := &url.URL{RawPath: t.mount + t.path}
	if base.Path, err = url.PathUnescape(base.RawPath); err != nil {
		return "", false
	}
	u.Scheme, u.Host = "", ""
	got := base.ResolveReference(u)
	path := got.EscapedPath()
	if path != t.mount && !strings.HasPrefix(path, t.mount+"/") {
		return "", false
	}
	return got.String(), !strings.HasPrefix(path, "//")
}

// hostname is a Host header without its port.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}
