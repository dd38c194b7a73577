package image

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core/fault"
)

func TestResolve(t *testing.T) {
	layer := imagetest.Tar(t, imagetest.File("f", "x"))
	l := imagetest.New(t)
	other := "riscv64"
	foreign := l.Add(imagetest.Image{Arch: other, Layers: [][]byte{layer}, Config: v1.Config{User: "foreign"}})
	ours := l.Add(imagetest.Image{Layers: [][]byte{layer}, Config: v1.Config{User: "ours"}})
	// As builders make it: one index for all platforms, with an attestation that is no image for any machine.
	attestation := l.Blob(types.OCIManifestSchema1, []byte(`{}`))
	attestation.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{attestation, foreign, ours}}
	d := l.Blob(types.OCIImageIndex, jsonOf(t, index))
	l.Index.Manifests = []v1.Descriptor{d}
	l.Save()
	img, err := Resolve(Target{Layout: l.Dir, Ref: "r"}, runtime.GOARCH)
	if err != nil || img.Config.User != "ours" || img.Digest != ours.Digest.String() || len(img.Layers) != 1 {
		t.Fatalf("%+v %v", img, err)
	}
	for _, digest := range []string{d.Digest.String(), ours.Digest.String()} {
		if img, err := Resolve(Target{Layout: l.Dir, Ref: "r", Digest: digest}, runtime.GOARCH); err != nil || img.Digest != ours.Digest.String() {
			t.Errorf("by digest %s: %v", digest, err)
		}
	}
	_, err = Resolve(Target{Layout: l.Dir, Ref: "r", Digest: imagetest.Digest(nil).String()}, runtime.GOARCH)
	if !fault.HasReason(err, fault.ReasonImageNotFound) {
		t.Errorf("an unknown digest: %v", err)
	}
	_, err = Resolve(Target{Layout: l.Dir, Ref: "r"}, "s390x")
	if !fault.HasReason(err, fault.ReasonImageInvalid) || !strings.Contains(err.Error(), "linux/s390x") || !strings.Contains(err.Error(), "linux/"+other) {
		t.Errorf("another architecture: %v", err)
	}
}

// TestWrongArchitecture: what the configuration says counts, whatever the index claims.
func TestWrongArchitecture(t *testing.T) {
	l := imagetest.New(t)
	l.Add(imagetest.Image{Layers: [][]byte{imagetest.Tar(t)}, Change: func(_ *v1.Manifest, c *v1.ConfigFile) {
		if c != nil {
			c.Architecture = "mips"
		}
	}})
	_, err := Resolve(Target{Layout: l.Dir, Ref: "r"}, runtime.GOARCH)
	if !fault.HasReason(err, fault.ReasonImageInvalid) || !strings.Contains(err.Error(), "linux/mips") {
		t.Errorf("%v", err)
	}
}

func TestNames(t *testing.T) {
	l := imagetest.New(t)
	l.Add(imagetest.Image{Name: "v1", Layers: [][]byte{imagetest.Tar(t, imagetest.File("a", "1"))}})
	l.Add(imagetest.Image{Name: "v2", Layers: [][]byte{imagetest.Tar(t, imagetest.File("a", "2"))}, Config: v1.Config{User: "two"}})
	if img, err := Resolve(Target{Layout: l.Dir, Tag: "v2", Ref: "r"}, runtime.GOARCH); err != nil || img.Config.User != "two" {
		t.Errorf("%+v %v", img, err)
	}
	_, err := Resolve(Target{Layout: l.Dir, Tag: "v3", Ref: "r"}, runtime.GOARCH)
	if !fault.HasReason(err, fault.ReasonImageNotFound) || !strings.Contains(err.Error(), "v1, v2") {
		t.Errorf("an unknown name: %v", err)
	}
	_, err = Resolve(Target{Layout: l.Dir, Ref: "r"}, runtime.GOARCH)
	if !fault.HasReason(err, fault.ReasonImageInvalid) || !strings.Contains(err.Error(), "v1, v2") {
		t.Errorf("no name where there are two: %v", err)
	}
}

