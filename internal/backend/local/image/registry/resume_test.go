package registry

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestResume: a download goes on where it was broken off, in one process and after another's death, and starts anew where the
// registry or what is there does not allow that.
func TestResume(t *testing.T) {
	cut := func(w *world, at int) func(http.Handler) http.Handler {
		var once atomic.Bool
		return func(real http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/blobs/") && once.CompareAndSwap(false, true) {
					rw.Header().Set("Content-Length", fmt.Sprint(len(w.data)))
					rw.Write(w.data[:at])
					panic(http.ErrAbortHandler)
				}
				real.ServeHTTP(rw, r)
			})
		}
	}
	t.Run("the connection breaks", func(t *testing.T) {
		w := newWorld(t)
		s := w.session()
		w.registry.Wrap(cut(w, 300_000))
		if data, err := w.download(s); err != nil || !bytes.Equal(data, w.data) {
			t.Errorf("%d bytes %v", len(data), err)
		}
		if seen := w.registry.Seen("/blobs/"); len(seen) != 2 {
			t.Errorf("requests: %q", seen)
		}
	})
	for name, left := range map[string]func(w *world) []byte{
		"a part is there":        func(w *world) []byte { return w.data[:200_000] },
		"all of it is there":     func(w *world) []byte { return w.data },
		"the part is spoiled":    func(w *world) []byte { return bytes.ToUpper(w.data[:200_000]) },
		"it is spoiled as whole": func(w *world) []byte { return bytes.ToUpper(w.data) },
		"more than all is there": func(w *world) []byte { return append(bytes.Clone(w.data), 'x') },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.session()
			path := filepath.Join(t.TempDir(), "part")
			if err := os.WriteFile(path, left(w), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.Download(t.Context(), w.layer, path, func(int64) {}); err != nil {
				t.Fatal(err)
			}
			if data, _ := os.ReadFile(path); !bytes.Equal(data, w.data) {
				t.Errorf("%d bytes, not those of the layer", len(data))
			}
		})
	}
	t.Run("the registry knows no ranges", func(t *testing.T) {
		w := newWorld(t)
		s := w.session()
		path := filepath.Join(t.TempDir(), "part")
		if err := os.WriteFile(path, w.data[:1000], 0o600); err != nil {
			t.Fatal(err)
		}
		w.blobs(func(rw http.ResponseWriter, _ *http.Request) { rw.Write(w.data) })
		if err := s.Download(t.Context(), w.layer, path, func(int64) {}); err != nil {
			t.Error(err)
		}
	})
}

// TestAgain: what may pass is asked for again, as long as the registry says and no longer than it may; what will not is not.
func TestAgain(t *testing.T) {
	for name, c := range map[string]struct {
		code, failures int
		after          string
		ok             bool
		requests       int
	}{
		"busy":                {http.StatusServiceUnavailable, 2, "", true, 3},
		"too many requests":   {http.StatusTooManyRequests, 1, "1", true, 2},
		"too long a wait":     {http.StatusTooManyRequests, 1, "3600", false, 1},
		"a wait of nonsense":  {http.StatusTooManyRequests, 1, "soon", true, 2},
		"broken for good":     {http.StatusBadGateway, 99, "", false, MaxAttempts},
		"not allowed":         {http.StatusForbidden, 99, "", false, 1},
		"not as it should be": {http.StatusTeapot, 99, "", false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.session()
			var n atomic.Int64
			w.registry.Wrap(func(real http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if int(n.Add(1)) <= c.failures {
						rw.Header().Set("Retry-After", c.after)
						rw.WriteHeader(c.code)
						return
					}
					real.ServeHTTP(rw, r)
				})
			})
			_, err := s.manifest(t, "v1")
			if (err == nil) != c.ok || int(n.Load()) != c.requests {
				t.Errorf("%d requests, %v", n.Load(), err)
			}
		})
	}
}
