package library

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
)

// TestContentOfAnotherRepository: whoever may push to one repository, and knows the digests of an image of another that is here, gets
// nothing of it: not by an index that names its manifest, nor by a manifest that names its layers, nor by one that says of a blob of its
// own that a layer of the other is in it.
func TestContentOfAnotherRepository(t *testing.T) {
	w := newWorld(t)
	l := w.open()
	secret := w.get(l, w.ref(":v1")).Image
	// The registry of the test knows blobs by digest alone; one that counts keeps repositories apart.
	hidden := []string{secret.Digest, secret.ConfigDigest.String()}
	for _, layer := range secret.Layers {
		hidden = append(hidden, layer.Digest.String())
	}
	w.reg.Wrap(func(real http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			for _, h := range hidden {
				if strings.Contains(r.URL.Path, "/open/") && strings.HasSuffix(r.URL.Path, h) && r.Method != http.MethodPut {
					rw.WriteHeader(http.StatusNotFound)
					return
				}
			}
			real.ServeHTTP(rw, r)
		})
	})
	open := imagetest.New(t)
	named := func(d v1.Descriptor, name string) {
		d.Annotations = map[string]string{"org.opencontainers.image.ref.name": name}
		open.Index.Manifests = append(open.Index.Manifests, d)
	}
	manifest, err := os.ReadFile(filepath.Join(w.l.Dir, "blobs", "sha256", w.top.Digest.Hex))
	if err != nil {
		t.Fatal(err)
	}
	open.Blob(types.OCIManifestSchema1, manifest) // Pushed, and hidden.
	own := imagetest.Tar(t, imagetest.File("mine", "mine"))
	named(open.Blob(types.OCIImageIndex, jsonOf(t, v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{MediaType: types.OCIManifestSchema1, Digest: w.top.Digest, Size: w.top.Size, Platform: w.top.Platform}},
	})), "index")
	layer := secret.Layers[0]
	open.Add(imagetest.Image{Name: "layer", Layers: [][]byte{own}, Change: func(m *v1.Manifest, c *v1.ConfigFile) {
		m.Layers[0] = v1.Descriptor{MediaType: layer.MediaType, Digest: layer.Digest, Size: layer.Size}
		if c != nil {
			c.RootFS.DiffIDs[0] = layer.DiffID
		}
	}})
	open.Add(imagetest.Image{Name: "claim", Layers: [][]byte{own}, Change: func(_ *v1.Manifest, c *v1.ConfigFile) {
		if c != nil {
			c.RootFS.DiffIDs[0] = layer.DiffID
		}
	}})
	w.reg.Push("team/open", open)
	for _, tag := range []string{"index", "layer", "claim"} {
		g, err := l.Get(t.Context(), Request{Ref: w.reg.Host + "/team/open:" + tag})
		if err == nil {
			t.Errorf("%s: got %s of another repository", tag, g.Image.Digest)
			g.Hold.Release()
		}
	}
	// What is the repository's own is had as ever.
	open.Add(imagetest.Image{Name: "good", Layers: [][]byte{own}})
	w.reg.Push("team/open", open)
	w.get(l, w.reg.Host+"/team/open:good").Hold.Release()
}

// TestContentIsShared: a layer that another repository has as well is not downloaded again, it is asked for.
func TestContentIsShared(t *testing.T) {
	w := newWorld(t)
	l := w.open()
	w.get(l, w.ref(":v1")).Hold.Release()
	w.reg.Push("team/same", w.l)
	g := w.get(l, w.reg.Host+"/team/same:v1")
	if g.Downloaded != 0 || g.Unpacked.Entries != 0 {
		t.Errorf("%d bytes were downloaded", g.Downloaded)
	}
	for _, q := range w.reg.Seen("/team/same/blobs/") {
		if strings.HasPrefix(q, "GET") && !strings.Contains(q, g.Image.ConfigDigest.String()) {
			t.Errorf("a layer was read: %s", q)
		}
	}
	// The same archive in another blob: it is looked at, and then shared.
	other := imagetest.New(t)
	other.Add(imagetest.Image{Name: "v1", Layers: [][]byte{imagetest.Tar(t, imagetest.File("a", "lower"))}})
	w.reg.Push("team/plain", other)
	if g := w.get(l, w.reg.Host+"/team/plain:v1"); g.Downloaded == 0 || g.Unpacked.Entries != 0 {
		t.Errorf("%+v", g)
	}
}