func TestBadLayouts(t *testing.T) {
	layer := imagetest.Tar(t, imagetest.File("f", "x"))
	for name, build := range map[string]func(t *testing.T) string{
		"no index.json": func(t *testing.T) string { return t.TempDir() },
		"no directory":  func(*testing.T) string { return "/no/such/layout" },
		"index is no JSON": func(t *testing.T) string {
			l := imagetest.New(t)
			must(t, os.WriteFile(filepath.Join(l.Dir, "index.json"), []byte("{"), 0o644))
			return l.Dir
		},
		"index is a pipe": func(t *testing.T) string {
			l := imagetest.New(t)
			must(t, os.Remove(filepath.Join(l.Dir, "index.json")))
			must(t, unix.Mkfifo(filepath.Join(l.Dir, "index.json"), 0o644))
			return l.Dir
		},
		"index is endless": func(t *testing.T) string {
			l := imagetest.New(t)
			must(t, os.Truncate(filepath.Join(l.Dir, "index.json"), MaxManifestBytes+1))
			return l.Dir
		},
		"empty":               func(t *testing.T) string { return imagetest.New(t).Dir },
		"fewer diff ids":      spoiled(func(_ *v1.Manifest, c *v1.ConfigFile) { c.RootFS.DiffIDs = nil }, layer),
		"no layers":           spoiled(nil),
		"too many layers":     spoiled(nil, manyLayers(t)...),
		"config too large":    spoiledManifest(func(m *v1.Manifest) { m.Config.Size = MaxManifestBytes + 1 }, layer),
		"config not there":    spoiledManifest(func(m *v1.Manifest) { m.Config.Digest = imagetest.Digest([]byte("other")) }, layer),
		"config of a path":    spoiledManifest(func(m *v1.Manifest) { m.Config.Digest.Hex = "../../../etc/passwd" }, layer),
		"config size differs": spoiledManifest(func(m *v1.Manifest) { m.Config.Size-- }, layer),
		"an index in itself": func(t *testing.T) string {
			l := imagetest.New(t)
			d := l.Add(imagetest.Image{Layers: [][]byte{layer}})
			for range MaxIndexDepth + 2 {
				d = l.Blob(types.OCIImageIndex, jsonOf(t, v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{d}}))
			}
			l.Index.Manifests = []v1.Descriptor{d}
			l.Save()
			return l.Dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Resolve(Target{Layout: build(t), Ref: "r"}, runtime.GOARCH)
			if !fault.HasReason(err, fault.ReasonImageInvalid) && !fault.HasReason(err, fault.ReasonImageNotFound) {
				t.Errorf("got %v, want a typed refusal", err)
			}
		})
	}
}

func spoiled(change func(*v1.Manifest, *v1.ConfigFile), layers ...[]byte) func(*testing.T) string {
	return func(t *testing.T) string {
		l := imagetest.New(t)
		l.Add(imagetest.Image{Layers: layers, Change: func(m *v1.Manifest, c *v1.ConfigFile) {
			if c != nil && change != nil {
				change(m, c)
			}
		}})
		return l.Dir
	}
}

func spoiledManifest(change func(*v1.Manifest), layers ...[]byte) func(*testing.T) string {
	return func(t *testing.T) string {
		l := imagetest.New(t)
		l.Add(imagetest.Image{Layers: layers, Change: func(m *v1.Manifest, c *v1.ConfigFile) {
			if c == nil {
				change(m)
			}
		}})
		return l.Dir
	}
}

func manyLayers(t *testing.T) [][]byte {
	var out [][]byte
	for i := range MaxLayers + 1 {
		out = append(out, imagetest.Tar(t, imagetest.File("f", strings.Repeat("x", i))))
	}
	return out
}
