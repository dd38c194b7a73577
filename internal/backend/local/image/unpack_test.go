package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
	"github.com/bermhq/berm/internal/core/fault"
)

// unpackLayers unpacks an image of these layers into a fresh store.
func unpackLayers(t *testing.T, layers ...[]byte) (*Store, *Image, error) {
	t.Helper()
	l := imagetest.New(t)
	l.Add(imagetest.Image{Layers: layers, Compress: true})
	s := newStore(t)
	img, err := Resolve(Target{Layout: l.Dir, Ref: "test"}, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Unpack(t.Context(), img)
	return s, img, err
}

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// noTrace checks that a refused layer left nothing in the store.
func noTrace(t *testing.T, s *Store) {
	t.Helper()
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		t.Errorf("the store keeps %v %v", left, err)
	}
}

type entries = []imagetest.Entry

// TestHostile: every way out of the layer's directory that an archive can try, and everything else that it must not bring.
// A canary beside the store shows whether something got out; the words say what the message must explain.
func TestHostile(t *testing.T) {
	file, dir, sym, link := imagetest.File, imagetest.Dir, imagetest.Symlink, imagetest.Link
	outside := t.TempDir()
	canary := filepath.Join(outside, "canary")
	deep := strings.Repeat("d/", MaxDepth+1) + "f"
	header := func(h tar.Header) imagetest.Entry { return imagetest.Entry{Header: h} }
	for name, c := range map[string]struct {
		entries entries
		words   string
	}{
		"dot dot":                      {entries{file("../canary", "x")}, ".."},
		"dot dot inside":               {entries{file("a/../../canary", "x")}, ".."},
		"dot dot directory":            {entries{dir("..")}, ".."},
		"dot dot after a directory":    {entries{dir("a"), file("a/../../../canary", "x")}, ".."},
		"absolute":                     {entries{file(canary, "x")}, "absolute"},
		"absolute directory":           {entries{dir(outside + "/made")}, "absolute"},
		"through an absolute link":     {entries{sym("a", outside), file("a/canary", "x")}, "symbolic link"},
		"through a relative link":      {entries{sym("a", "../../../../../../../.."+outside), file("a/canary", "x")}, "symbolic link"},
		"through a link to a link":     {entries{sym("b", outside), sym("a", "b"), file("a/canary", "x")}, "symbolic link"},
		"through a link inside":        {entries{dir("d"), sym("a", "d"), file("a/canary", "x")}, "symbolic link"},
		"directory through a link":     {entries{sym("a", outside), dir("a/made")}, "symbolic link"},
		"link through a link":          {entries{sym("a", outside), sym("a/canary", "/etc/passwd")}, "symbolic link"},
		"whiteout through a link":      {entries{sym("a", outside), file("a/.wh.canary", "")}, "symbolic link"},
		"opaque through a link":        {entries{sym("a", outside), file("a/.wh..wh..opq", "")}, "symbolic link"},
		"whiteout of the parent":       {entries{dir("a"), file("a/.wh...", "")}, "hides nothing"},
		"whiteout of itself":           {entries{dir("a"), file("a/.wh..", "")}, "hides nothing"},
		"whiteout of nothing":          {entries{file(".wh.", "")}, "hides nothing"},
		"hard link out":                {entries{link("a", "../../../../../../etc/shadow")}, ".."},
		"hard link absolute":           {entries{link("a", "/etc/shadow")}, "absolute"},
		"hard link through a link":     {entries{sym("l", "/etc"), link("a", "l/shadow")}, "does not have"},
		"hard link to a directory":     {entries{dir("d"), link("a", "d")}, "no file"},
		"hard link to nothing":         {entries{link("a", "b")}, "does not have"},
		"hard link to itself":          {entries{file("a", "x"), link("a", "a")}, "itself"},
		"file below a file":            {entries{file("a", "x"), file("a/b", "y")}, "no directory"},
		"root is a file":               {entries{file(".", "x")}, "root is a directory"},
		"root is a link":               {entries{sym(".", "/etc")}, "root is a directory"},
		"block device":                 {entries{header(tar.Header{Name: "sda", Typeflag: tar.TypeBlock, Devmajor: 8})}, "device"},
		"character device":             {entries{header(tar.Header{Name: "mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1})}, "device"},
		"device in dev":                {entries{header(tar.Header{Name: "dev/mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1})}, "device"},
		"device under a harmless name": {entries{header(tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1})}, "device"},
		"overlay's own whiteout":       {entries{header(tar.Header{Name: "w", Typeflag: tar.TypeChar})}, "device"},
		"named pipe":                   {entries{header(tar.Header{Name: "pipe", Typeflag: tar.TypeFifo})}, "pipe"},
		"unknown type":                 {entries{header(tar.Header{Name: "x", Typeflag: 'Z'})}, "unknown type"},
		"foreign owner":                {entries{header(tar.Header{Name: "x", Typeflag: tar.TypeDir, Uid: MaxID + 1})}, "ids go up to"},
		"foreign group":                {entries{header(tar.Header{Name: "x", Typeflag: tar.TypeDir, Gid: 1 << 30})}, "ids go up to"},
		"long element":                 {entries{file(strings.Repeat("n", MaxComponent+1), "x")}, "at most 255"},
		"long name":                    {entries{file(strings.Repeat("n/", MaxName/2+1)+"f", "x")}, "at most 4095"},
		"deep":                         {entries{file(deep, "x")}, "deep"},
		"empty symbolic link":          {entries{sym("a", "")}, "symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, err := unpackLayers(t, imagetest.Tar(t, c.entries...))
			if !fault.Is(err, fault.Invalid) || !fault.HasReason(err, fault.ReasonImageInvalid) {
				t.Fatalf("got %v, want a fault %s", err, fault.ReasonImageInvalid)
			}
			if !strings.Contains(err.Error(), c.words) {
				t.Errorf("the message does not say %q: %v", c.words, err)
			}
			noTrace(t, s)
			if left, _ := os.ReadDir(outside); len(left) > 0 {
				t.Fatalf("something got out: %v", left)
			}
		})
	}
}

// TestBroken: layers whose bytes are not what they claim.
func TestBroken(t *testing.T) {
	good := imagetest.Tar(t, imagetest.File("f", strings.Repeat("content", 1000)))
	for name, c := range map[string]struct {
		layer []byte
		words string
	}{
		"no archive":       {[]byte(strings.Repeat("not an archive at all. ", 100)), "tar"},
		"cut off":          {good[:len(good)/2], "EOF"},
		"cut in a header":  {good[:200], "EOF"},
		"gzip in the gzip": {[]byte("\x1f\x8b\x08\x00broken"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, err := unpackLayers(t, c.layer)
			if !fault.HasReason(err, fault.ReasonImageInvalid) || !strings.Contains(err.Error(), c.words) {
				t.Fatalf("got %v, want %s with %q", err, fault.ReasonImageInvalid, c.words)
			}
			noTrace(t, s)
		})
	}
}

// TestReplaced: later entries of one layer replace earlier ones, and nothing is written through what they replace.
func TestReplaced(t *testing.T) {
	file, dir, sym, link := imagetest.File, imagetest.Dir, imagetest.Symlink, imagetest.Link
	outside := filepath.Join(t.TempDir(), "untouched")
	if err := os.WriteFile(outside, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, img, err := unpackLayers(t, imagetest.Tar(t,
		sym("link", outside), file("link", "a file now"),
		file("a", "first"), link("b", "a"), file("b", "second"),
		dir("tree"), dir("tree/sub"), file("tree/sub/f", "x"), sym("tree", "/etc"),
		sym("was-link", "/etc"), dir("was-link"), file("was-link/f", "in a directory"),
		dir("made/late"), file("implied/parent/f", "y"),
	))
	if err != nil {
		t.Fatal(err)
	}
	root := s.path(img.Layers[0])
	for name, want := range map[string]string{"link": "a file now", "a": "first", "b": "second", "was-link/f": "in a directory", "implied/parent/f": "y"} {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q %v, want %q", name, got, err, want)
		}
	}
	if to, err := os.Readlink(filepath.Join(root, "tree")); err != nil || to != "/etc" {
		t.Errorf("tree: %q %v", to, err)
	}
	if got, _ := os.ReadFile(outside); string(got) != "untouched" {
		t.Errorf("a file outside was written through a link: %q", got)
	}
}

// TestMetadata: owners, permissions, times and links are kept; set-user-id bits are not.
func TestMetadata(t *testing.T) {
	at := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	e := func(h tar.Header) imagetest.Entry { h.ModTime = at; return imagetest.Entry{Header: h} }
	s, img, err := unpackLayers(t, imagetest.Tar(t,
		e(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 7, Gid: 8}),
		e(tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 1000, Gid: 1001}),
		e(tar.Header{Name: "d/su", Typeflag: tar.TypeReg, Mode: 0o6755}),
		e(tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "d/su", Uid: 5, Gid: 6}),
		e(tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "d/su"}),
		e(tar.Header{Name: "xattr", Typeflag: tar.TypeReg, Mode: 0o600, PAXRecords: map[string]string{
			"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.security.capability": "x", "SCHILY.xattr.user.note": "n",
		}}),
		e(tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}),
	))
	if err != nil {
		t.Fatal(err)
	}
	root := s.path(img.Layers[0])
	for name, want := range map[string]struct {
		mode     fs.FileMode
		uid, gid uint32
	}{
		".": {fs.ModeDir | 0o711, 7, 8}, "d": {fs.ModeDir | fs.ModeSticky | 0o777, 1000, 1001}, "d/su": {0o755, 0, 0},
		"l": {fs.ModeSymlink | 0o777, 5, 6}, "hard": {0o755, 0, 0},
	} {
		info, err := os.Lstat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(root, name), &st); err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want.mode || st.Uid != want.uid || st.Gid != want.gid {
			t.Errorf("%s: %v %d:%d, want %v %d:%d", name, info.Mode(), st.Uid, st.Gid, want.mode, want.uid, want.gid)
		}
		if name != "." && !info.ModTime().Equal(at) {
			t.Errorf("%s: time %v, want %v", name, info.ModTime(), at)
		}
	}
	if n, err := unix.Listxattr(filepath.Join(root, "xattr"), nil); err != nil || n > 0 {
		t.Errorf("%d bytes of attribute names were kept, %v", n, err)
	}
	if _, err := os.Lstat(filepath.Join(root, "dev/null")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a device was made: %v", err)
	}
}

