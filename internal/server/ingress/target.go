package ingress

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/port"
	"github.com/bermhq/berm/internal/server/wire"
)

// Prefix is what the path of a port begins with, before the sandbox's id.
const Prefix = "/berm/v1/sandboxes/"

// target is the port that a request is for.
type target struct {
	id   string
	port int32
	// mount is what the path of the request has before the sandbox's own, "" where the port has a host. path is the sandbox's own, in its
	// encoding, with a slash at the beginning.
	mount, path string
}

// local is how the program that listens is called on a path: by a name that it knows, as servers for development check.
func (t *target) local() string { return net.JoinHostPort("localhost", strconv.Itoa(int(t.port))) }

// ownOrigin reports whether a browser tells the port from every other one.
func (t *target) ownOrigin() bool { return t.mount == "" }

// isPortPath reports whether a path, in its encoding, is that of a port.
func isPortPath(path string) bool {
	rest, ok := strings.CutPrefix(path, Prefix)
	if !ok {
		return false
	}
	_, rest, ok = strings.Cut(rest, "/")
	return ok && strings.HasPrefix(rest, "ports/")
}

// targetOf reads where a request goes. The host decides, where it is one of ours: its path is the sandbox's.
func (f *Front) targetOf(r *http.Request) (*target, error) {
	path := r.URL.EscapedPath()
	if f.cfg.Base.has(r.Host) {
		t, ok := f.cfg.Base.target(r.Host)
		if !ok {
			return nil, fault.NotFoundf("PATH_NOT_FOUND", "no port has the host %.200q", r.Host).
				WithHint("hosts of ports are PORT-SANDBOX.%s", f.cfg.Base.domain)
		}
		t.path = path
		if path == "" || path[0] != '/' { // OPTIONS *
			t.path = "/"
		}
		return t, nil
	}
	encoded, rest, _ := strings.Cut(strings.TrimPrefix(path, Prefix), "/")
	number, rest, _ := strings.Cut(strings.TrimPrefix(rest, "ports/"), "/")
	id, err := url.PathUnescape(encoded)
	n, numErr := portNumber(number)
	if err != nil || numErr != nil {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "invalid port").WithField("port", "is %.40q, must be from 1 to 65535", number).
			WithHint("the path is %s{sandbox_id}/ports/{port}/…", Prefix)
	}
	return &target{id: id, port: n, mount: Prefix + encoded + "/ports/" + number, path: "/" + rest}, nil
}

// portNumber reads a port in its only spelling, so that each has one address.
func portNumber(text string) (int32, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != text {
		return 0, strconv.ErrRange
	}
	return int32(n), nil //nolint:gosec // 16 bits
}

// servable refuses what cannot be carried as HTTP/1.1 between two ends that are not on one connection.
func servable(r *http.Request, to *target) error {
	switch {
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return &wire.HTTPError{Status: http.StatusMethodNotAllowed, Err: fault.New(fault.Unimplemented, "METHOD_NOT_ALLOWED",
			"%s is not served at ports of sandboxes", r.Method)}
	case strings.ContainsFunc(r.URL.RawQuery, func(c rune) bool { return c <= ' ' || c == 0x7f }): // HTTP/2 can say it, a line of HTTP/1.1 not
		return fault.Invalidf(fault.ReasonInvalidRequest, "the query has a space or a control character that is not percent-encoded")
	case port.IsGRPC(r):
		return &wire.HTTPError{Status: http.StatusUnsupportedMediaType, Err: fault.Invalidf(fault.ReasonInvalidRequest,
			"gRPC is not served at ports of sandboxes over HTTP, which are spoken to in HTTP/1.1").WithHint("berm port-forward %s %d", to.id, to.port)}
	}
	return nil
}

// Base is where ports have hosts of their own: PORT-ID.DOMAIN.
type Base struct {
	// scheme and port are those of the addresses that are told; port is "" where it is the scheme's own.
	scheme, domain, port string
}

// ParseBase reads the URL below whose host ports have theirs, such as https://ports.example.com.
func ParseBase(text string) (*Base, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "the URL of ports %.200q is not of the form http[s]://DOMAIN[:PORT]", text)
	}
	b := &Base{scheme: u.Scheme, domain: canonical(u.Hostname()), port: u.Port()}
	if net.ParseIP(b.domain) != nil || b.domain == "" || strings.Contains(b.domain, "..") || b.domain[0] == '.' || strings.Trim(b.domain, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "the URL of ports %.200q names no domain below which each port can have a host", text).
			WithHint("Give a name that has a wildcard in the DNS; on one machine localhost has one.")
	}
	if n := b.port; n != "" {
		if _, err := portNumber(n); err != nil {
			return nil, fault.Invalidf(fault.ReasonInvalidRequest, "the URL of ports %.200q has no valid port", text)
		}
		if b.scheme == "http" && n == "80" || b.scheme == "https" && n == "443" {
			b.port = ""
		}
	}
	return b, nil
}

// canonical is a host as it is compared.
func canonical(host string) string { return strings.TrimRight(strings.ToLower(host), ".") }

// below returns what a Host header has before the domain.
func (b *Base) below(host string) (label string, ok bool) {
	if b == nil {
		return "", false
	}
	if !strings.HasPrefix(host, "[") {
		host, _, _ = strings.Cut(host, ":")
	}
	return strings.CutSuffix(canonical(host), "."+b.domain)
}

// has reports whether a Host header is below the domain. Nothing but ports is served there.
func (b *Base) has(host string) bool {
	_, ok := b.below(host)
	return ok
}

// target reads the port and the sandbox from a Host header.
func (b *Base) target(host string) (*target, bool) {
	label, _ := b.below(host)
	number, id, ok := strings.Cut(label, "-")
	n, err := portNumber(number)
	if !ok || err != nil || id == "" || strings.Contains(id, ".") {
		return nil, false
	}
	return &target{id: id, port: n}, true
}

// Host is the host of a port, with the port of the gateway where that is not the scheme's own.
func (b *Base) Host(id string, port int32) string {
	host := strconv.Itoa(int(port)) + "-" + id + "." + b.domain
	if b.port != "" {
		host += ":" + b.port
	}
	return host
}

// Hosts is Host, nil where ports have none.
func (b *Base) Hosts() func(id string, port int32) string {
	if b == nil {
		return nil
	}
	return b.Host
}

// Link is the URL at which a browser with a pass is let in to a port. Browsers say where a request comes from to origins that they trust:
// those of https, and localhost.
func (b *Base) Link(id string, port int32, pass string) (string, error) {
	if b == nil {
		return "", fault.Preconditionf(reasonPortLink, "ports of sandboxes have no hosts on this server, and a browser is let in to a host alone").
			WithHint("berm port-forward %s %d, or berm serve --ports-url", id, port)
	}
	if !b.trusted() {
		return "", fault.Preconditionf(reasonPortLink, "hosts of ports are reached without TLS here, so that browsers do not say which page a request comes from").
			WithHint("berm port-forward %s %d, or berm serve --ports-url https://…", id, port)
	}
	u := url.URL{Scheme: b.scheme, Host: b.Host(id, port), Path: enterPath, RawQuery: url.Values{passParameter: {pass}}.Encode()}
	return u.String(), nil
}

// trusted reports whether browsers take the hosts for trustworthy.
func (b *Base) trusted() bool {
	return b.scheme == "https" || b.domain == "localhost" || strings.HasSuffix(b.domain, ".localhost")
}
