package registry

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
)

// TestClassify: every spelling of an address that must not be reached without having been listed, or at all.
func TestClassify(t *testing.T) {
	closed := closures()
	for want, list := range map[reach][]string{
		public: {"93.184.216.34", "2606:4700::1", "64:ff9b::5db8:d822", "::ffff:93.184.216.34", "8.8.8.8"},
		near: {
			"127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "10.0.0.1", "172.31.255.255", "192.168.0.1", "::ffff:10.1.2.3", "100.64.0.1",
			"fd12:3456::1", "198.18.0.1",
		},
		never: {
			"169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "168.63.129.16", "100.100.100.200", "0.0.0.0", "::",
			"224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::1", "2002:a9fe:a9fe::",
			"2001:0:1::1", "::127.0.0.1", "::169.254.169.254",
		},
	} {
		for _, text := range list {
			if got, what := classify(closed, netip.MustParseAddr(text)); got != want || (got != public) != (what != "") {
				t.Errorf("%s: %d %q, want %d", text, got, what, want)
			}
		}
	}
}

// TestUnlisted: a registry on this machine, under every spelling that leads there, is not spoken to unless it is listed. The
// address is what counts, so that a name which resolves there is the same.
func TestUnlisted(t *testing.T) {
	w := newWorld(t)
	_, port, err := net.SplitHostPort(w.registry.Host)
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.Hosts = nil
	w.registry.Seen("")
	for _, host := range []string{
		"127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.2", "[::ffff:127.0.0.1]", "[::1]", "LOCALHOST", "localhost.", "0",
	} {
		repo := host + ":" + port
		if _, err := w.openHost(repo); err == nil {
			t.Errorf("%s was spoken to", repo)
		} else if strings.HasPrefix(host, "127.0.0") && !strings.Contains(err.Error(), "not listed as private") {
			t.Errorf("%s: %v", repo, err)
		}
	}
	if seen := w.registry.Seen(""); len(seen) > 0 {
		t.Errorf("requests arrived: %q", seen)
	}
	// Listed without encryption, and not as private: as closed as before.
	w.cfg.Hosts = map[string]Host{w.registry.Host: {Insecure: true}}
	if _, err := w.open(w.registry.Host); !fault.Is(err, fault.Precondition) || !fault.HasReason(err, fault.ReasonImagePullFailed) {
		t.Errorf("not private: %v", err)
	}
	// Listed as private, and encryption is asked for: nothing goes over the wire in clear.
	w.cfg.Hosts = map[string]Host{w.registry.Host: {Private: true}}
	if _, err := w.open(w.registry.Host); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "not encrypted") {
		t.Errorf("not insecure: %v", err)
	}
	if seen := w.registry.Seen(""); len(seen) > 0 {
		t.Errorf("requests arrived: %q", seen)
	}
}

// openHost opens a repository of a host that may be none.
func (w *world) openHost(host string) (*Session, error) {
	repo, err := repository(host + "/team/tool")
	if err != nil {
		return nil, err
	}
	return w.client().Open(w.t.Context(), repo)
}

// TestRebinding: the address is checked when the socket connects. A resolver that says one thing to a check and another to a
// connection gains nothing, because nothing asks it twice.
func TestRebinding(t *testing.T) {
	w := newWorld(t)
	c := w.client()
	for _, address := range []string{"169.254.169.254:80", "127.0.0.1:80", "10.0.0.1:443", "[fd00:ec2::254]:80", "nonsense"} {
		var b *blockedError
		if err := c.checkAddress("public.example:443", address, false); !errors.As(err, &b) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fe80::1]:80", "0.0.0.0:80"} {
		var b *blockedError
		if err := c.checkAddress("listed.internal:443", address, true); !errors.As(err, &b) {
			t.Errorf("%s, for a host that is listed: %v", address, err)
		}
	}
}

// TestRedirects: where a registry may send us. Being listed helps the registry and not what it points to.
func TestRedirects(t *testing.T) {
	w := newWorld(t)
	inner, headers := recorder(t, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(w.data) })
	innerHost := strings.TrimPrefix(inner, "http://")
	s := w.session()
	for to, words := range map[string]string{
		inner + "/secret":                               "not encrypted",
		"https://" + innerHost + "/secret":              "not listed as private",
		"http://169.254.169.254/latest/meta-data/":      "not encrypted",
		"https://169.254.169.254/latest/meta-data/":     "where no registry may be",
		"https://[::ffff:169.254.169.254]/latest/":      "where no registry may be",
		"https://2852039166/latest/meta-data/":          "",
		"https://localhost:" + port(t, innerHost) + "/": "not listed as private",
		"https://[::1]:" + port(t, innerHost) + "/":     "not listed as private",
		"file:///etc/passwd":                            "only https",
		"gopher://127.0.0.1/":                           "only https",
		"https://10.255.255.1/":                         "not listed as private",
	} {
		w.blobs(func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, to, http.StatusTemporaryRedirect) })
		if data, err := w.download(s); err == nil || len(data) > 0 || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %d bytes, %v; want %q", to, len(data), err, words)
		}
	}
	if got := headers(); len(got) > 0 {
		t.Errorf("%d requests arrived inside", len(got))
	}
	// A host that is listed too may be redirected to: registries keep layers elsewhere.
	w.cfg.Hosts[innerHost] = Host{Private: true, Insecure: true}
	w.blobs(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, inner, http.StatusTemporaryRedirect)
	})
	if data, err := w.download(w.session()); err != nil || len(data) != len(w.data) {
		t.Errorf("to a listed host: %d bytes, %v", len(data), err)
	}
	// A loop ends.
	w.blobs(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, r.URL.Path, http.StatusTemporaryRedirect)
	})
	if _, err := w.download(s); err == nil || !strings.Contains(err.Error(), "redirects more than") {
		t.Errorf("a loop: %v", err)
	}
}

func port(t *testing.T, host string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestUnreachable: without a network a pull fails in the time for a connection, and says why.
func TestUnreachable(t *testing.T) {
	w := newWorld(t)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	w.cfg.Hosts[gone] = Host{Private: true, Insecure: true}
	for _, host := range []string{gone, "no-such-registry.invalid"} {
		_, err := w.open(host)
		if !fault.Is(err, fault.Unavailable) || !fault.HasReason(err, fault.ReasonImagePullFailed) || !strings.Contains(err.Error(), host) {
			t.Errorf("%s: %v", host, err)
		}
	}
}
