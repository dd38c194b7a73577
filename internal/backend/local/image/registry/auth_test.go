package registry

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
)

// challenge makes the registry ask for a token of a realm, or for a password.
func (w *world) challenge(header string, ok func(*http.Request) bool) {
	w.registry.Wrap(func(real http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if !ok(r) {
				rw.Header().Set("WWW-Authenticate", header)
				rw.WriteHeader(http.StatusUnauthorized)
				return
			}
			real.ServeHTTP(rw, r)
		})
	})
}

// TestCredentials: they come from the file, reach the registry or its token server, and nobody else.
func TestCredentials(t *testing.T) {
	const user, password = "robot", "s3cret-of-robot"
	t.Run("basic", func(t *testing.T) {
		w := newWorld(t)
		w.cfg.AuthFile = authFile(t, w.registry.Host, user, password)
		w.challenge(`Basic realm="x"`, func(r *http.Request) bool { return r.Header.Get("Authorization") == basicAuth(user, password) })
		if _, err := w.session().manifest(t, "v1"); err != nil {
			t.Error(err)
		}
	})
	t.Run("token", func(t *testing.T) {
		w := newWorld(t)
		w.cfg.AuthFile = authFile(t, w.registry.Host, user, password)
		// go-containerregistry refuses a token server at an address of this machine unless it is the registry itself.
		w.registry.Wrap(func(real http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/token":
					if r.Header.Get("Authorization") == basicAuth(user, password) {
						fmt.Fprint(rw, `{"token": "t0ken"}`)
					}
				case r.Header.Get("Authorization") == "Bearer t0ken":
					real.ServeHTTP(rw, r)
				default:
					rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, w.registry.Host))
					rw.WriteHeader(http.StatusUnauthorized)
				}
			})
		})
		s := w.session()
		if _, err := s.manifest(t, "v1"); err != nil {
			t.Error(err)
		}
		if data, err := w.download(s); err != nil || len(data) != len(w.data) {
			t.Error(err)
		}
	})
	t.Run("not to where it redirects", func(t *testing.T) {
		w := newWorld(t)
		elsewhere, headers := recorder(t, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(w.data) })
		w.cfg.Hosts[strings.TrimPrefix(elsewhere, "http://")] = Host{Private: true, Insecure: true}
		w.cfg.AuthFile = authFile(t, w.registry.Host, user, password)
		w.registry.Wrap(func(real http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				switch {
				case r.Header.Get("Authorization") != basicAuth(user, password):
					rw.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					rw.WriteHeader(http.StatusUnauthorized)
				case strings.Contains(r.URL.Path, "/blobs/"):
					http.Redirect(rw, r, elsewhere+"/blob", http.StatusTemporaryRedirect)
				default:
					real.ServeHTTP(rw, r)
				}
			})
		})
		if data, err := w.download(w.session()); err != nil || len(data) != len(w.data) {
			t.Fatal(err)
		}
		got := headers()
		if len(got) != 1 {
			t.Fatalf("%d requests arrived", len(got))
		}
		for name, values := range got[0] {
			if text := strings.Join(values, " "); name == "Authorization" || name == "Cookie" || strings.Contains(text, password) {
				t.Errorf("%s: %s was sent elsewhere", name, text)
			}
		}
	})
	t.Run("a token server inside", func(t *testing.T) {
		w := newWorld(t)
		w.cfg.AuthFile = authFile(t, w.registry.Host, user, password)
		inner, headers := recorder(t, func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, `{"token": "x"}`) })
		for _, realm := range []string{
			inner + "/token", "https://" + strings.TrimPrefix(inner, "http://"), "http://169.254.169.254/", "https://169.254.169.254/", "http://localhost:" + port(t, strings.TrimPrefix(inner, "http://")) + "/token",
			"https://2852039166/", "file:///etc/passwd",
		} {
			w.challenge(fmt.Sprintf(`Bearer realm=%q,service="x"`, realm), func(*http.Request) bool { return false })
			if _, err := w.open(w.registry.Host); err == nil {
				t.Errorf("%s: a token was had", realm)
			}
		}
		if got := headers(); len(got) > 0 {
			t.Errorf("%d requests arrived inside: %v", len(got), got)
		}
	})
	t.Run("not to another registry", func(t *testing.T) {
		w := newWorld(t)
		w.cfg.AuthFile = authFile(t, "registry.example", user, password)
		w.challenge(`Basic realm="x"`, func(r *http.Request) bool {
			if r.Header.Get("Authorization") != "" {
				t.Errorf("credentials of another host were sent: %s", r.Header.Get("Authorization"))
			}
			return false
		})
		if _, err := w.session().manifest(t, "v1"); !fault.Is(err, fault.Denied) || !strings.Contains(fault.From(err).Hint, "auth_file") {
			t.Errorf("%v", err)
		}
	})
}

// TestSecretsStayIn: whatever a registry makes of credentials, they are in no message; nor is what would move a terminal's cursor.
func TestSecretsStayIn(t *testing.T) {
	const user, password = "robot", "s3cret-of-robot"
	w := newWorld(t)
	w.cfg.AuthFile = authFile(t, w.registry.Host, user, password)
	say := func(rw http.ResponseWriter, r *http.Request) {
		rw.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(rw, `{"errors": [{"code": "DENIED", "message": "%s \u001b[2J %s and %s %s"}]}`, user, password, r.Header.Get("Authorization"), strings.Repeat("long ", 1000))
	}
	w.registry.Wrap(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				rw.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				rw.WriteHeader(http.StatusUnauthorized)
				return
			}
			say(rw, r)
		})
	})
	_, err := w.session().manifest(t, "v1")
	if err == nil {
		t.Fatal("a denial passed")
	}
	text := fmt.Sprintf("%v %+v", err, fault.From(err))
	for _, s := range []string{password, strings.TrimPrefix(basicAuth(user, password), "Basic "), "\x1b"} {
		if strings.Contains(text, s) {
			t.Errorf("%q is in %q", s, text)
		}
	}
	if len(err.Error()) > 2*MaxErrorText {
		t.Errorf("a message of %d bytes", len(err.Error()))
	}
}

// TestCredentialFiles: what is wrong with a file is said, and not what is in it.
func TestCredentialFiles(t *testing.T) {
	w := newWorld(t)
	for name, text := range map[string]string{
		"no JSON": "user:topsecret", "no base64": `{"auths": {"` + w.registry.Host + `": {"auth": "topsecret!"}}}`, "huge": strings.Repeat("topsecret", MaxCredentialsBytes/8),
		"a helper that is not there": `{"credsStore": "topsecret-helper"}`,
	} {
		w.cfg.AuthFile = writeFile(t, text)
		_, err := w.open(w.registry.Host)
		if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), w.cfg.AuthFile) || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.cfg.AuthFile = "/no/such/file"
	if _, err := w.open(w.registry.Host); !strings.Contains(fmt.Sprint(err), "no such file") {
		t.Errorf("%v", err)
	}
}
