package library

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestPull: by tag and by digest; what is here is not asked for again, also by the next library; nothing compressed is kept.
func TestPull(t *testing.T) {
	w := newWorld(t)
	l := w.open()
	if f, err := l.Find(w.ref(":v1"), Names{}); err != nil || f.Image != nil || f.Name != w.ref(":v1") {
		t.Fatalf("%+v %v", f, err)
	}
	if seen := w.reg.Seen(""); len(seen) > 0 {
		t.Errorf("to find is not to ask: %q", seen)
	}
	g := w.get(l, w.ref(":v1"))
	if g.Cached() || g.Image.Digest != w.top.Digest.String() || g.Source != "registry "+w.reg.Host || g.Downloaded == 0 || g.Unpacked.Entries != 2 {
		t.Errorf("%+v", g)
	}
	if layers, parts, blobs := w.layersOn(); layers != 2 || parts != 0 || blobs != 2 {
		t.Errorf("%d layers, %d parts, %d blobs", layers, parts, blobs)
	}
	w.reg.Wrap(refuse(500))
	for _, ref := range []string{w.ref(":v1"), w.ref("@" + w.top.Digest.String()), w.ref(":other@" + w.top.Digest.String())} {
		if g := w.get(l, ref); !g.Cached() || g.Image.Digest != w.top.Digest.String() {
			t.Errorf("%s: %+v", ref, g)
		}
	}
	l.Close()
	if g := w.get(w.open(), w.ref(":v1")); !g.Cached() {
		t.Errorf("the next library: %+v", g)
	}
}

// TestIndex: of an index the manifest for this machine is taken; the index's digest is a name of it, another platform's is none.
func TestIndex(t *testing.T) {
	w := newWorld(t)
	other := w.l.Add(imagetest.Image{Arch: "mips", Layers: [][]byte{imagetest.Tar(t, imagetest.File("x", "x"))}})
	index := w.l.Blob(types.OCIImageIndex, jsonOf(t, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{other, w.top}}))
	index.Annotations = map[string]string{"org.opencontainers.image.ref.name": "multi"}
	w.l.Index.Manifests = append(w.l.Index.Manifests, index)
	w.reg.Push("team/tool", w.l)
	l := w.open()
	g := w.get(l, w.ref(":multi"))
	if g.Image.Digest != w.top.Digest.String() || g.Index != index.Digest.String() {
		t.Errorf("%s of %s", g.Image.Digest, g.Index)
	}
	w.reg.Wrap(refuse(500))
	for _, d := range []v1.Descriptor{index, w.top} {
		if g := w.get(l, w.ref("@"+d.Digest.String())); !g.Cached() || g.Image.Digest != w.top.Digest.String() {
			t.Errorf("%+v", g)
		}
	}
	w.reg.Wrap(nil)
	if _, err := l.Get(t.Context(), Request{Ref: w.ref("@" + other.Digest.String())}); !fault.HasReason(err, fault.ReasonImageInvalid) || !strings.Contains(err.Error(), "linux/mips") {
		t.Errorf("another machine's: %v", err)
	}
}

// TestShared: a hundred launches of one image make one pull. One that goes away takes nobody with it.
func TestShared(t *testing.T) {
	w := newWorld(t)
	l := w.open()
	gate, asked := make(chan struct{}), make(chan struct{}, 1000)
	w.reg.Wrap(func(real http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			asked <- struct{}{}
			<-gate
			real.ServeHTTP(rw, r)
		})
	})
	first, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { _, err := l.Get(first, Request{Ref: w.ref(":v1")}); gone <- err }()
	<-asked
	var group sync.WaitGroup
	var mu sync.Mutex
	shared, failed := 0, []error{}
	for range 99 {
		group.Go(func() {
			g, err := l.Get(t.Context(), Request{Ref: w.ref(":v1")})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
			} else if g.Shared {
				shared++
			}
		})
	}
	w.until(func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, f := range l.flights {
			return f.waiters == 100
		}
		return false
	})
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("who went away: %v", err)
	}
	close(gate)
	group.Wait()
	if len(failed) > 0 || shared != 99 {
		t.Errorf("%d shared, %v", shared, failed)
	}
	if blobs := w.reg.Seen("/blobs/"); len(blobs) != 3 {
		t.Errorf("two layers and a configuration were asked for as %q", blobs)
	}
}

// TestNobodyWaits: a pull that nobody waits for any more ends, and the next one goes on with what it downloaded.
func TestNobodyWaits(t *testing.T) {
	w := newWorld(t)
	l := w.open()
	ctx, cancel := context.WithCancel(t.Context())
	stuck := make(chan struct{}, 8)
	w.reg.Wrap(func(real http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				stuck <- struct{}{}
				<-r.Context().Done()
				return
			}
			real.ServeHTTP(rw, r)
		})
	})
	done := make(chan error, 1)
	go func() { _, err := l.Get(ctx, Request{Ref: w.ref(":v1")}); done <- err }()
	<-stuck
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.until(func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.flights) == 0 })
	w.reg.Wrap(nil)
	w.get(l, w.ref(":v1"))
}