// TestDigests: content that does not match the manifest is refused wherever it differs.
func TestDigests(t *testing.T) {
	layer := imagetest.Tar(t, imagetest.File("f", "content"))
	spoil := func(t *testing.T, change func(l *imagetest.Layout, img *Image)) error {
		l := imagetest.New(t)
		l.Add(imagetest.Image{Layers: [][]byte{layer}})
		img, err := Resolve(Target{Layout: l.Dir, Ref: "test"}, runtime.GOARCH)
		if err != nil {
			t.Fatal(err)
		}
		change(l, img)
		s := newStore(t)
		_, err = s.Unpack(t.Context(), img)
		noTrace(t, s)
		return err
	}
	blob := func(l *imagetest.Layout, img *Image) string {
		return filepath.Join(l.Dir, "blobs", "sha256", img.Layers[0].Digest.Hex)
	}
	for name, change := range map[string]func(l *imagetest.Layout, img *Image){
		"blob changed": func(l *imagetest.Layout, img *Image) {
			other := bytes.Replace(layer, []byte("content"), []byte("CONTENT"), 1)
			must(t, os.WriteFile(blob(l, img), other, 0o644))
		},
		"blob longer": func(l *imagetest.Layout, img *Image) {
			must(t, os.WriteFile(blob(l, img), append(bytes.Clone(layer), 0), 0o644))
		},
		"blob missing": func(l *imagetest.Layout, img *Image) { must(t, os.Remove(blob(l, img))) },
		"blob is a pipe": func(l *imagetest.Layout, img *Image) {
			must(t, os.Remove(blob(l, img)))
			must(t, unix.Mkfifo(blob(l, img), 0o644))
		},
		"other diff id":     func(_ *imagetest.Layout, img *Image) { img.Layers[0].DiffID = imagetest.Digest([]byte("x")) },
		"diff id is a path": func(_ *imagetest.Layout, img *Image) { img.Layers[0].DiffID.Hex = "../../../../tmp" },
		"unknown algorithm": func(_ *imagetest.Layout, img *Image) { img.Layers[0].DiffID.Algorithm = "md5" },
		"no layer type":     func(_ *imagetest.Layout, img *Image) { img.Layers[0].MediaType = "application/x-other" },
	} {
		t.Run(name, func(t *testing.T) {
			if err := spoil(t, change); !fault.HasReason(err, fault.ReasonImageInvalid) {
				t.Errorf("got %v, want %s", err, fault.ReasonImageInvalid)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBombs: the guard speaks before the disk is full. The limits are lowered to what a test can afford.
func TestBombs(t *testing.T) {
	zeros := imagetest.Tar(t, imagetest.File("zeros", strings.Repeat("\x00", 1<<20)))
	for name, run := range map[string]func(dir string) error{
		"more than an image may have": func(dir string) error {
			u, err := newUnpacker(dir, 1<<19)
			must(t, err)
			defer u.close()
			return u.run(bytes.NewReader(zeros))
		},
		"more comes out than the header says": func(dir string) error {
			in := &digester{r: bytes.NewReader(nil), ctx: t.Context()}
			in.n = 10
			g := &bombGuard{r: bytes.NewReader(zeros), in: in, left: 1 << 40, out: RatioFrom}
			u, err := newUnpacker(dir, 1<<30)
			must(t, err)
			defer u.close()
			return u.run(g)
		},
		"too many bytes in all": func(dir string) error {
			g := &bombGuard{r: bytes.NewReader(zeros), in: &digester{ctx: t.Context()}, left: 1 << 10}
			u, err := newUnpacker(dir, 1<<30)
			must(t, err)
			defer u.close()
			return u.run(g)
		},
		"too many entries": func(dir string) error {
			u, err := newUnpacker(dir, 1<<30)
			must(t, err)
			defer u.close()
			u.entries = MaxEntries
			return u.run(bytes.NewReader(zeros))
		},
		"too many directories on the way": func(dir string) error {
			u, err := newUnpacker(dir, 1<<30)
			must(t, err)
			defer u.close()
			u.entries = MaxEntries - 3
			return u.run(bytes.NewReader(imagetest.Tar(t, imagetest.File("a/b/c/f", ""))))
		},
		"too long names of directories": func(dir string) error {
			u, err := newUnpacker(dir, 1<<30)
			must(t, err)
			defer u.close()
			u.named = MaxDirectoryNames - 3
			return u.run(bytes.NewReader(imagetest.Tar(t, imagetest.Dir("abc"), imagetest.Dir("d"))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.TempDir())
			var bad *archiveError
			if !errors.As(err, &bad) {
				t.Errorf("got %v, want the archive to be blamed", err)
			}
		})
	}
}

// TestZerosTakeNoRoom: a file of zeros takes none of the disk, and is as long as it says.
func TestZerosTakeNoRoom(t *testing.T) {
	const size = 8 << 20
	content := strings.Repeat("\x00", size/2) + "x" + strings.Repeat("\x00", size/2-1)
	dir := t.TempDir()
	u, err := newUnpacker(dir, 1<<30)
	must(t, err)
	defer u.close()
	must(t, u.run(bytes.NewReader(imagetest.Tar(t, imagetest.File("zeros", content)))))
	got, err := os.ReadFile(filepath.Join(dir, "zeros"))
	if err != nil || string(got) != content || u.bytes != size {
		t.Errorf("%d bytes, counted %d (%v)", len(got), u.bytes, err)
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(dir, "zeros"), &st))
	if taken := st.Blocks * 512; taken > size/4 {
		t.Errorf("it takes %d bytes", taken)
	}
}

// TestRoom: images do not fill the disk to the last.
func TestRoom(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=100"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	if err := Room(dir, 900<<10); err != nil {
		t.Errorf("what finds room: %v", err)
	}
	if err := Room(dir, 1<<20); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("what fills it: %v", err)
	}
	for i := range 96 {
		must(t, os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600))
	}
	if err := Room(dir, 0); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("without files left: %v", err)
	}
}

