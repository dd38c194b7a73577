package imagetest

import (
	"bytes"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Registry is a registry on loopback, which does not encrypt.
type Registry struct {
	t testing.TB
	// Host is its host:port.
	Host   string
	server *httptest.Server
	real   http.Handler

	mu   sync.Mutex
	wrap func(http.Handler) http.Handler
	seen []string
}

// Serve starts a registry that ends with the test.
func Serve(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{t: t, real: registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	r.Host = strings.TrimPrefix(r.server.URL, "http://")
	return r
}

// ServeTLS starts a registry that encrypts, and returns the certificate of its authority too.
func ServeTLS(t testing.TB) (*Registry, []byte) {
	t.Helper()
	r := &Registry{t: t, real: registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))}
	r.server = httptest.NewUnstartedServer(r)
	r.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	r.server.StartTLS()
	t.Cleanup(r.server.Close)
	r.Host = strings.TrimPrefix(r.server.URL, "https://")
	return r, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw})
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.seen = append(r.seen, req.Method+" "+req.URL.Path)
	wrap := r.wrap
	r.mu.Unlock()
	if wrap != nil {
		wrap(r.real).ServeHTTP(w, req)
		return
	}
	r.real.ServeHTTP(w, req)
}

// Wrap puts something before the registry, which may lie; nil takes it away.
func (r *Registry) Wrap(f func(real http.Handler) http.Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrap = f
}

// Seen returns the requests since the last call whose line has the words.
func (r *Registry) Seen(words string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, s := range r.seen {
		if strings.Contains(s, words) {
			out = append(out, s)
		}
	}
	r.seen = nil
	return out
}

// Push makes everything of a layout available under a repository: each top manifest by its name, or "latest".
func (r *Registry) Push(repo string, l *Layout) {
	r.t.Helper()
	blobs, err := os.ReadDir(filepath.Join(l.Dir, "blobs", "sha256"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, b := range blobs {
		r.put(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest=sha256:"+b.Name(), "application/octet-stream", l.read(b.Name()))
	}
	r.pushManifests(repo, l, l.Index.Manifests, true)
}

// pushManifests puts manifests, those that an index names first.
func (r *Registry) pushManifests(repo string, l *Layout, list []v1.Descriptor, top bool) {
	r.t.Helper()
	for _, d := range list {
		data := l.read(d.Digest.Hex)
		if d.MediaType.IsIndex() {
			if index, err := v1.ParseIndexManifest(bytes.NewReader(data)); err == nil {
				r.pushManifests(repo, l, index.Manifests, false)
			}
		}
		reference := d.Digest.String()
		if name := d.Annotations["org.opencontainers.image.ref.name"]; top && name != "" {
			reference = name
		} else if top {
			reference = "latest"
		}
		r.put(http.MethodPut, "/v2/"+repo+"/manifests/"+reference, string(d.MediaType), data)
	}
}

func (r *Registry) put(method, path, contentType string, data []byte) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.server.URL+path, bytes.NewReader(data))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	r.real.ServeHTTP(w, req)
	if w.Code/100 != 2 {
		r.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
}

// read returns a blob of a layout.
func (l *Layout) read(hex string) []byte {
	l.t.Helper()
	data, err := os.ReadFile(filepath.Join(l.Dir, "blobs", "sha256", hex))
	if err != nil {
		l.t.Fatal(err)
	}
	return data
}
