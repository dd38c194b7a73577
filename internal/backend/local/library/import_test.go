package library

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core/fault"
)

// packed is a layout as a tar.
func packed(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// dockerArchive is what older tools save: layers by name, with links between equal ones, and no manifests.
func dockerArchive(t testing.TB, tags ...string) []byte {
	t.Helper()
	layer := imagetest.Tar(t, imagetest.File("a", "from docker"))
	config := jsonOf(t, v1.ConfigFile{Architecture: runtime.GOARCH, OS: "linux", Config: v1.Config{Cmd: []string{"/a"}}, RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{imagetest.Digest(layer), imagetest.Digest(layer)}}})
	manifest := jsonOf(t, []map[string]any{{"Config": "c.json", "RepoTags": tags, "Layers": []string{"one/layer.tar", "two/layer.tar"}}})
	return imagetest.Tar(t, imagetest.File("c.json", string(config)), imagetest.Dir("one"), imagetest.File("one/layer.tar", string(layer)),
		imagetest.Symlink("two/layer.tar", "../one/layer.tar"), imagetest.File("manifest.json", string(manifest)))
}

// TestImport: archives of every kind give images that need no registry.
func TestImport(t *testing.T) {
	w := newWorld(t)
	w.cfg.Registry.Allow = []string{}
	l := w.open()
	oci := packed(t, w.l.Dir)
	for name, c := range map[string]struct {
		data []byte
		name string
		want string
	}{
		"oci":           {oci, "team/tool:v1", "docker.io/team/tool:v1"},
		"oci, gzip":     {zipped(t, oci), "registry.example/zip", "registry.example/zip:latest"},
		"docker":        {dockerArchive(t, "old/tool:1"), "", "docker.io/old/tool:1"},
		"docker, named": {dockerArchive(t), "old/named:1", "docker.io/old/named:1"},
	} {
		list, err := l.Import(t.Context(), c.name, false, bytes.NewReader(c.data))
		if err != nil || len(list) != 1 || !strings.Contains(strings.Join(list[0].Names, " "), c.want) || list[0].From != "an archive" {
			t.Errorf("%s: %+v %v", name, list, err)
			continue
		}
		g := w.get(l, c.want)
		if !g.Cached() || g.Image.Digest != list[0].Digest {
			t.Errorf("%s: %+v", name, g)
		}
		repo, _, _ := strings.Cut(c.want, ":")
		if g := w.get(l, repo+"@"+list[0].Digest); !g.Cached() {
			t.Errorf("%s by digest: %+v", name, g)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(w.cfg.Dir, tempImport+"*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestImportRefusals: nothing of an archive that is not right is kept, and the message says what would be.
func TestImportRefusals(t *testing.T) {
	w := newWorld(t)
	l := w.open()
	two := imagetest.New(t)
	for _, n := range []string{"a", "b"} {
		two.Add(imagetest.Image{Name: n, Layers: [][]byte{imagetest.Tar(t, imagetest.File(n, n))}})
	}
	hostile, foreign, spoiled := imagetest.New(t), imagetest.New(t), imagetest.New(t)
	hostile.Add(imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("../../x", "x"))}})
	foreign.Add(imagetest.Image{Arch: "mips", Layers: [][]byte{imagetest.Tar(t, imagetest.File("x", "x"))}})
	d := spoiled.Add(imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("x", "x"))}})
	if err := os.WriteFile(filepath.Join(spoiled.Dir, "blobs", "sha256", d.Digest.Hex), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	loop := imagetest.Tar(t, imagetest.Symlink("index.json", "other.json"), imagetest.Symlink("other.json", "index.json"), imagetest.File("x", "y"))
	for name, c := range map[string]struct {
		data        []byte
		name, words string
	}{
		"nothing":            {nil, "x", "cannot be imported"},
		"text":               {[]byte(strings.Repeat("no tar at all. ", 100)), "x", "no archive"},
		"cut":                {packed(t, w.l.Dir)[:3000], "x", "cannot be imported"},
		"empty tar":          {imagetest.Tar(t), "x", "empty"},
		"no images":          {imagetest.Tar(t, imagetest.File("readme", "x")), "x", "neither index.json nor manifest.json"},
		"no name":            {packed(t, w.l.Dir), "", "berm image import FILE NAME"},
		"one name for two":   {packed(t, two.Dir), "x", "2 images"},
		"a digest as name":   {packed(t, w.l.Dir), "x@sha256:" + strings.Repeat("a", 64), "digest"},
		"the built-in image": {packed(t, w.l.Dir), "host", "built-in"},
		"no reference":       {packed(t, w.l.Dir), "UPPER CASE", "reference"},
		"hostile layer":      {packed(t, hostile.Dir), "x", ".."},
		"another machine's":  {packed(t, foreign.Dir), "x", "linux/mips"},
		"spoiled manifest":   {packed(t, spoiled.Dir), "x", d.Digest.Hex},
		"a long name":        {imagetest.Tar(t, imagetest.File(strings.Repeat("n/", 3000)+"f", "x")), "x", "a name of more than"},
		"a long link":        {imagetest.Tar(t, imagetest.Symlink("l", strings.Repeat("n/", 3000)+"f")), "x", "a name of more than"},
		"links in a circle":  {loop, "x", "neither"},
		"outside":            {imagetest.Tar(t, imagetest.Symlink("index.json", "/etc/passwd"), imagetest.File("x", "y")), "x", "neither"},
		"missing layer":      {imagetest.Tar(t, imagetest.File("c", "{}"), imagetest.File("manifest.json", `[{"Config":"c","RepoTags":["a:1"],"Layers":["nope"]}]`)), "", "nope"},
	} {
		list, err := l.Import(t.Context(), c.name, false, bytes.NewReader(c.data))
		text := fmt.Sprint(err)
		if f := fault.From(err); f != nil {
			text += f.Hint
		}
		if err == nil || len(list) > 0 || !fault.Is(err, fault.Invalid) || !strings.Contains(text, c.words) {
			t.Errorf("%s: %v %s", name, list, text)
		}
	}
	if layers, parts, blobs := w.layersOn(); layers+parts+blobs != 0 {
		t.Errorf("%d layers, %d parts, %d blobs are left", layers, parts, blobs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Import(ctx, "x", false, bytes.NewReader(packed(t, w.l.Dir))); !errors.Is(err, context.Canceled) {
		t.Errorf("who went away: %v", err)
	}
}

// FuzzImport: whatever the archive, nothing is written outside of the library, and nothing of a refused one stays.
func FuzzImport(f *testing.F) {
	f.Add(dockerArchive(f, "a:1"))
	f.Add(zipped(f, dockerArchive(f, "a:1")))
	f.Add(imagetest.Tar(f, imagetest.File("index.json", `{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}`)))
	f.Add(imagetest.Tar(f, imagetest.File("manifest.json", `[{"Config":"../c","Layers":["/etc/passwd"]}]`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		l, err := Open(t.Context(), Config{Dir: filepath.Join(parent, "images")})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, err = l.Import(t.Context(), "x", false, io.LimitReader(bytes.NewReader(data), 1<<20))
		if others, _ := os.ReadDir(parent); len(others) != 1 {
			t.Fatalf("something was written outside: %v", others)
		}
		if err != nil && len(l.images)+len(l.names) > 0 {
			t.Fatalf("%v, and %v is here", err, l.images)
		}
	})
}
