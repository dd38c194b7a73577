package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/server"
	"github.com/bermhq/berm/internal/server/ingress"
)

// site is a sandbox with a program that speaks HTTP at its port 80.
type site struct {
	*world
	id string
	// seen are the requests that came, newest last.
	seen chan *http.Request
	// path and host are where the port is.
	path, host string
	// listens is where the program is on this machine.
	listens string
}

// newSite starts a server with hosts of ports, and a sandbox where h listens.
func newSite(t *testing.T, h http.HandlerFunc) *site {
	t.Helper()
	return newSiteAt(t, "http://ports.example", h)
}

func newSiteAt(t *testing.T, at string, h http.HandlerFunc) *site {
	t.Helper()
	base, err := ingress.ParseBase(at)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldWith(t, server.Config{Ports: base})
	s := &site{world: w, id: w.idle(), seen: make(chan *http.Request, 100)}
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.seen <- r.Clone(context.WithoutCancel(r.Context()))
		h(w, r)
	}))
	t.Cleanup(program.Close)
	s.listens = program.Listener.Addr().String()
	w.fakes["r1"].Listen(s.id, 80, s.listens)
	s.path = "/berm/v1/sandboxes/" + s.id + "/ports/80"
	s.host = base.Host(s.id, 80)
	return s
}

// request makes a request for a path of the server; with a host, for that host.
func (s *site) request(method, host, path string, body io.Reader, header ...string) *http.Request {
	s.Helper()
	r, err := http.NewRequestWithContext(s.ctx(), method, s.url+path, body)
	s.must(err)
	r.Host = host
	r.Header.Set("Authorization", "Bearer "+s.user)
	for i := 0; i+1 < len(header); i += 2 {
		if r.Header.Del(header[i]); header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	return r
}

// do sends a request and follows nothing.
func (s *site) do(r *http.Request) (*http.Response, string) {
	s.Helper()
	resp, err := s.http.Transport.RoundTrip(r)
	s.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	s.must(err)
	return resp, string(text)
}

// refused checks an error of the gateway's own.
func (s *site) refused(name string, r *http.Request, status int, reason, says string) {
	s.Helper()
	resp, text := s.do(r)
	if resp.StatusCode != status || resp.Header.Get("X-Berm-Error") != reason || !strings.Contains(text, says) {
		s.Errorf("%s: %d, X-Berm-Error %q, %s", name, resp.StatusCode, resp.Header.Get("X-Berm-Error"), text)
	}
}

// TestPortOverHTTP: what a program in a sandbox is told, and what its caller is, at a path and at a host.
func TestPortOverHTTP(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := w.Header()
		h.Add("Set-Cookie", "session=1; Domain=ports.example; Path=/")
		h.Add("Set-Cookie", "__Host-berm-port=forged; Path=/; Secure")
		h.Set("X-Berm-Error", "FORGED")
		h.Set("Clear-Site-Data", `"cookies"`)
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Location", "/login")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
	})
	for _, c := range []struct {
		name, host, path, mount        string
		cookies, location, seenCookies string
		seenHost, proto                string
	}{
		{name: "path", path: s.path, location: s.path + "/login", mount: s.path, seenHost: "localhost:80"},
		{name: "host", host: s.host, cookies: "session=1; Path=/", location: "/login", seenCookies: "app=1", seenHost: s.host},
	} {
		resp, text := s.do(s.request(http.MethodPost, c.host, c.path+"/a%2Fb/../c;x?q=1;2&%zz", strings.NewReader("hello"),
			"Cookie", "app=1; berm-port=stolen", "X-Forwarded-For", "192.0.2.1", "X-Forwarded-Host", "spoofed", "Forwarded", "for=192.0.2.1",
			"X-Berm-Authorization", "", "X-Berm-Secret", "x", "Connection", "x-hop", "X-Hop", "1", "X-App", "kept"))
		if resp.StatusCode != http.StatusTeapot || text != "POST /a%2Fb/../c;x?q=1;2&%zz hello" {
			t.Errorf("%s: %d %q", c.name, resp.StatusCode, text)
		}
		if got := strings.Join(resp.Header.Values("Set-Cookie"), ", "); got != c.cookies {
			t.Errorf("%s: cookies %q", c.name, got)
		}
		if resp.Header.Get("X-Berm-Error") != "" || resp.Header.Get("Clear-Site-Data") != "" || resp.Header.Get("Location") != c.location {
			t.Errorf("%s: headers %v", c.name, resp.Header)
		}
		onPath := c.mount != ""
		if sandboxed := resp.Header.Get("Content-Security-Policy") == "sandbox" && resp.Header.Get("Access-Control-Allow-Origin") == ""; sandboxed != onPath {
			t.Errorf("%s: headers %v", c.name, resp.Header)
		}
		r := <-s.seen
		for name, want := range map[string]string{
			"Authorization": "", "X-Berm-Secret": "", "X-Hop": "", "Forwarded": "", "X-App": "kept", "Cookie": c.seenCookies,
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": c.mount,
		} {
			if got := strings.Join(r.Header.Values(name), ", "); got != want {
				t.Errorf("%s: the program sees %s: %q, want %q", c.name, name, got, want)
			}
		}
		if r.Host != c.seenHost || r.Header.Get("X-Forwarded-Host") == "spoofed" {
			t.Errorf("%s: the program sees host %q, forwarded %q", c.name, r.Host, r.Header.Get("X-Forwarded-Host"))
		}
	}
}

