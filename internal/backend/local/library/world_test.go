package library

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/goleak"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/backend/local/image/registry"
	"github.com/bermhq/berm/internal/specfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a registry on loopback with one image of two layers, and a library that may pull it.
type world struct {
	t   testing.TB
	reg *imagetest.Registry
	l   *imagetest.Layout
	top v1.Descriptor
	cfg Config
	now time.Time
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, reg: imagetest.Serve(t), l: imagetest.New(t), now: time.Now()}
	w.top = w.l.Add(imagetest.Image{Name: "v1", Compress: true, Config: v1.Config{Cmd: []string{"/a"}}, Layers: [][]byte{
		imagetest.Tar(t, imagetest.File("a", "lower")), imagetest.Tar(t, imagetest.File("b", "upper")),
	}})
	w.reg.Push("team/tool", w.l)
	w.cfg = w.file("registries:\n  " + w.reg.Host + ": {private: true, insecure: true}\nallow: [" + w.reg.Host + "]\n")
	w.cfg.Dir = filepath.Join(t.TempDir(), "images")
	w.cfg.Now = func() time.Time { return w.now }
	return w
}

// file reads settings as an operator writes them. Registries answer at once here, so what stalls is found out at once too.
func (w *world) file(text string) Config {
	w.t.Helper()
	n, err := specfile.Parse([]byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	f, err := Decode(n, "/etc/berm")
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := f.For("r1", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	c.Registry.Limits = registry.Limits{
		Connect: time.Second, Header: time.Second, Manifest: 5 * time.Second, Stall: 300 * time.Millisecond, StallBytes: 1024, RetryAfter: time.Second, Backoff: time.Millisecond,
	}
	return c
}

func (w *world) open() *Library {
	w.t.Helper()
	l, err := Open(context.WithoutCancel(w.t.Context()), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(l.Close)
	return l
}

func (w *world) ref(tail string) string { return w.reg.Host + "/team/tool" + tail }

func (w *world) get(l *Library, ref string) *Got {
	w.t.Helper()
	g, err := l.Get(w.t.Context(), Request{Ref: ref})
	if err != nil {
		w.t.Fatalf("%s: %v", ref, err)
	}
	return g
}

// refuse answers everything with a status.
func refuse(code int) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) })
	}
}

// layersOn counts the unpacked layers, and everything that is under way.
func (w *world) layersOn() (layers, parts, blobs int) {
	w.t.Helper()
	count := func(dir string) int {
		entries, err := os.ReadDir(filepath.Join(w.cfg.Dir, dir))
		if err != nil {
			w.t.Fatal(err)
		}
		return len(entries)
	}
	return count("sha256"), count("parts"), count("blobs/sha256")
}