// TestLies: whatever a registry says that is not so, nothing of it is kept or used, and it is told as what it is.
func TestLies(t *testing.T) {
	swap := func(path string, f func(rw http.ResponseWriter, r *http.Request, real http.Handler)) func(http.Handler) http.Handler {
		return func(real http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, path) {
					f(rw, r, real)
					return
				}
				real.ServeHTTP(rw, r)
			})
		}
	}
	write := func(text string) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) { fmt.Fprint(rw, text) }
	}
	const small = `{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", `
	for name, c := range map[string]struct {
		wrap          func(http.Handler) http.Handler
		reason, words string
	}{
		"another blob": {swap("/blobs/", write("not it")), fault.ReasonImageInvalid, "bytes"},
		"no manifest":  {swap("/manifests/", write("{}")), fault.ReasonImageInvalid, "media type"},
		"refuses":      {refuse(http.StatusForbidden), fault.ReasonImagePullFailed, "403"},
		"breaks down":  {refuse(http.StatusBadGateway), fault.ReasonImagePullFailed, "502"},
		"has nothing":  {refuse(http.StatusNotFound), fault.ReasonImageNotFound, "has no team/tool"},
		"redirects inside": {swap("/blobs/", func(rw http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(rw, r, "http://169.254.169.254/x", http.StatusTemporaryRedirect)
		}), fault.ReasonImagePullFailed, "169.254.169.254"},
		"redirects here": {swap("/blobs/", func(rw http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(rw, r, "https://127.0.0.1:1/x", http.StatusTemporaryRedirect)
		}), fault.ReasonImagePullFailed, "not listed as private"},
		"stalls": {swap("/blobs/", func(rw http.ResponseWriter, r *http.Request, _ http.Handler) {
			rw.Header().Set("Content-Length", "1000")
			rw.WriteHeader(200)
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		}), "", ""},
		"huge layer": {swap("/manifests/", func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) {
			rw.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			fmt.Fprint(rw, small+`"config": {"digest": "sha256:`+strings.Repeat("0", 64)+`", "size": 99999999}, "layers": []}`)
		}), fault.ReasonImageInvalid, "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			l := w.open()
			w.reg.Wrap(c.wrap)
			_, err := l.Get(t.Context(), Request{Ref: w.ref(":v1")})
			var f *fault.Error
			if !errors.As(err, &f) || (c.reason != "" && !fault.HasReason(err, c.reason)) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v", err)
			}
			if layers, _, _ := w.layersOn(); layers != 0 {
				t.Errorf("%d layers were kept", layers)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.images)+len(l.names)+len(l.held)+len(l.heldImages) != 0 {
				t.Errorf("%v %v %v", l.images, l.names, l.held)
			}
		})
	}
}

// TestNoRoom: what would fill the disk is not even downloaded, and it is said which disk.
func TestNoRoom(t *testing.T) {
	w := newWorld(t)
	if err := errors.Join(os.Mkdir(w.cfg.Dir, 0o700), unix.Mount("tmpfs", w.cfg.Dir, "tmpfs", 0, "size=1m")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(w.cfg.Dir, 0); err != nil {
			t.Error(err)
		}
	})
	big := make([]byte, 2<<20)
	_, _ = rand.Read(big)
	w.l.Add(imagetest.Image{Name: "big", Layers: [][]byte{imagetest.Tar(t, imagetest.File("big", string(big)))}})
	w.reg.Push("team/tool", w.l)
	l := w.open()
	defer l.Close()
	_, err := l.Get(t.Context(), Request{Ref: w.ref(":big")})
	if !fault.Is(err, fault.Exhausted) || !strings.Contains(fmt.Sprint(err), "disk of the runner is full") {
		t.Errorf("got %v", err)
	}
	if _, parts, _ := w.layersOn(); parts > 0 {
		t.Errorf("%d downloads were begun", parts)
	}
	if g := w.get(l, w.ref(":v1")); g.Unpacked.Entries != 2 {
		t.Errorf("what finds room: %+v", g)
	}
}

// TestDigestOfAnotherRepository: a digest that is here opens nothing under the name of a repository that never named it.
func TestDigestOfAnotherRepository(t *testing.T) {
	w := newWorld(t)
	l := w.open()
	w.get(l, w.ref(":v1"))
	_, err := l.Get(t.Context(), Request{Ref: w.reg.Host + "/public/other@" + w.top.Digest.String()})
	if !fault.HasReason(err, fault.ReasonImageNotFound) {
		t.Errorf("%v", err)
	}
}

// TestSpoiled: records and blobs that are damaged cost another pull, and nothing else.
func TestSpoiled(t *testing.T) {
	w := newWorld(t)
	l := w.open()
	g := w.get(l, w.ref(":v1"))
	g.Hold.Release()
	l.Close()
	for name, path := range map[string]string{
		"image": l.place.image(g.Image.Digest), "name": l.place.name(w.ref(":v1")), "configuration": l.place.blob(g.Image.ConfigDigest), "manifest": l.place.blob(g.Image.Manifest.Digest),
	} {
		if err := os.WriteFile(path, []byte(`{"version": 1`), 0o600); err != nil {
			t.Fatal(err)
		}
		l := w.open()
		if g := w.get(l, w.ref(":v1")); g.Unpacked.Entries != 0 || g.Source == "" {
			t.Errorf("%s: %+v", name, g)
		}
		l.Close()
	}
	if err := os.RemoveAll(w.cfg.Dir + "/sha256/" + g.Image.Layers[1].DiffID.Hex); err != nil {
		t.Fatal(err)
	}
	if g := w.get(w.open(), w.ref(":v1")); g.Unpacked.Entries != 1 {
		t.Errorf("a layer that is missing: %+v", g)
	}
}
