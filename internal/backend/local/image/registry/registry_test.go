package registry

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core/fault"
)

func TestPull(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	for _, reference := range []string{"v1", w.manifest.Digest.String()} {
		data, d, err := s.Manifest(t.Context(), reference)
		if err != nil || d.Digest != w.manifest.Digest || d.Size != w.manifest.Size || imagetest.Digest(data) != d.Digest {
			t.Errorf("%s: %+v %v", reference, d, err)
		}
	}
	m, err := v1.ParseManifest(bytes.NewReader(must(s.manifest(t, "v1"))))
	if err != nil {
		t.Fatal(err)
	}
	if data, err := s.Small(t.Context(), m.Config, MaxManifestBytes); err != nil || imagetest.Digest(data) != m.Config.Digest {
		t.Errorf("configuration: %v", err)
	}
	var told []int64
	path := filepath.Join(t.TempDir(), "part")
	if err := s.Download(t.Context(), w.layer, path, func(n int64) { told = append(told, n) }); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, w.data) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if len(told) < 2 || told[len(told)-1] != w.layer.Size {
		t.Errorf("progress: %v", told)
	}
}

// TestMissing: what a registry does not have is told as missing, with what to look at.
func TestMissing(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	_, err := s.manifest(t, "v9")
	if !fault.Is(err, fault.NotFound) || !fault.HasReason(err, fault.ReasonImageNotFound) || !strings.Contains(err.Error(), "team/tool") {
		t.Errorf("manifest: %v", err)
	}
	w.layer.Digest = imagetest.Digest([]byte("another"))
	if _, err := w.download(s); !fault.HasReason(err, fault.ReasonImageNotFound) {
		t.Errorf("layer: %v", err)
	}
}

// TestBudget: no more downloads at a time than the registry is asked for, and no more bytes a second.
func TestBudget(t *testing.T) {
	w := newWorld(t)
	w.cfg.Hosts[w.registry.Host] = Host{Private: true, Insecure: true, MaxDownloads: 2}
	s := w.session()
	var now, most atomic.Int64
	entered, release := make(chan struct{}, 16), make(chan struct{})
	w.registry.Wrap(func(real http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			entered <- struct{}{}
			<-release
			real.ServeHTTP(rw, r)
			now.Add(-1)
		})
	})
	errs := make(chan error, 5)
	for range 5 {
		go func() { _, err := w.download(s); errs <- err }()
	}
	<-entered
	<-entered
	close(release)
	for range 5 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d downloads at a time, want 2", most.Load())
	}
}

func TestBandwidth(t *testing.T) {
	w := newWorld(t)
	const perSecond = 1 << 20
	w.cfg.Hosts[w.registry.Host] = Host{Private: true, Insecure: true, BytesPerSecond: perSecond}
	s := w.session()
	at := time.Now()
	if _, err := w.download(s); err != nil {
		t.Fatal(err)
	}
	// The first chunk is free. A machine that is slow only makes it longer.
	if least := time.Duration(len(w.data)-2*chunk) * time.Second / perSecond; time.Since(at) < least {
		t.Errorf("%d bytes in %s, at %d bytes a second they take %s", len(w.data), time.Since(at), perSecond, least)
	}
}
