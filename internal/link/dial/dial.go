// Package dial is how a runner reaches its gateway: it enrols, keeps its credential, opens the two connections of a line, serves the
// gateway on them, and opens them again whenever they end.
package dial

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link"
)

const (
	// dialTimeout bounds the making of a connection with its upgrade. The gateway may first look whether the process that it knows lives.
	dialTimeout = 20 * time.Second
	// maxAnswer is the largest answer that is not an upgrade, in bytes.
	maxAnswer = 64 << 10
)

// Gateway is where a runner dials, and as what.
type Gateway struct {
	// URL is https://HOST[:PORT]; http only to this machine, or with Plain.
	URL string
	// CAFile, when not empty, is a PEM file of the authorities trusted in place of the system's.
	CAFile string
	// Plain lets http:// go over a network: who listens there reads the credential and everything else.
	Plain bool
	// Identity says which cluster or machine this is, Instance which process, Software its version.
	Identity, Instance, Software string
	// Versions are those of the protocol, link.Ours() where it is the zero value.
	Versions link.Range

	host    string
	address string
	tls     *tls.Config
}

// Check reads URL and CAFile, and says what is wrong with them. It comes before anything else.
func (g *Gateway) Check() error {
	u, err := url.Parse(g.URL)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return fault.Invalidf("URL_INVALID", "%q is not the URL of a gateway", g.URL).WithHint("Use https://HOST:PORT, without a path.")
	}
	if g.Versions == (link.Range{}) {
		g.Versions = link.Ours()
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	g.host, g.address, g.tls = u.Host, net.JoinHostPort(u.Hostname(), port), nil
	if u.Scheme == "http" {
		if !g.Plain && !loopback(u.Hostname()) {
			return fault.Invalidf("PLAIN_TEXT", "%s is plain text over a network: whoever listens there reads the credential and becomes the runner", g.URL).
				WithHint("Give the gateway a certificate and use https://, or say --plain-text when something else encrypts the way.")
		}
		if g.CAFile != "" {
			return fault.Invalidf("USAGE", "--ca goes with https://, and %s is plain text", g.URL)
		}
		return nil
	}
	g.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}}
	if g.CAFile == "" {
		return nil
	}
	pem, err := os.ReadFile(g.CAFile)
	if err != nil {
		return fault.Invalidf("CA_FILE", "cannot read the CA file %s", g.CAFile).WithCause(err)
	}
	g.tls.RootCAs = x509.NewCertPool()
	if !g.tls.RootCAs.AppendCertsFromPEM(pem) {
		return fault.Invalidf("CA_FILE", "%s holds no PEM certificate", g.CAFile)
	}
	return nil
}

// at is the same gateway, at the address of one of its servers: with the same name in its certificate, and as plain text or not.
func (g *Gateway) at(address string) (*Gateway, error) {
	one := *g
	one.address, one.URL = address, g.URL+" at "+address
	host, _, err := net.SplitHostPort(address)
	// Without a certificate nothing says that it is the gateway's: --plain-text trusts the one address that it was given.
	if err != nil || g.tls == nil && !loopback(host) {
		return &one, fault.Invalidf("PLAIN_TEXT", "the gateway names a server at %s, and %s is plain text: other servers are reached on this machine only", address, g.URL).
			WithHint("Start the runner with the https:// URL of the gateway.")
	}
	return &one, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// connect makes a connection, encrypted where the URL says so.
func (g *Gateway) connect(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", g.address)
	if err != nil {
		return nil, g.unreachable(err)
	}
	if g.tls == nil {
		return conn, nil
	}
	secure := tls.Client(conn, g.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, g.unreachable(err)
	}
	return secure, nil
}

func (g *Gateway) unreachable(err error) error {
	f := fault.New(fault.Unavailable, "GATEWAY_UNREACHABLE", "cannot reach the gateway at %s: %v", g.URL, err)
	if strings.Contains(err.Error(), "x509: ") {
		return f.WithHint("Name the authority of the gateway's certificate with --ca FILE.")
	}
	if strings.Contains(err.Error(), "first record does not look like a TLS handshake") {
		return f.WithHint("The gateway speaks plain text: start it with --tls-cert and --tls-key.")
	}
	return f
}

// exchange sends a request on a new connection and returns the connection with the answer to it.
func (g *Gateway) exchange(ctx context.Context, method, path, secret string, header http.Header, body []byte) (net.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := g.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	resp, rest, err := g.send(conn, method, path, secret, header, body)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, g.unreachable(err)
	}
	return &readAhead{Conn: conn, r: rest}, resp, nil
}

