package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/archive"
)

// TestBare: a directory without content says what is in it, and only what is skipped is missing.
func TestBare(t *testing.T) {
	from := tree(t)
	var stream bytes.Buffer
	must(t, archive.Pack(&stream, root(t, from), ".", archive.Options{Bare: true, Skip: func(name string, _ fs.FileInfo) bool { return name == "deep/er/file" || name == "deep" }}))
	if stream.Len() > 40_000 {
		t.Errorf("%d bytes: there is content in it", stream.Len())
	}
	first, err := archive.First(bytes.NewReader(stream.Bytes()))
	must(t, err)
	if !first.Mode.IsDir() {
		t.Errorf("first %v", first.Mode)
	}
	list, err := archive.List(&stream)
	must(t, err)
	for _, name := range []string{".", "deep", "deep/er", "plain", "nothing", "link", "new\nline"} {
		if _, ok := list[name]; !ok {
			t.Errorf("%q is missing", name)
		}
	}
	if _, ok := list["deep/er/file"]; ok {
		t.Error("what is skipped is there")
	}
	info, err := os.Lstat(filepath.Join(from, "plain"))
	must(t, err)
	e := list["plain"]
	if e.Size != 100_000 || !e.Same(info, archive.Options{}) {
		t.Errorf("%+v", e)
	}
	for what, other := range map[string]archive.Entry{
		"size":      {Mode: e.Mode, Size: e.Size + 1, ModTime: e.ModTime},
		"mode":      {Mode: e.Mode | 0o111, Size: e.Size, ModTime: e.ModTime},
		"time":      {Mode: e.Mode, Size: e.Size, ModTime: e.ModTime.Add(1)},
		"directory": {Mode: e.Mode | fs.ModeDir, Size: e.Size, ModTime: e.ModTime},
		"link":      {Mode: e.Mode | fs.ModeSymlink, Size: e.Size, ModTime: e.ModTime},
	} {
		if other.Same(info, archive.Options{}) {
			t.Errorf("another %s is the same", what)
		}
	}
	if !(archive.Entry{Mode: e.Mode | fs.ModeSetuid, Size: e.Size, ModTime: e.ModTime}).Same(info, archive.Options{}) {
		t.Error("a bit that is not kept makes it another")
	}
}

// TestSweep: what a killed unpacker left goes, and nothing else does.
func TestSweep(t *testing.T) {
	to := t.TempDir()
	must(t, os.Mkdir(filepath.Join(to, "x"), 0o755))
	at := func(name string) string { return filepath.Join(to, "x", name) }
	const left, live, link, dir, own = ".berm-0123456789abcdef", ".berm-1123456789abcdef", ".berm-2123456789abcdef", ".berm-3123456789abcdef", ".berm-mine"
	for _, name := range []string{left, live, own} {
		must(t, os.WriteFile(at(name), []byte("half"), 0o600))
	}
	must(t, os.Symlink(own, at(link)))
	must(t, os.Mkdir(at(dir), 0o755))
	writer, err := os.Open(at(live))
	must(t, err)
	defer writer.Close()
	must(t, unix.Flock(int(writer.Fd()), unix.LOCK_EX))
	must(t, archive.Unpack(forge(t, top, entry{kind: tar.TypeReg, name: "f", body: "whole"}), root(t, to), "x", archive.Options{Sweep: true}))
	entries, err := os.ReadDir(filepath.Join(to, "x"))
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{live, link, dir, own, "f"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

// TestHostileLists: a list of somebody hostile has no name that leads anywhere, and no size that is none.
func TestHostileLists(t *testing.T) {
	for name, e := range map[string]entry{"parent": {kind: tar.TypeReg, name: "../x"}, "absolute": {kind: tar.TypeReg, name: "/x"}, "inside": {kind: tar.TypeReg, name: "a/../../x"}} {
		if list, err := archive.List(forge(t, top, e)); !errors.Is(err, archive.ErrUnsafe) {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	for _, size := range []string{"-1", "x", "", "99999999999999999999"} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: ".", ModTime: time.Unix(1, 0), Format: tar.FormatPAX, PAXRecords: map[string]string{archive.Size: size}}))
		must(t, w.Close())
		if list, err := archive.List(&b); err == nil && size != "" {
			t.Errorf("size %q: %v", size, list)
		}
	}
	if _, err := archive.First(&bytes.Buffer{}); err == nil {
		t.Error("nothing has a first entry")
	}
	if _, err := archive.List(bytes.NewReader(bytes.Repeat([]byte("no archive "), 200))); err == nil {
		t.Error("text is a list")
	}
}
