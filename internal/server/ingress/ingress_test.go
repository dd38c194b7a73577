package ingress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/server/edge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sandboxes has one program listening, at every port of every sandbox.
type sandboxes struct{ address string }

func (s *sandboxes) Dial(ctx context.Context, _ core.Principal, _ string, _ int32) (backend.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { c.Close() })
	return c.(*net.TCPConn), nil
}

func (s *sandboxes) Visitor(p core.Principal, _ string, _ int32, _ bool) core.Principal { return p }

func (s *sandboxes) EnterPort(context.Context, string, string, int32) (core.Principal, string, error) {
	return core.Principal{}, "", errors.ErrUnsupported
}

func (s *sandboxes) PortPass(context.Context, string, string, int32) (core.Principal, error) {
	return core.Principal{}, errors.ErrUnsupported
}

// front is a Front whose requests may be idle for as long as said, before a program that is given each connection.
func front(t *testing.T, idle time.Duration, program func(net.Conn)) (f *Front, address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { defer c.Close(); program(c) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	chain := edge.New(edge.Config{
		Authenticate: func(context.Context, string) (core.Principal, error) {
			return core.Principal{OrgID: "o", Actor: "token:x", Role: core.RoleUser}, nil
		},
		Logger: slog.New(slog.DiscardHandler), Now: time.Now, NewID: func() string { return "id" },
	})
	f = New(Config{
		Control: &sandboxes{l.Addr().String()}, Chain: chain, OnDrain: func(func()) func() bool { return func() bool { return true } },
		Logger: slog.New(slog.DiscardHandler), Idle: idle,
	})
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return f, s.Listener.Addr().String()
}

// ask sends a request and returns the connection that its answer comes on.
func ask(t *testing.T, address, header string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET %ss/ports/80/ HTTP/1.1\r\nHost: x\r\nX-Berm-Authorization: Bearer x\r\n%s\r\n", Prefix, header)
	return c
}

// settles waits until no request is under way.
func settles(t *testing.T, f *Front) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		f.open.mu.Lock()
		all := f.open.all + len(f.open.ofOrg) + len(f.open.ofSandbox)
		f.open.mu.Unlock()
		if all == 0 {
			return
		}
	}
	t.Fatal("a request is under way for ever")
}

// TestSilence: a program that never answers is waited for no longer than may be, and its caller is told.
func TestSilence(t *testing.T) {
	f, address := front(t, 50*time.Millisecond, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	resp, err := http.ReadResponse(bufio.NewReader(ask(t, address, "")), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusGatewayTimeout || resp.Header.Get("X-Berm-Error") != reasonPortIdle || !strings.Contains(string(text), "50ms") {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, text)
	}
	settles(t, f)
}

// TestWhoNeverReads: a caller that takes nothing holds up the program, and in the end nothing, whatever protocol it asked for.
func TestWhoNeverReads(t *testing.T) {
	const most = 256 << 20 // sockets on the way hold some MiB each
	for name, header := range map[string]string{"answer": "", "upgrade": "Connection: Upgrade\r\nUpgrade: x\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			f, address := front(t, 3*time.Second, func(c net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				if begin := "HTTP/1.1 200 OK\r\n\r\n"; header == "" {
					_, _ = io.WriteString(c, begin)
				} else {
					_, _ = io.WriteString(c, "HTTP/1.1 101 x\r\n"+header+"\r\n")
				}
				for block := make([]byte, 64<<10); sent.Load() < most; {
					n, err := c.Write(block)
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			})
			ask(t, address, header)
			for end := time.Now().Add(time.Minute); sent.Load() == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
				continue // until the request is under way
			}
			settles(t, f)
			if sent.Load() == 0 || sent.Load() >= most {
				t.Errorf("%d bytes were taken from the program for a caller that read nothing", sent.Load())
			}
		})
	}
}

// TestWhoNeverWrites: a body that does not come is not waited for for ever.
func TestWhoNeverWrites(t *testing.T) {
	f, address := front(t, 50*time.Millisecond, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	c := ask(t, address, "Content-Length: 10\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("%d", resp.StatusCode)
		}
	}
	settles(t, f)
}

// TestHalves: of a connection that changed its protocol, each half ends by itself.
func TestHalves(t *testing.T) {
	f, address := front(t, time.Minute, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		all, err := io.ReadAll(r) // until the caller's half has ended
		if err == nil {
			fmt.Fprintf(c, "%d bytes", len(all))
		}
	})
	c := ask(t, address, "Connection: Upgrade\r\nUpgrade: x\r\n")
	r := bufio.NewReader(c)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	_, _ = io.WriteString(c, "hello")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "5 bytes" {
		t.Errorf("%q, %v", got, err)
	}
	settles(t, f)
}

func TestParseBase(t *testing.T) {
	for text, want := range map[string]string{
		"https://Ports.Example.com": "80-x.ports.example.com", "https://p.example:443/": "80-x.p.example", "http://p.example:443": "80-x.p.example:443",
		"http://localhost:7070": "80-x.localhost:7070", "https://p.example.": "80-x.p.example",
		"ports.example.com": "", "ftp://p.example": "", "https://p.example/x": "", "https://u@p.example": "", "https://": "", "http://127.0.0.1:1": "",
		"https://[::1]": "", "https://*.p.example": "", "https://p.example:99999": "", "https://p.example?x": "", "https://.example": "",
	} {
		b, err := ParseBase(text)
		if (err == nil) != (want != "") {
			t.Errorf("%s: %v", text, err)
		} else if err == nil && b.Host("x", 80) != want {
			t.Errorf("%s: %s, want %s", text, b.Host("x", 80), want)
		}
	}
}

// TestHosts: which port a Host header names, if any, however it is written.
func TestHosts(t *testing.T) {
	b, err := ParseBase("https://p.example")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]target{
		"80-a-b.p.example": {id: "a-b", port: 80}, "80-A-b.P.EXAMPLE.:8443": {id: "a-b", port: 80},
		"x.p.example": {}, "080-a.p.example": {}, "0-a.p.example": {}, "65536-a.p.example": {}, "80-.p.example": {}, "80-a.b.p.example": {},
		"+80-a.p.example": {}, "80-a.p.example..": {id: "a", port: 80}, "80-a.p.example:1:2": {id: "a", port: 80},
	} {
		if !b.has(host) {
			t.Errorf("%s is not taken", host)
		}
		got, ok := b.target(host)
		if ok != (want.id != "") || ok && *got != want {
			t.Errorf("%s: %v, %v", host, got, ok)
		}
	}
	for _, host := range []string{"p.example", "80-a.p.example.org", "80-ap.example", "", "127.0.0.1:7070", "[::1]:7070"} {
		if b.has(host) || (*Base)(nil).has(host) {
			t.Errorf("%s is taken", host)
		}
	}
}

// TestHostCookies: no cookie of a sandbox is for more than its host, or has the name of Berm's.
func TestHostCookies(t *testing.T) {
	for line, want := range map[string]string{
		"a=1": "a=1", "a=1; Domain=p.example; Path=/; Priority=High": "a=1; Path=/; Priority=High", "a=1;DOMAIN = x": "a=1", "a=1; domain": "a=1",
		"Domain=1; Path=/": "Domain=1; Path=/", "berm-port=x": "", " __Host-berm-port =x": "",
	} {
		if got := strings.Join(hostCookies([]string{line}), "|"); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
