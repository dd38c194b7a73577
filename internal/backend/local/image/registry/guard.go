package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
)

// blockedError is a connection or request that is not made: the registry led where it must not.
type blockedError struct{ why string }

func (e *blockedError) Error() string { return e.why }

func blocked(format string, args ...any) error { return &blockedError{fmt.Sprintf(format, args...)} }

// transport returns how hosts are reached on behalf of one registry. Its settings are looked up by the host of each
// connection, so that being listed helps a registry but not what it redirects to.
func (c *Client) transport(h Host) (*http.Transport, error) {
	pool, err := roots(h.CAFile)
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		// No proxy: behind one, nobody could tell which address is connected to.
		DialContext: c.dial, TLSHandshakeTimeout: c.cfg.Limits.Handshake, ResponseHeaderTimeout: c.cfg.Limits.Header,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, ForceAttemptHTTP2: true,
		MaxResponseHeaderBytes: MaxHeaderBytes, MaxIdleConnsPerHost: maxIdlePerHost, IdleConnTimeout: maxIdleTime,
		// A compressed answer would be a way to send more than is counted.
		DisableCompression: true,
	}, nil
}

// dial connects to addr, the host:port of a URL. The address is checked when the socket is connected: whatever spelling or
// resolver it came from, it is the one that counts.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	private := c.listed(addr).Private
	d := net.Dialer{Timeout: c.cfg.Limits.Connect, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		return c.checkAddress(addr, address, private)
	}}
	return d.DialContext(ctx, network, addr)
}

// checkAddress refuses addresses that a host may not have.
func (c *Client) checkAddress(host, address string, private bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return blocked("%s has the address %q, which is none", host, address)
	}
	switch r, what := classify(c.closed, ap.Addr()); {
	case r == public, r == near && private:
		return nil
	case r == near:
		return blocked("%s is at %s (%s) and is not listed as private", host, ap.Addr(), what)
	default:
		return blocked("%s is at %s (%s), where no registry may be", host, ap.Addr(), what)
	}
}

// listed returns the settings of the host:port of a connection. Hosts are listed without the port when it is the usual one.
func (c *Client) listed(addr string) Host {
	addr = strings.ToLower(addr)
	if h, ok := c.cfg.Hosts[addr]; ok {
		return h
	}
	if host, port, err := net.SplitHostPort(addr); err == nil && (port == "443" || port == "80") {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return c.cfg.Hosts[host]
	}
	return Host{}
}

// guard is what every request passes: those of go-containerregistry and ours, after redirects too.
type guard struct {
	next   http.RoundTripper
	client *Client
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := g.check(r); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if r.Context().Value(forLayer{}) == nil {
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: MaxManifestBytes}
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		// Here, whoever asked: of what a token server answers, go-containerregistry passes on no header.
		defer resp.Body.Close()
		return nil, checkStatus(resp, http.StatusOK)
	}
	return resp, nil
}

// check refuses requests that give something away.
func (g *guard) check(r *http.Request) error {
	switch {
	case r.URL.Scheme != "https" && r.URL.Scheme != "http":
		return blocked("%s: only https is spoken", withoutQuery(r))
	case r.URL.Scheme == "http" && !g.client.listed(hostPort(r)).Insecure:
		return blocked("%s is not encrypted, and its host is not listed as insecure", withoutQuery(r))
	case r.Response != nil && r.Method != http.MethodGet && r.Method != http.MethodHead:
		// A token request has the credentials in its body, and a redirect would carry it on.
		return blocked("a %s was redirected to %s", r.Method, r.URL.Host)
	}
	return nil
}

// forLayer marks requests whose reader bounds the answer.
type forLayer struct{}

// hostPort is the host:port that a request connects to.
func hostPort(r *http.Request) string {
	if r.URL.Port() != "" {
		return r.URL.Host
	}
	return net.JoinHostPort(r.URL.Hostname(), map[string]string{"http": "80", "https": "443"}[r.URL.Scheme])
}

// withoutQuery is a URL as it may be shown: signed URLs have their secret in the query.
func withoutQuery(r *http.Request) string { return r.URL.Scheme + "://" + r.URL.Host + r.URL.Path }

// boundedBody is an answer that ends in an error when it is too long.
type boundedBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, tooLong()
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, tooLong()
	}
	return n, err
}

func tooLong() error { return blocked("an answer has more than %d bytes", MaxManifestBytes) }