// TestPortCredentials: a token reaches no sandbox, whichever header it is in, and the Authorization of a program does.
func TestPortCredentials(t *testing.T) {
	s := newSite(t, func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct{ name, authorization, own, seen string }{
		{"in Authorization", "Bearer " + s.user, "", ""},
		{"beside the program's", "Basic YTpi", "Bearer " + s.user, "Basic YTpi"},
		{"in both", "Bearer " + s.user, "Bearer " + s.user, ""},
		{"another one in Authorization", "Bearer " + s.admin, "Bearer " + s.user, ""},
	} {
		resp, text := s.do(s.request(http.MethodGet, "", s.path+"/", nil, "Authorization", c.authorization, "X-Berm-Authorization", c.own))
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", c.name, resp.StatusCode, text)
		}
		r := <-s.seen
		if r.Header.Get("Authorization") != c.seen || r.Header.Get("X-Berm-Authorization") != "" {
			t.Errorf("%s: the program sees %v", c.name, r.Header)
		}
	}
	for _, host := range []string{"", s.host} {
		path := s.path + "/"
		if host != "" {
			path = "/"
		}
		s.refused("no token", s.request(http.MethodGet, host, path, nil, "Authorization", ""), http.StatusUnauthorized, "TOKEN_INVALID", "")
		s.refused("a token that is none", s.request(http.MethodGet, host, path, nil, "Authorization", "Bearer nobody"), http.StatusUnauthorized, "TOKEN_INVALID", "")
		s.refused("another organization's", s.request(http.MethodGet, host, path, nil, "Authorization", "Bearer "+s.newOrg("other"+host)), http.StatusNotFound, "CWSANDBOX_SANDBOX_NOT_FOUND", "")
	}
	if len(s.seen) > 0 {
		t.Error("a request that was refused reached the program")
	}
}