// TestCanceled: unpacking ends with its context and blames nobody.
func TestCanceled(t *testing.T) {
	l := imagetest.New(t)
	l.Add(imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("f", "x"))}})
	img, err := Resolve(Target{Layout: l.Dir, Ref: "test"}, runtime.GOARCH)
	must(t, err)
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Unpack(ctx, img); !errors.Is(err, context.Canceled) || fault.HasReason(err, fault.ReasonImageInvalid) {
		t.Errorf("got %v", err)
	}
	noTrace(t, s)
	if _, err := s.Unpack(t.Context(), img); err != nil {
		t.Errorf("after a canceled try: %v", err)
	}
}

// FuzzUnpack: whatever the archive, nothing is written outside the directory, nothing panics, and the result has only
// directories, files, symbolic links and whiteouts, without set-user-id bits.
func FuzzUnpack(f *testing.F) {
	file, dir, sym, link := imagetest.File, imagetest.Dir, imagetest.Symlink, imagetest.Link
	for _, seed := range []entries{
		{file("f", "x")}, {dir("d"), file("d/f", "x"), link("d/g", "d/f")}, {sym("a", "/etc"), file("a/passwd", "x")},
		{file("../f", "x")}, {file("d/.wh.f", ""), file("d/.wh..wh..opq", "")}, {sym("a", "b"), dir("a"), file("a/f", "")},
		{file("a", "x"), dir("a"), file("a", "y")}, {file(".wh.a", ""), dir("a")},
	} {
		f.Add(imagetest.Tar(f, seed...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		root := filepath.Join(parent, "root")
		must(t, os.Mkdir(root, 0o755))
		u, err := newUnpacker(root, 1<<20)
		must(t, err)
		defer u.close()
		_ = u.run(&bombGuard{r: bytes.NewReader(data), in: &digester{n: int64(len(data)), ctx: t.Context()}, left: 1 << 21})
		if others, _ := os.ReadDir(parent); len(others) != 1 {
			t.Fatalf("something was written outside: %v", others)
		}
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return fs.SkipDir // A directory without permission cannot be there for root.
			}
			info, err := d.Info()
			must(t, err)
			switch m := info.Mode(); {
			case m&(fs.ModeSetuid|fs.ModeSetgid) != 0:
				t.Errorf("%s: %v", path, m)
			case m.IsDir(), m.IsRegular(), m.Type() == fs.ModeSymlink:
			case m.Type() == fs.ModeDevice|fs.ModeCharDevice:
				var st unix.Stat_t
				must(t, unix.Lstat(path, &st))
				if st.Rdev != 0 {
					t.Errorf("%s: device %x", path, st.Rdev)
				}
			default:
				t.Errorf("%s: %v", path, m)
			}
			return nil
		})
	})
}
