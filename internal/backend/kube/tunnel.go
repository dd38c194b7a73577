package kube

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/transport"
)

const (
	// pingInterval is how often an API server is asked whether a tunnel is still there, pingSilence how long it may not answer.
	pingInterval = 20 * time.Second
	pingSilence  = 65 * time.Second
	// tunnelBuffer is what each tunnel reads the headers of messages into, in bytes: what is read of a message in larger pieces passes it by.
	tunnelBuffer = 512
	// tunnelMessage is the most that one message brings, in bytes. What is written needs room for all of a message, but only while it is:
	// the API server takes each frame for a message, so that none may come in two.
	tunnelMessage = 32 << 10
	// trustFor is how long what a configuration says of trust is not read again.
	trustFor = 10 * time.Second
	// maxAnswer is how much of a refusal is read, in bytes.
	maxAnswer = 64 << 10
)

// tunnel is the standard input and output of a process in a container: a WebSocket of the API server, whose messages begin with the
// number of a stream. There is one for each sandbox that runs, nearly all of them idle; so it is made of the WebSocket alone. What the
// client library has for it, remotecommand, keeps four copies of 32 KiB and eight goroutines for each.
type tunnel struct {
	*websocket.Conn
	words *words

	// in is what is left of a message of standard output. Only its reader touches it.
	in io.Reader
	// writing orders messages.
	writing sync.Mutex
}

var _ net.Conn = (*tunnel)(nil)

// tunnelWrites are the buffers of those that write just now.
var tunnelWrites sync.Pool //nolint:gochecknoglobals // a pool is for all

// upgrade is an http.RoundTripper, so that what the configuration puts around one, credentials for instance, is around it.
type upgrade struct {
	dialer websocket.Dialer
	conn   *websocket.Conn
}

// RoundTrip implements http.RoundTripper.
func (u *upgrade) RoundTrip(r *http.Request) (*http.Response, error) {
	target := *r.URL
	target.Scheme = map[string]string{"https": "wss", "http": "ws"}[target.Scheme]
	conn, resp, err := u.dialer.DialContext(r.Context(), target.String(), r.Header)
	u.conn = conn
	if err == nil || resp == nil {
		return resp, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	var status metav1.Status
	if json.Unmarshal(text, &status) == nil && status.Message != "" {
		text = []byte(status.Message)
	}
	return nil, fmt.Errorf("%w: %s: %.*s", err, resp.Status, maxWords, text)
}

// dialTunnel opens a tunnel to a process that a URL of the API server starts. ctx is for the opening.
func (c *cluster) dialTunnel(ctx context.Context, target *url.URL, words *words) (*tunnel, error) {
	cfg, err := c.config.TransportConfig()
	if err != nil {
		return nil, err
	}
	proxy := c.config.Proxy
	if proxy == nil {
		proxy = utilnet.NewProxierWithNoProxyCIDR(http.ProxyFromEnvironment)
	}
	u := &upgrade{dialer: websocket.Dialer{
		Proxy: proxy, Subprotocols: []string{remotecommand.StreamProtocolV5Name},
		ReadBufferSize: tunnelBuffer, WriteBufferSize: 1 + tunnelMessage, WriteBufferPool: &tunnelWrites,
	}}
	if u.dialer.TLSClientConfig, err = c.trust(cfg); err != nil {
		return nil, err
	}
	way, err := transport.HTTPWrappersForConfig(cfg, u)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := way.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	if got := u.conn.Subprotocol(); got != remotecommand.StreamProtocolV5Name {
		_ = u.conn.Close()
		return nil, fmt.Errorf("the API server speaks %q of commands, want %s: it is older than Kubernetes 1.30", got, remotecommand.StreamProtocolV5Name)
	}
	return newTunnel(u.conn, words), nil
}

// trust returns whom tunnels trust, and how they say who they are. The authorities are read from the configuration once in trustFor: each tunnel
// would have a copy of its own, and an account's may be others by and by.
func (c *cluster) trust(cfg *transport.Config) (*tls.Config, error) {
	c.trusting.Lock()
	defer c.trusting.Unlock()
	if c.trusted != nil && time.Since(c.trustedAt) < trustFor {
		return c.trusted, nil
	}
	trusted, err := transport.TLSConfigFor(cfg)
	if err == nil {
		c.trusted, c.trustedAt = trusted, time.Now()
	}
	return trusted, err
}

func newTunnel(conn *websocket.Conn, words *words) *tunnel {
	t := &tunnel{Conn: conn, words: words}
	alive := func(string) error { return conn.SetReadDeadline(time.Now().Add(pingSilence)) }
	conn.SetPongHandler(alive)
	_ = alive("") // It is the first to read.
	time.AfterFunc(pingInterval, t.ping)
	return t
}

// ping asks for a sign of life, again and again until the connection has ended.
func (t *tunnel) ping() {
	if t.WriteControl(websocket.PingMessage, nil, time.Now().Add(pingInterval)) == nil {
		time.AfterFunc(pingInterval, t.ping)
	}
}

// Read implements net.Conn: it reads standard output. What comes on other streams goes to words; the end of the process is the end.
func (t *tunnel) Read(p []byte) (int, error) {
	for {
		if t.in != nil {
			n, err := t.in.Read(p)
			if errors.Is(err, io.EOF) {
				t.in, err = nil, nil
			}
			if n > 0 || err != nil || len(p) == 0 {
				return n, err
			}
			continue
		}
		_, message, err := t.NextReader()
		var stream [1]byte
		if err == nil {
			_, err = io.ReadFull(message, stream[:])
		}
		if err == nil {
			switch stream[0] {
			case remotecommand.StreamStdOut:
				t.in = message
			case remotecommand.StreamStdErr:
				_, err = io.Copy(t.words, message)
			case remotecommand.StreamErr:
				err = outcome(message)
			}
		}
		if err != nil {
			return 0, err
		}
	}
}

// outcome reads how a process ended.
func outcome(message io.Reader) error {
	var status metav1.Status
	if err := json.NewDecoder(io.LimitReader(message, maxAnswer)).Decode(&status); err != nil {
		return fmt.Errorf("how the process ended cannot be read: %w", err)
	}
	if status.Status != metav1.StatusSuccess {
		return errors.New(status.Message)
	}
	return io.EOF
}

// Write implements net.Conn: it writes to standard input.
func (t *tunnel) Write(p []byte) (n int, err error) {
	t.writing.Lock()
	defer t.writing.Unlock()
	for len(p) > 0 && err == nil {
		piece := p[:min(len(p), tunnelMessage)]
		var w io.WriteCloser
		if w, err = t.NextWriter(websocket.BinaryMessage); err != nil {
			break
		}
		if _, err = w.Write([]byte{remotecommand.StreamStdIn}); err == nil {
			_, err = w.Write(piece)
		}
		if err = errors.Join(err, w.Close()); err == nil {
			n, p = n+len(piece), p[len(piece):]
		}
	}
	return n, err
}

// SetDeadline implements net.Conn.
func (t *tunnel) SetDeadline(at time.Time) error {
	return errors.Join(t.SetReadDeadline(at), t.SetWriteDeadline(at))
}