// TestPortRefusals: what the gateway cannot have answered, it answers itself, recognizably.
func TestPortRefusals(t *testing.T) {
	s := newSite(t, func(http.ResponseWriter, *http.Request) {})
	get := func(path string) *http.Request { return s.request(http.MethodGet, "", path, nil) }
	ports := "/berm/v1/sandboxes/" + s.id + "/ports/"
	s.refused("nothing listens", get(ports+"81/"), http.StatusBadGateway, "PORT_CLOSED", "nothing listens on port 81")
	s.refused("no number", get(ports+"eighty/"), http.StatusBadRequest, "CWSANDBOX_INVALID_REQUEST", "must be from 1 to 65535")
	s.refused("another spelling", get(ports+"080/"), http.StatusBadRequest, "CWSANDBOX_INVALID_REQUEST", "must be from 1 to 65535")
	s.refused("no sandbox", get("/berm/v1/sandboxes/00000000-0000-0000-0000-000000000000/ports/80/"), http.StatusNotFound, "CWSANDBOX_SANDBOX_NOT_FOUND", "")
	s.refused("a host of nothing", s.request(http.MethodGet, "www.ports.example", "/readyz", nil), http.StatusNotFound, "PATH_NOT_FOUND", "no port has the host")
	s.refused("a host with the API's path", s.request(http.MethodGet, strings.Replace(s.host, "80-", "81-", 1), "/berm/v1/whoami", nil), http.StatusBadGateway, "PORT_CLOSED", "")
	s.refused("TRACE", s.request(http.MethodTrace, "", ports+"80/", nil), http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "")
	s.refused("gRPC", s.request(http.MethodPost, s.host, "/x.Y/Z", nil, "Content-Type", "application/grpc"), http.StatusUnsupportedMediaType, "CWSANDBOX_INVALID_REQUEST", "port-forward")

	resp, err := s.http.Transport.RoundTrip(s.request(http.MethodGet, "", s.path+"/", nil, "X-Large", strings.Repeat("x", 1<<20)))
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of 1 MiB: %d", resp.StatusCode)
		}
	} // else the connection was closed while it was sent

	for name, says := range map[string]string{"another protocol": "SSH-2.0-x\r\n", "nothing": "", "a header without end": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)} {
		s.fakes["r1"].Listen(s.id, 82, speaks(t, says))
		s.refused(name, get(ports+"82/"), http.StatusBadGateway, "PORT_ANSWER_INVALID", "no valid HTTP answer")
	}
	// An answer that breaks off is not taken for a whole one.
	s.fakes["r1"].Listen(s.id, 83, speaks(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"))
	resp, err = s.http.Transport.RoundTrip(get(ports + "83/"))
	s.must(err)
	if got, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("half of an answer: %q", got)
	}
	resp.Body.Close()

	_, err = s.gateway().Stop(s.ctx(), &v1beta2pb.StopSandboxRequest{SandboxId: s.id})
	s.must(err)
	s.refused("a sandbox that ended", get(ports+"80/"), http.StatusServiceUnavailable, "CWSANDBOX_SANDBOX_NOT_RUNNING", "")
}

// speaks listens, and says the same to whoever connects once something came.
func speaks(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	t.Cleanup(func() { l.Close(); open.Wait() })
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, text)
				}
			})
		}
	})
	return l.Addr().String()
}

// TestPortStreams: bytes pass in both directions as they come, over HTTP/1.1 and HTTP/2.
func TestPortStreams(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		buf := make([]byte, 64)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(bytes.ToUpper(buf[:n]))
			_ = rc.Flush()
			if err != nil {
				return
			}
		}
	})
	two := &http.Protocols{}
	two.SetUnencryptedHTTP2(true)
	for version, transport := range map[int]*http.Transport{1: {}, 2: {Protocols: two}} {
		defer transport.CloseIdleConnections()
		body, in := io.Pipe()
		defer in.Close()
		go func() { _, _ = in.Write([]byte("first ")) }()
		resp, err := transport.RoundTrip(s.request(http.MethodPost, s.host, "/", body))
		s.must(err)
		defer resp.Body.Close()
		if resp.ProtoMajor != version {
			t.Errorf("HTTP/%d was wanted, %s came", version, resp.Proto)
		}
		// The first bytes are answered while the request goes on.
		for _, part := range []string{"first ", "second ", "third"} {
			if part != "first " {
				_, err := io.WriteString(in, part)
				s.must(err)
			}
			got := make([]byte, len(part))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != strings.ToUpper(part) {
				t.Fatalf("HTTP/%d: %q, %v", version, got, err)
			}
		}
		in.Close()
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
			t.Errorf("HTTP/%d: %q, %v", version, rest, err)
		}
	}
}

// echoes sends back each message that comes.
func echoes(c *websocket.Conn) {
	for {
		var text string
		if websocket.Message.Receive(c, &text) != nil || websocket.Message.Send(c, text) != nil {
			return
		}
	}
}

