package registry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/goleak"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick are limits that a test can wait for.
func quick() Limits {
	return Limits{
		Connect: time.Second, Header: 300 * time.Millisecond, Manifest: 2 * time.Second, Stall: 150 * time.Millisecond, StallBytes: 1024,
		RetryAfter: time.Second, Backoff: time.Millisecond,
	}
}

// world is a registry with one image, and a client that may reach it.
type world struct {
	t        testing.TB
	registry *imagetest.Registry
	layout   *imagetest.Layout
	manifest v1.Descriptor
	// layer is its only layer, data the content of that.
	layer v1.Descriptor
	data  []byte
	cfg   Config
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, registry: imagetest.Serve(t), layout: imagetest.New(t)}
	w.data = imagetest.Tar(t, imagetest.File("f", strings.Repeat("content of a file. ", 40_000)))
	w.manifest = w.layout.Add(imagetest.Image{Name: "v1", Layers: [][]byte{w.data}})
	w.layer = v1.Descriptor{MediaType: types.OCIUncompressedLayer, Digest: imagetest.Digest(w.data), Size: int64(len(w.data))}
	w.registry.Push("team/tool", w.layout)
	w.cfg = Config{Hosts: map[string]Host{w.registry.Host: {Private: true, Insecure: true}}, Limits: quick()}
	return w
}

func (w *world) client() *Client {
	w.t.Helper()
	c, err := New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// open opens the repository, wherever it is told to be.
func (w *world) open(host string) (*Session, error) {
	w.t.Helper()
	return openWith(w.t, w.client(), host)
}

// openWith opens the repository with a client that others have too; with does and expects no error.
func (w *world) openWith(c *Client) (*Session, error) {
	w.t.Helper()
	return openWith(w.t, c, w.registry.Host)
}

func (w *world) with(c *Client) *Session {
	w.t.Helper()
	s, err := w.openWith(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func openWith(t testing.TB, c *Client, host string) (*Session, error) {
	t.Helper()
	repo, err := name.NewRepository(host + "/team/tool")
	if err != nil {
		t.Fatal(err)
	}
	return c.Open(t.Context(), repo)
}

func (w *world) session() *Session {
	w.t.Helper()
	s, err := w.open(w.registry.Host)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// download downloads the layer and returns what is in the file.
func (w *world) download(s *Session) ([]byte, error) {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "part")
	err := s.Download(w.t.Context(), w.layer, path, func(int64) {})
	data, readErr := os.ReadFile(path)
	if readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
		w.t.Fatal(readErr)
	}
	return data, err
}

// blobs changes what the registry answers for blobs.
func (w *world) blobs(f http.HandlerFunc) {
	w.registry.Wrap(func(real http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				f(rw, r)
				return
			}
			real.ServeHTTP(rw, r)
		})
	})
}

func (s *Session) manifest(t *testing.T, reference string) ([]byte, error) {
	data, _, err := s.Manifest(t.Context(), reference)
	return data, err
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

// basicAuth is the header that a user sends.
func basicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func repository(text string) (name.Repository, error) { return name.NewRepository(text) }

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// authFile writes credentials in Docker's form.
func authFile(t *testing.T, host, user, password string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	text := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// recorder is a server that remembers the headers that it was sent.
func recorder(t *testing.T, answer http.HandlerFunc) (url string, headers func() []http.Header) {
	t.Helper()
	var seen []http.Header
	ch := make(chan struct{}, 1)
	ch <- struct{}{}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		<-ch
		seen = append(seen, r.Header.Clone())
		ch <- struct{}{}
		answer(rw, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func() []http.Header { <-ch; defer func() { ch <- struct{}{} }(); return seen }
}