func (g *Gateway) send(conn net.Conn, method, path, secret string, header http.Header, body []byte) (*http.Response, *bufio.Reader, error) {
	req, err := http.NewRequest(method, "http://"+g.host+path, bytes.NewReader(body)) //nolint:noctx // the connection has the deadline
	if err != nil {
		return nil, nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set(link.HeaderSoftware, g.Software)
	req.ContentLength = int64(len(body))
	if len(body) == 0 {
		req.Body = http.NoBody
	}
	if err := req.Write(conn); err != nil {
		return nil, nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	return resp, r, err
}

// refused reads an answer that is not what was asked for.
func (g *Gateway) refused(resp *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return g.unreachable(err)
	}
	return client.FromBody(resp.StatusCode, raw)
}

// Enrol exchanges an enrolment token for a credential.
func (g *Gateway) Enrol(ctx context.Context, token string) (*Credential, error) {
	body, err := json.Marshal(link.EnrolRequest{Identity: g.Identity, Versions: g.Versions.String(), Software: g.Software})
	if err != nil {
		return nil, fault.Internalf(err, "write the request")
	}
	conn, resp, err := g.exchange(ctx, http.MethodPost, link.EnrolPath, token, http.Header{"Content-Type": {"application/json"}}, body) //nolint:bodyclose // it is the connection, which is closed
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, g.refused(resp)
	}
	var out link.EnrolResponse
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil || out.Secret == "" || out.RunnerID == "" {
		return nil, fault.New(fault.Internal, "NOT_BERM", "the answer of %s to an enrolment cannot be read", g.URL).WithHint("Is this the URL of a Berm server?")
	}
	return &Credential{Gateway: g.URL, RunnerID: out.RunnerID, RunnerUUID: out.RunnerUUID, Identity: g.Identity, Secret: out.Secret, ExpiresAt: out.ExpiresAt}, nil
}

// line opens both connections.
func (g *Gateway) line(ctx context.Context, secret string) (control, bulk net.Conn, err error) {
	control, session, err := g.upgrade(ctx, secret, link.KindControl, "")
	if err != nil {
		return nil, nil, err
	}
	bulk, _, err = g.upgrade(ctx, secret, link.KindBulk, session)
	if err != nil {
		_ = control.Close()
		return nil, nil, err
	}
	return control, bulk, nil
}

func (g *Gateway) upgrade(ctx context.Context, secret, kind, session string) (net.Conn, string, error) {
	header := http.Header{"Connection": {"Upgrade"}, "Upgrade": {link.Protocol}}
	for k, v := range map[string]string{
		link.HeaderVersions: g.Versions.String(), link.HeaderKind: kind, link.HeaderSession: session,
		link.HeaderIdentity: g.Identity, link.HeaderInstance: g.Instance,
	} {
		header.Set(k, v)
	}
	conn, resp, err := g.exchange(ctx, http.MethodGet, link.ConnectPath, secret, header, nil) //nolint:bodyclose // it is the connection
	if err != nil {
		return nil, "", err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		return nil, "", g.refused(resp)
	}
	version, err := strconv.Atoi(resp.Header.Get(link.HeaderVersion))
	if err != nil || version < g.Versions.Min || version > g.Versions.Max || !strings.EqualFold(resp.Header.Get("Upgrade"), link.Protocol) {
		_ = conn.Close()
		return nil, "", fault.New(fault.Internal, "NOT_BERM", "%s switched to a protocol that was not asked for: %s version %s",
			g.URL, fmt.Sprintf("%.40q", resp.Header.Get("Upgrade")), fmt.Sprintf("%.20q", resp.Header.Get(link.HeaderVersion)))
	}
	return conn, resp.Header.Get(link.HeaderSession), nil
}

// readAhead is a connection of which some was read already.
type readAhead struct {
	net.Conn
	r *bufio.Reader
}

func (c *readAhead) Read(p []byte) (int, error) {
	if c.r != nil && c.r.Buffered() > 0 {
		return c.r.Read(p)
	}
	return c.Conn.Read(p)
}
