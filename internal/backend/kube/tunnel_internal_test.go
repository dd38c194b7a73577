package kube

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	frames "golang.org/x/net/websocket"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

// commands is an API server that serves the WebSocket of a command as serve says.
func commands(t *testing.T, serve func(w http.ResponseWriter, r *http.Request)) (*cluster, *url.URL) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		serve(w, r)
	}))
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL + "/exec?command=connect")
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{config: &rest.Config{Host: server.URL, BearerToken: "secret"}}, target
}

func upgraded(t *testing.T, w http.ResponseWriter, r *http.Request, protocol string) *websocket.Conn {
	u := websocket.Upgrader{Subprotocols: []string{protocol}}
	conn, err := u.Upgrade(w, r, nil)
	if err != nil {
		t.Error(err)
	}
	return conn
}

// TestTunnel: bytes go both ways, in messages of any size; what the process says on standard error is kept, and how it ended is the end.
func TestTunnel(t *testing.T) {
	for status, want := range map[string]string{
		`{"status":"Success"}`: io.EOF.Error(),
		`{"status":"Failure","message":"command terminated with exit code 1"}`: "command terminated with exit code 1",
	} {
		c, target := commands(t, func(w http.ResponseWriter, r *http.Request) {
			conn := upgraded(t, w, r, "v5.channel.k8s.io")
			defer conn.Close()
			for got := 0; got < 100_000; {
				_, m, err := conn.ReadMessage()
				if err != nil || m[0] != 0 || len(m) > tunnelMessage+1 {
					t.Errorf("a message of %d bytes for stream %d: %v", len(m), m[0], err)
					return
				}
				got += len(m) - 1
				_ = conn.WriteMessage(websocket.BinaryMessage, append([]byte{1}, m[1:]...))
			}
			_ = conn.WriteMessage(websocket.BinaryMessage, []byte{1}) // nothing is no end
			_ = conn.WriteMessage(websocket.BinaryMessage, []byte("\x02it broke"))
			_ = conn.WriteMessage(websocket.BinaryMessage, []byte("\x03"+status))
		})
		words := &words{}
		tunnel, err := c.dialTunnel(t.Context(), target, words)
		if err != nil {
			t.Fatal(err)
		}
		sent := strings.Repeat("0123456789", 10_000)
		go func() { _, _ = tunnel.Write([]byte(sent)) }()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(tunnel, got); err != nil || string(got) != sent {
			t.Fatalf("what came back is another: %v", err)
		}
		n, err := tunnel.Read(got)
		if n != 0 || err == nil || err.Error() != want {
			t.Errorf("at the end: %d bytes, %v; want %s", n, err, want)
		}
		if text := words.explain(errors.New("cut")).Error(); text != "cut: it broke" {
			t.Errorf("it said %q", text)
		}
		_ = tunnel.Close()
		if _, err := tunnel.Write([]byte("x")); err == nil {
			t.Error("a tunnel that is closed takes something")
		}
	}
}

// TestTunnelFrames: no message comes in several frames, of which the library of the API server takes each for a message.
func TestTunnelFrames(t *testing.T) {
	done := make(chan struct{})
	c, target := commands(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		(&frames.Server{
			Handshake: func(c *frames.Config, _ *http.Request) error { c.Protocol = []string{"v5.channel.k8s.io"}; return nil },
			Handler: func(conn *frames.Conn) {
				for got := 0; got < 100_000; {
					var m []byte
					if err := frames.Message.Receive(conn, &m); err != nil || len(m) < 2 || m[0] != 0 {
						t.Errorf("after %d bytes comes a frame of %d: %v", got, len(m), err)
						return
					}
					got += len(m) - 1
				}
			},
		}).ServeHTTP(w, r)
	})
	tunnel, err := c.dialTunnel(t.Context(), target, &words{})
	if err != nil {
		t.Fatal(err)
	}
	defer tunnel.Close()
	if _, err := tunnel.Write([]byte(strings.Repeat("x", 100_000))); err != nil {
		t.Error(err)
	}
	<-done
}

// TestTunnelRefused: what the API server says is the reason.
func TestTunnelRefused(t *testing.T) {
	c, target := commands(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods \"p\" is forbidden","code":403}`)
	})
	if _, err := c.dialTunnel(t.Context(), target, &words{}); err == nil || !strings.Contains(err.Error(), `403 Forbidden: pods "p" is forbidden`) {
		t.Errorf("%v", err)
	}
	c, target = commands(t, func(w http.ResponseWriter, r *http.Request) { upgraded(t, w, r, "v4.channel.k8s.io").Close() })
	if _, err := c.dialTunnel(t.Context(), target, &words{}); err == nil || !strings.Contains(err.Error(), "want v5.channel.k8s.io") {
		t.Errorf("an older server: %v", err)
	}
	c.config.BearerToken = "another"
	if _, err := c.dialTunnel(t.Context(), target, &words{}); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("a stranger: %v", err)
	}
}

// TestTrust: tunnels share what they trust, which is read again after a while, and at once where it could not be read.
func TestTrust(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	path := filepath.Join(t.TempDir(), "ca.pem")
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{}
		read := func() *tls.Config {
			got, err := c.trust(&transport.Config{TLS: transport.TLSConfig{CAFile: path}})
			if (err == nil) != (got != nil) {
				t.Errorf("%v %v", got, err)
			}
			return got
		}
		write([]byte("no certificate"))
		if read() != nil {
			t.Error("what is no certificate is trusted")
		}
		write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
		first := read()
		if first == nil || read() != first {
			t.Error("each tunnel has its own")
		}
		time.Sleep(trustFor)
		if again := read(); again == nil || again == first {
			t.Error("what changes is not read")
		}
	})
}