// TestPortWebSocket: a connection that changes its protocol goes both ways, and ends with its sandbox or its server.
func TestPortWebSocket(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		websocket.Handler(echoes).ServeHTTP(w, r)
	})
	connect := func(address string) *websocket.Conn {
		t.Helper()
		at, err := url.Parse("ws://" + address)
		s.must(err)
		c, err := net.Dial("tcp", s.addr)
		s.must(err)
		t.Cleanup(func() { c.Close() })
		ws, err := websocket.NewClient(&websocket.Config{
			Location: at, Origin: &url.URL{Scheme: "http", Host: at.Host}, Version: websocket.ProtocolVersionHybi13,
			Header: http.Header{"Authorization": {"Bearer " + s.user}},
		}, c)
		s.must(err)
		return ws
	}
	echo := func(ws *websocket.Conn, text string) {
		t.Helper()
		s.must(websocket.Message.Send(ws, text))
		var got string
		if err := websocket.Message.Receive(ws, &got); err != nil || got != text {
			t.Fatalf("%d bytes came of %d, %v", len(got), len(text), err)
		}
	}
	one, two := connect(s.addr+s.path+"/"), connect(s.host+"/")
	for _, ws := range []*websocket.Conn{one, two} {
		echo(ws, "hello")
		echo(ws, strings.Repeat("x", 1<<20))
	}
	_, err := s.gateway().Stop(s.ctx(), &v1beta2pb.StopSandboxRequest{SandboxId: s.id})
	s.must(err)
	for _, ws := range []*websocket.Conn{one, two} {
		var got string
		if err := websocket.Message.Receive(ws, &got); err == nil {
			t.Errorf("a connection to a sandbox that ended says %q", got)
		}
	}
}

// TestPortUpgradeEndsWithServer: an open connection does not keep a server from ending.
func TestPortUpgradeEndsWithServer(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		websocket.Handler(echoes).ServeHTTP(w, r)
	})
	c, err := net.Dial("tcp", s.addr)
	s.must(err)
	defer c.Close()
	fmt.Fprintf(c, "GET %s/ HTTP/1.1\r\nHost: x\r\nOrigin: http://localhost\r\nAuthorization: Bearer %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\r\n\r\n", s.path, s.user)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	s.must(err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%d", resp.StatusCode)
	}
	ctx, cancel := context.WithTimeout(s.ctx(), time.Minute)
	defer cancel()
	s.must(s.srv.Shutdown(ctx))
	if _, err := r.ReadByte(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the connection goes on: %v", err)
	}
}

// TestPortCrowd: many at once each get their own answer, and one more than may be is told so.
func TestPortCrowd(t *testing.T) {
	release := make(chan struct{})
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			_ = http.NewResponseController(w).Flush()
			<-release
		}
		_, _ = io.WriteString(w, r.URL.RawQuery)
	})
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			resp, err := s.http.Transport.RoundTrip(s.request(http.MethodGet, "", fmt.Sprintf("%s/?%d", s.path, i), nil))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if text, err := io.ReadAll(resp.Body); err != nil || string(text) != fmt.Sprint(i) {
				t.Errorf("request %d: %q, %v", i, text, err)
			}
		})
	}
	all.Wait()
	var waiting []*http.Response
	defer func() {
		close(release)
		for _, r := range waiting {
			r.Body.Close()
		}
	}()
	go func() {
		for range s.seen {
			continue // nobody looks at them
		}
	}()
	defer close(s.seen)
	for range ingress.MaxOpenOfSandbox {
		resp, err := s.http.Transport.RoundTrip(s.request(http.MethodGet, "", s.path+"/wait", nil))
		s.must(err)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("request %d: %d", len(waiting), resp.StatusCode)
		}
		waiting = append(waiting, resp)
	}
	s.refused("one more", s.request(http.MethodGet, "", s.path+"/", nil), http.StatusTooManyRequests, "LIMIT_EXCEEDED", "requests to ports of this sandbox")
}

