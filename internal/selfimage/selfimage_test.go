package selfimage_test

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/selfimage"
)

const ref = "registry.example/berm:1"

// file is what a test looks at of a file in an image.
type file struct {
	Mode  int64
	Owner int
	Size  int64
}

// contents unpacks an image.
func contents(t *testing.T, image v1.Image) (map[string]file, map[string][]byte) {
	t.Helper()
	stream := mutate.Extract(image)
	defer stream.Close()
	files, bytes := map[string]file{}, map[string][]byte{}
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, bytes
		}
		if err != nil {
			t.Fatal(err)
		}
		name := "/" + filepath.Clean(h.Name)
		files[name] = file{h.Mode, h.Uid, h.Size}
		if bytes[name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImage(t *testing.T) {
	image, err := selfimage.Image(selfimage.Programs{Arch: "arm64", Init: []byte("init"), Berm: []byte("server")})
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		Entrypoint: []string{"/usr/bin/berm"}, User: "65532:65532", WorkingDir: "/var/lib/berm",
		Env: []string{"PATH=/usr/bin", "XDG_STATE_HOME=/var/lib", "HOME=/var/lib/berm"},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" || config.Architecture != "arm64" || config.OS != "linux" {
		t.Errorf("%s/%s %s", config.OS, config.Architecture, diff)
	}
	files, bytes := contents(t, image)
	roots := bytes["/etc/ssl/certs/ca-certificates.crt"]
	for name, want := range map[string]file{
		"/berm-shim": {0o711, 65532, 4}, "/usr/bin/berm": {0o755, 0, 6}, "/tmp": {0o1777, 0, 0}, "/var/lib/berm": {0o700, 65532, 0},
		"/etc/ssl/certs/ca-certificates.crt": {0o644, 0, int64(len(roots))},
	} {
		if files[name] != want {
			t.Errorf("%s: %+v, want %+v", name, files[name], want)
		}
	}
	if !x509.NewCertPool().AppendCertsFromPEM(roots) {
		t.Error("no authority is in the image")
	}
}

func TestImageOfTheInit(t *testing.T) {
	image, err := selfimage.Image(selfimage.Programs{Arch: "amd64", Init: []byte("init")})
	if err != nil {
		t.Fatal(err)
	}
	files, _ := contents(t, image)
	if diff := cmp.Diff(map[string]file{"/berm-shim": {0o711, 65532, 4}}, files); diff != "" {
		t.Error(diff)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v1.Config{Entrypoint: []string{"/berm-shim"}, User: "65532:65532"}, config.Config); diff != "" {
		t.Error(diff)
	}
}

func TestSameProgramsSameBytes(t *testing.T) {
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := selfimage.WriteArchive(out, ref, selfimage.Programs{Arch: "amd64", Init: []byte("init"), Berm: []byte("server")}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two archives of the same programs differ")
	}
	image, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(first.Bytes())), nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if files, _ := contents(t, image); files["/usr/bin/berm"].Size == 0 {
		t.Error("the archive has no program")
	}
}

// TestLayouts: one architecture is an image below its name; several are an index.
func TestLayouts(t *testing.T) {
	one := selfimage.Programs{Arch: "amd64", Init: []byte("init"), Berm: []byte("server")}
	other := selfimage.Programs{Arch: "arm64", Init: []byte("INIT"), Berm: []byte("SERVER")}
	for _, all := range [][]selfimage.Programs{{one}, {one, other}} {
		dir := filepath.Join(t.TempDir(), "image")
		if err := selfimage.WriteLayout(dir, ref, all); err != nil {
			t.Fatal(err)
		}
		root, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Index(root); err != nil {
			t.Error(err)
		}
		top, err := root.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if len(top.Manifests) != 1 || top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != ref {
			t.Fatalf("%+v", top.Manifests)
		}
		if entry := top.Manifests[0]; entry.MediaType.IsIndex() != (len(all) > 1) {
			t.Errorf("%d architectures are a %s", len(all), entry.MediaType)
		}
		if len(all) > 1 {
			index, err := root.ImageIndex(top.Manifests[0].Digest)
			if err != nil {
				t.Fatal(err)
			}
			inner, err := index.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			var platforms []string
			for _, m := range inner.Manifests {
				platforms = append(platforms, m.Platform.String())
			}
			if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
				t.Error(platforms)
			}
		}
		if err := selfimage.WriteLayout(dir, ref, all); !fault.Is(err, fault.Invalid) {
			t.Errorf("a second layout in one directory: %v", err)
		}
	}
	twice := filepath.Join(t.TempDir(), "x")
	if err := selfimage.WriteLayout(twice, ref, []selfimage.Programs{one, one}); !fault.Is(err, fault.Invalid) {
		t.Errorf("one architecture twice: %v", err)
	}
	if err := selfimage.WriteLayout(twice, ref, []selfimage.Programs{one}); err != nil {
		t.Errorf("after one that failed, in the same place: %v", err)
	}
	if err := selfimage.WriteLayout(filepath.Join(t.TempDir(), "x"), "Not A Name", []selfimage.Programs{one}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a name that is none: %v", err)
	}
}

// program is the head of a program for a machine, of type 62 for amd64 and 183 for arm64.
func program(machine uint16, tail string) []byte {
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(h[16:], 2)
	binary.LittleEndian.PutUint16(h[18:], machine)
	binary.LittleEndian.PutUint32(h[20:], 1)
	binary.LittleEndian.PutUint16(h[52:], 64)
	return slices.Concat(h, []byte(tail))
}

func TestReadPrograms(t *testing.T) {
	write := func(dir, name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	good := t.TempDir()
	write(good, "berm", program(183, "server"))
	write(good, "berm-shim", program(183, "init"))
	p, err := selfimage.ReadPrograms(good, false)
	if err != nil || p.Arch != "arm64" || !bytes.HasSuffix(p.Berm, []byte("server")) || !bytes.HasSuffix(p.Init, []byte("init")) {
		t.Errorf("%s %v", p.Arch, err)
	}
	if p, err = selfimage.ReadPrograms(good, true); err != nil || p.Berm != nil {
		t.Errorf("the init alone: %d bytes of the rest, %v", len(p.Berm), err)
	}
	mixed := t.TempDir()
	write(mixed, "berm", program(62, ""))
	write(mixed, "berm-shim", program(183, ""))
	foreign := t.TempDir()
	write(foreign, "berm-shim", program(8, ""))
	text := t.TempDir()
	write(text, "berm-shim", []byte("#!/bin/sh"))
	for _, dir := range []string{mixed, foreign, text, t.TempDir()} {
		if _, err := selfimage.ReadPrograms(dir, false); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v", err)
		}
	}
}
