package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/bermhq/berm/internal/core/fault"
)

// TestLies: a registry whose answers are not what they must be. Nothing of it is kept, and the message says what is wrong.
func TestLies(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w *world) http.HandlerFunc
		words  string
	}{
		"another content": {func(w *world) http.HandlerFunc {
			return func(rw http.ResponseWriter, _ *http.Request) { rw.Write(bytes.ToUpper(w.data)) }
		}, "its content has digest"},
		"announced longer": {func(w *world) http.HandlerFunc {
			return func(rw http.ResponseWriter, _ *http.Request) { rw.Write(append(bytes.Clone(w.data), 'x')) }
		}, "the manifest says"},
		"announced shorter": {func(w *world) http.HandlerFunc {
			return func(rw http.ResponseWriter, _ *http.Request) { rw.Write(w.data[:1000]) }
		}, "the manifest says"},
		"without an end": {func(*world) http.HandlerFunc {
			return func(rw http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					if _, err := rw.Write(make([]byte, 64<<10)); err != nil {
						return
					}
				}
			}
		}, ""},
		"a part of its choice": {func(w *world) http.HandlerFunc {
			return func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Range", "bytes 5-9/10")
				rw.WriteHeader(http.StatusPartialContent)
				rw.Write(w.data[5:10])
			}
		}, "answers with"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.session()
			w.blobs(c.answer(w))
			left, err := w.download(s)
			if !fault.Is(err, fault.Invalid) || !fault.HasReason(err, fault.ReasonImageInvalid) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("got %v, want %s with %q", err, fault.ReasonImageInvalid, c.words)
			}
			if len(left) > 0 {
				t.Errorf("%d bytes were kept", len(left))
			}
		})
	}
}

// TestManifestLies: the same for what is read into memory.
func TestManifestLies(t *testing.T) {
	for name, c := range map[string]struct {
		kind   string
		body   string
		words  string
		digest bool
	}{
		"another content":   {string(types.OCIManifestSchema1), `{}`, "its content has digest", true},
		"huge":              {string(types.OCIManifestSchema1), strings.Repeat(" ", MaxManifestBytes+1), "more than", false},
		"schema 1":          {string(types.DockerManifestSchema1), `{}`, "schema 1", false},
		"signed schema 1":   {string(types.DockerManifestSchema1Signed), `{}`, "schema 1", false},
		"a page":            {"text/html; charset=utf-8", `<html>log in</html>`, "text/html", false},
		"no type":           {"", `{}`, "neither index nor image", false},
		"a helm chart, say": {"application/vnd.cncf.helm.chart", `{}`, "neither index nor image", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.session()
			w.registry.Wrap(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
					rw.Header().Set("Content-Type", c.kind)
					io.WriteString(rw, c.body)
				})
			})
			reference := "v1"
			if c.digest {
				reference = w.manifest.Digest.String()
			}
			_, err := s.manifest(t, reference)
			if !fault.HasReason(err, fault.ReasonImageInvalid) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("got %v, want %s with %q", err, fault.ReasonImageInvalid, c.words)
			}
		})
	}
}

// TestEndless: answers without an end, where no layer is read.
func TestEndless(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	w.registry.Wrap(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			for r.Context().Err() == nil {
				if _, err := rw.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		})
	})
	if _, err := s.manifest(t, "v1"); !fault.HasReason(err, fault.ReasonImageInvalid) || !strings.Contains(err.Error(), "more than") {
		t.Errorf("manifest: %v", err)
	}
	if _, err := w.open(w.registry.Host); err != nil {
		t.Logf("an endless answer to the first request: %v", err) // It may be taken for success; it must end.
	}
}

// TestStalls: a registry that stops, at each stage. The pull ends in the time that is named, and says so.
func TestStalls(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	t.Run("before the first answer", func(t *testing.T) {
		w := newWorld(t)
		w.registry.Wrap(func(http.Handler) http.Handler { return http.HandlerFunc(hang) })
		if _, err := w.open(w.registry.Host); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a manifest that drips", func(t *testing.T) {
		w := newWorld(t)
		s := w.session()
		w.registry.Wrap(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { drip(rw, r, 0) })
		})
		if _, err := s.manifest(t, "v1"); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "longer than 2s") {
			t.Errorf("%v", err)
		}
	})
	for name, first := range map[string]int{"a layer that stops": 50_000, "a layer that drips": 0} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.session()
			w.blobs(func(rw http.ResponseWriter, r *http.Request) { drip(rw, r, first) })
			_, err := w.download(s)
			if !fault.Is(err, fault.Unavailable) || !fault.HasReason(err, fault.ReasonImagePullFailed) || !strings.Contains(err.Error(), "stalled") {
				t.Errorf("%v", err)
			}
		})
	}
}

// drip answers with first bytes at once, and then with one at a time.
func drip(rw http.ResponseWriter, r *http.Request, first int) {
	flush := rw.(http.Flusher).Flush
	rw.Write(make([]byte, first))
	flush()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-r.Context().Done():
			tick.Stop()
			return
		case <-tick.C:
			rw.Write([]byte{0})
			flush()
		}
	}
}

// TestCanceled: the caller's end is the caller's, whatever the registry does.
func TestCanceled(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	ctx, cancel := context.WithCancel(t.Context())
	w.blobs(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	err := s.Download(ctx, w.layer, filepath.Join(t.TempDir(), "part"), func(int64) {})
	if !errors.Is(err, context.Canceled) || fault.HasReason(err, fault.ReasonImagePullFailed) {
		t.Errorf("%v", err)
	}
}