// TestExposedPorts: an exposed port has an address, and who comes to it besides those who may connect to any is its mode's to say.
func TestExposedPorts(t *testing.T) {
	s := newSite(t, func(http.ResponseWriter, *http.Request) {})
	s.call(s.admin, http.MethodPatch, "/v1beta2/sandbox/profile-templates/"+s.profile, object{"profileTemplate": object{"spec": object{"network": object{
		"egress": object{"default": "none", "modes": object{"none": object{"type": "none"}}},
		"ingress": object{"modes": object{
			"public": object{"scope": "any", "expectsExternalAddress": true}, "inside": object{"scope": "any"}, "own": object{"scope": "org"},
		}},
	}}}}).want(http.StatusOK)
	stranger := s.newOrg("stranger")
	for mode, want := range map[string]struct{ strangers, nobody bool }{"public": {true, true}, "inside": {true, false}, "own": {false, false}} {
		started, err := s.gateway().Start(s.ctx(), &v1beta2pb.StartSandboxRequest{
			Command: "sleep", Args: []string{"infinity"}, Ports: []*v1beta2pb.Port{{ContainerPort: 80}, {ContainerPort: 81}},
			Network: &v1beta2pb.NetworkOptions{IngressMode: mode, ExposedPorts: []int32{80}},
		})
		s.must(err)
		id := started.GetSandboxId()
		// Published clients look at the answer to the launch alone.
		if started.GetServiceAddress() != "80-"+id+".ports.example" || len(started.GetExposedPorts()) != 1 || started.GetExposedPorts()[0].GetContainerPort() != 80 {
			t.Fatalf("%s, when it was launched: %v", mode, started)
		}
		s.running(id)
		s.fakes["r1"].Listen(id, 80, s.listens)
		s.fakes["r1"].Listen(id, 81, s.listens)
		got, err := s.gateway().Get(s.ctx(), &v1beta2pb.GetSandboxRequest{SandboxId: id})
		s.must(err)
		if host := "80-" + id + ".ports.example"; got.GetServiceAddress() != host || len(got.GetExposedPorts()) != 1 || got.GetExposedPorts()[0].GetContainerPort() != 80 {
			t.Fatalf("%s: %v", mode, got)
		}
		visits := func(who string, reaches bool, host, path, token, basic string) {
			t.Helper()
			resp, text := s.do(s.request(http.MethodGet, host, path, nil, "Authorization", basic, "X-Berm-Authorization", token))
			if reached := resp.StatusCode == http.StatusOK; reached != reaches {
				t.Errorf("%s: %s gets %d %s", mode, who, resp.StatusCode, text)
			} else if reached {
				if r := <-s.seen; r.Header.Get("Authorization") != basic || r.Header.Get("X-Berm-Authorization") != "" {
					t.Errorf("%s: %s: the program sees %v", mode, who, r.Header)
				}
			}
		}
		ports := "/berm/v1/sandboxes/" + id + "/ports/"
		visits("the owner", true, got.GetServiceAddress(), "/", "Bearer "+s.user, "")
		visits("a stranger", want.strangers, got.GetServiceAddress(), "/", "Bearer "+stranger, "")
		visits("a stranger at the path", want.strangers, "", ports+"80/", "Bearer "+stranger, "")
		visits("a stranger at another port", false, "", ports+"81/", "Bearer "+stranger, "")
		visits("the owner at another port", true, "", ports+"81/", "Bearer "+s.user, "")
		visits("nobody", want.nobody, got.GetServiceAddress(), "/", "", "")
		visits("nobody, with a password of the program's", want.nobody, got.GetServiceAddress(), "/", "", "Basic YTpi")
		visits("a wrong token", false, got.GetServiceAddress(), "/", "Bearer berm_x", "")
		visits("nobody at the path", false, "", ports+"80/", "", "")
		visits("nobody at another port", false, strings.Replace(got.GetServiceAddress(), "80-", "81-", 1), "/", "", "")
	}
}

// link makes a link to the port, and returns what the gateway answers to who follows it.
func (s *site) link(token string) (follow func(method string) *http.Response, url string) {
	s.Helper()
	made := s.call(token, http.MethodPost, "/berm/v1/sandboxes/"+s.id+":port-link", object{"port": 80}).want(http.StatusOK)
	at, path, _ := strings.Cut(made.text("url"), "/.berm/")
	return func(method string) *http.Response {
		s.Helper()
		resp, _ := s.do(s.request(method, s.host, "/.berm/"+path, nil, "Authorization", ""))
		return resp
	}, at
}

