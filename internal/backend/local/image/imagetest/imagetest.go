// Package imagetest writes OCI layouts for tests, well-formed and hostile ones.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Entry is one entry of a layer.
type Entry struct {
	tar.Header
	Content string
}

// File returns a regular file.
func File(name, content string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, Content: content}
}

// Dir returns a directory.
func Dir(name string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}}
}

// Symlink returns a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink, Mode: 0o777}}
}

// Link returns a hard link.
func Link(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}}
}

// Tar returns an archive of entries.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.Content))
		if h.Typeflag != tar.TypeReg {
			h.Size = 0
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(e.Content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Layout is an OCI layout under construction.
type Layout struct {
	t   testing.TB
	Dir string
	// Index is index.json; change it and call Save.
	Index v1.IndexManifest
}

// New returns an empty layout in a temporary directory.
func New(t testing.TB) *Layout {
	t.Helper()
	l := &Layout{t: t, Dir: t.TempDir(), Index: v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}}
	if err := os.MkdirAll(filepath.Join(l.Dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	l.Save()
	return l
}

// Save writes index.json.
func (l *Layout) Save() {
	l.t.Helper()
	l.write("index.json", l.json(l.Index))
}

func (l *Layout) write(name string, data []byte) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.Dir, name), data, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *Layout) json(v any) []byte {
	l.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return data
}

// Blob adds a blob and returns its descriptor.
func (l *Layout) Blob(mt types.MediaType, data []byte) v1.Descriptor {
	l.t.Helper()
	h := Digest(data)
	l.write(filepath.Join("blobs", "sha256", h.Hex), data)
	return v1.Descriptor{MediaType: mt, Digest: h, Size: int64(len(data))}
}

// Image describes an image to add.
type Image struct {
	Name string
	// Arch is this machine's when empty.
	Arch   string
	Config v1.Config
	// Layers are archives; Compress makes gzip blobs of them.
	Layers   [][]byte
	Compress bool
	// Change may spoil the manifest and the configuration.
	Change func(*v1.Manifest, *v1.ConfigFile)
}

// Add adds an image and returns the descriptor of its manifest.
func (l *Layout) Add(img Image) v1.Descriptor {
	l.t.Helper()
	if img.Arch == "" {
		img.Arch = runtime.GOARCH
	}
	config := v1.ConfigFile{Architecture: img.Arch, OS: "linux", Config: img.Config, RootFS: v1.RootFS{Type: "layers"}}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for _, layer := range img.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, Digest(layer))
		if img.Compress {
			m.Layers = append(m.Layers, l.Blob(types.OCILayer, gz(l.t, layer)))
		} else {
			m.Layers = append(m.Layers, l.Blob(types.OCIUncompressedLayer, layer))
		}
	}
	if img.Change != nil {
		img.Change(&m, &config)
	}
	m.Config = l.Blob(types.OCIConfigJSON, l.json(config))
	if img.Change != nil {
		img.Change(&m, nil)
	}
	d := l.Blob(types.OCIManifestSchema1, l.json(m))
	d.Platform = &v1.Platform{OS: "linux", Architecture: img.Arch}
	if img.Name != "" {
		d.Annotations = map[string]string{"org.opencontainers.image.ref.name": img.Name}
	}
	l.Index.Manifests = append(l.Index.Manifests, d)
	l.Save()
	return d
}

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Digest returns the digest of data.
func Digest(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}