// TestPortLinks: a link lets a browser in once, to one port, for as long as its token is valid; what the browser gets for it is of no use
// elsewhere, nor to pages of other origins.
func TestPortLinks(t *testing.T) {
	s := newSiteAt(t, "http://ports.localhost:7070", func(http.ResponseWriter, *http.Request) {})
	token := s.newToken(s.admin, "", "browser", "user")
	follow, at := s.link(token)
	if at != "http://"+s.host {
		t.Errorf("the link is to %s, the port is at %s", at, s.host)
	}
	if resp := follow(http.MethodHead); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %d", resp.StatusCode)
	}
	resp := follow(http.MethodGet)
	cookies := resp.Cookies()
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/" || len(cookies) != 1 {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	c := cookies[0]
	if c.Name != "berm-port" || c.Domain != "" || c.Path != "/" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("the cookie is %v", c)
	}
	if resp := follow(http.MethodGet); resp.StatusCode != http.StatusUnauthorized || len(resp.Cookies()) > 0 {
		t.Errorf("a second time: %d %v", resp.StatusCode, resp.Header)
	}

	asks := func(name string, want int, method, host, path, value string, header ...string) {
		t.Helper()
		resp, text := s.do(s.request(method, host, path, nil, append([]string{"Authorization", "", "Cookie", "app=1; berm-port=tossed; berm-port=" + value}, header...)...))
		if resp.StatusCode != want {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
		if resp.StatusCode == http.StatusOK {
			if r := <-s.seen; r.Header.Get("Cookie") != "app=1" {
				t.Errorf("%s: the program sees cookies %q", name, r.Header.Get("Cookie"))
			}
		}
	}
	const ok, no, refused = http.StatusOK, http.StatusUnauthorized, http.StatusForbidden
	get, post := http.MethodGet, http.MethodPost
	own, other := "http://"+s.host, "http://80-other.ports.localhost:7070"
	asks("typed", ok, get, s.host, "/", c.Value, "Sec-Fetch-Site", "none")
	asks("without a word of where it comes from", refused, get, s.host, "/", c.Value)
	asks("its own page, by its address", ok, get, s.host, "/", c.Value, "Referer", own+"/page")
	asks("another page, by its address", refused, get, s.host, "/", c.Value, "Referer", other+"/page")
	asks("its own page", ok, post, s.host, "/", c.Value, "Sec-Fetch-Site", "same-origin", "Origin", own)
	asks("its own page, of an older browser", ok, post, s.host, "/", c.Value, "Origin", own)
	asks("a link on another page", ok, get, s.host, "/", c.Value, "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
	asks("a form on another page", refused, post, s.host, "/", c.Value, "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
	asks("a frame in another page", refused, get, s.host, "/", c.Value, "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe")
	asks("a script of another page", refused, get, s.host, "/", c.Value, "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script")
	asks("a page far away", refused, get, s.host, "/", c.Value, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors")
	asks("a WebSocket of another page", refused, get, s.host, "/", c.Value, "Origin", other)
	asks("no origin", refused, post, s.host, "/", c.Value, "Origin", "null")
	asks("another port", no, get, strings.Replace(s.host, "80-", "81-", 1), "/", c.Value)
	asks("another sandbox", no, get, strings.Replace(s.host, s.id, s.idle(), 1), "/", c.Value)
	asks("the path", no, get, "", s.path+"/", c.Value)
	asks("a forged one", no, get, s.host, "/", c.Value[:len(c.Value)-2]+"AA")
	asks("a forged body", no, get, s.host, "/", "e30"+c.Value[3:])
	asks("none", no, get, s.host, "/", "")
	asks("behind many that others set", no, get, s.host, "/", strings.Repeat("tossed; berm-port=", 8)+c.Value, "Sec-Fetch-Site", "none")
	resp, _ = s.do(s.request(get, s.host, "/.berm/enter?pass="+c.Value, nil, "Authorization", ""))
	if resp.StatusCode != no {
		t.Errorf("the cookie as a link: %d", resp.StatusCode)
	}
	if resp, _ := s.do(s.request(get, s.host, "/.berm/enter?pass="+strings.Repeat("x", 10_000), nil, "Authorization", "")); resp.StatusCode != no {
		t.Errorf("a long link: %d", resp.StatusCode)
	}

	s.call(s.newOrg("other"), post, "/berm/v1/sandboxes/"+s.id+":port-link", object{"port": 80}).want(http.StatusNotFound)
	s.call(s.user, post, "/berm/v1/sandboxes/"+s.id+":port-link", object{"port": 0}).want(http.StatusBadRequest)

	unused, _ := s.link(token)
	tokens := s.call(s.admin, get, "/berm/v1/tokens", nil).want(http.StatusOK)
	for _, one := range tokens.at("tokens").([]any) {
		if one := one.(object); one["name"] == "browser" {
			s.call(s.admin, http.MethodDelete, "/berm/v1/tokens/"+one["id"].(string), nil).want(http.StatusOK)
		}
	}
	asks("a revoked token's", no, get, s.host, "/", c.Value)
	if resp := unused(get); resp.StatusCode != no {
		t.Errorf("a link of a revoked token: %d", resp.StatusCode)
	}
}

// TestPortLinksNeedTrust: over TLS no other host can set the cookie; without, a browser is let in to localhost alone.
func TestPortLinksNeedTrust(t *testing.T) {
	s := newSiteAt(t, "https://ports.example", func(http.ResponseWriter, *http.Request) {})
	follow, _ := s.link(s.user)
	if c := follow(http.MethodGet).Cookies(); len(c) != 1 || c[0].Name != "__Host-berm-port" || !c[0].Secure {
		t.Errorf("the cookie is %v", c)
	}
	plain := newSite(t, func(http.ResponseWriter, *http.Request) {})
	a := plain.call(plain.user, http.MethodPost, "/berm/v1/sandboxes/"+plain.id+":port-link", object{"port": 80}).want(http.StatusBadRequest)
	if a.reason() != "PORT_LINK_UNAVAILABLE" {
		t.Errorf("without TLS: %s", a.raw)
	}
	none := newWorld(t)
	if a := none.call(none.user, http.MethodPost, "/berm/v1/sandboxes/"+none.idle()+":port-link", object{"port": 80}).want(http.StatusBadRequest); a.reason() != "PORT_LINK_UNAVAILABLE" {
		t.Errorf("without hosts: %s", a.raw)
	}
}

// TestPortAround: what a sandbox sends before and behind an answer is held to the same as the answer.
func TestPortAround(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("X-Berm-Error", "FORGED")
		h.Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		h.Set("Trailer", "X-Berm-Error, X-Sum")
		_, _ = io.WriteString(w, "x")
		h.Set("X-Sum", "1")
		h.Set("Set-Cookie", "a=1; Domain=ports.example") // not allowed behind an answer, and not announced
		h.Set(http.TrailerPrefix+"X-Berm-Late", "1")
	})
	for _, host := range []string{"", s.host} {
		path := "/"
		if host == "" {
			path = s.path + "/"
		}
		var early http.Header
		r := s.request(http.MethodGet, host, path, nil)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			early = http.Header(h).Clone()
			return nil
		}}))
		resp, text := s.do(r)
		<-s.seen
		if early.Get("Link") == "" || early.Get("X-Berm-Error") != "" {
			t.Errorf("before the answer: %v", early)
		}
		if resp.StatusCode != http.StatusOK || text != "x" || resp.Header.Get("X-Berm-Error") != "" {
			t.Errorf("%d %v %q", resp.StatusCode, resp.Header, text)
		}
		if resp.Trailer.Get("X-Sum") != "1" || resp.Trailer.Get("X-Berm-Error") != "" || resp.Trailer.Get("X-Berm-Late") != "" {
			t.Errorf("behind the answer: %v", resp.Trailer)
		}
	}
}
