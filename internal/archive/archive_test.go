package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/archive"
)

func root(t testing.TB, dir string) *os.Root {
	t.Helper()
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree makes a directory with everything in it.
func tree(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	at := time.Unix(1_600_000_000, 123_000_000)
	for _, d := range []string{"", "empty", "deep", "deep/er", "closed"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	for name, mode := range map[string]fs.FileMode{"plain": 0o644, "program": 0o755, "secret": 0o600, "deep/er/file": 0o640, "closed/in": 0o444, "new\nline": 0o644} {
		p := filepath.Join(dir, name)
		must(t, os.WriteFile(p, bytes.Repeat([]byte(name), 20_000), 0o600))
		must(t, os.Chmod(p, mode))
		must(t, os.Chtimes(p, at, at))
	}
	must(t, os.WriteFile(filepath.Join(dir, "nothing"), nil, 0o644))
	must(t, os.Symlink("plain", filepath.Join(dir, "link")))
	must(t, os.Symlink("../plain", filepath.Join(dir, "deep/up")))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "broken")))
	must(t, os.Chmod(filepath.Join(dir, "closed"), 0o555))
	must(t, os.Chtimes(filepath.Join(dir, "closed"), at, at))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "closed"), 0o755) })
	return dir
}

// picture describes everything below a directory.
func picture(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			what = fmt.Sprintf("%d bytes, %d, %q", len(data), info.ModTime().UnixNano(), data[:min(len(data), 8)])
		case info.Mode()&fs.ModeSymlink != 0:
			if what, err = os.Readlink(p); err != nil {
				return err
			}
		}
		fmt.Fprintf(&b, "%q %s %s\n", rel, info.Mode(), what)
		return nil
	}))
	return b.String()
}

func TestThereAndBack(t *testing.T) {
	from := tree(t)
	must(t, unix.Mkfifo(filepath.Join(from, "pipe"), 0o644))
	must(t, os.Symlink("/etc/passwd", filepath.Join(from, "absolute")))
	must(t, os.Symlink("../../outside", filepath.Join(from, "deep/out")))
	var stream bytes.Buffer
	must(t, archive.Pack(&stream, root(t, from), ".", archive.Options{}))
	for _, name := range []string{"pipe", "absolute", "deep/out"} {
		must(t, os.Remove(filepath.Join(from, name)))
	}
	to := t.TempDir()
	var left []string
	must(t, archive.Unpack(&stream, root(t, to), "copy", archive.Options{Left: func(name, why string) { left = append(left, name+": "+why) }}))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(to, "copy/closed"), 0o755) })
	if got, want := picture(t, filepath.Join(to, "copy")), picture(t, from); got != want {
		t.Errorf("came back as\n%s\nwant\n%s", got, want)
	}
	if got := strings.Join(left, "|"); !strings.Contains(got, "pipe: it is a named pipe") || !strings.Contains(got, "absolute: it is a link") || !strings.Contains(got, "deep/out") {
		t.Errorf("left out: %q", left)
	}
	info, err := os.Stat(filepath.Join(to, "copy/closed"))
	must(t, err)
	if info.ModTime().Unix() != 1_600_000_000 {
		t.Errorf("a directory's time is %v", info.ModTime())
	}
}

func TestOneFile(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(from, "a"), []byte("content"), 0o640))
	var stream bytes.Buffer
	must(t, archive.Pack(&stream, root(t, from), "a", archive.Options{}))
	must(t, os.WriteFile(filepath.Join(to, "b"), []byte("something longer that was there"), 0o600))
	must(t, archive.Unpack(&stream, root(t, to), "b", archive.Options{}))
	if got, want := picture(t, to), picture(t, from); strings.Split(got, "-rw")[1] != strings.Split(want, "-rw")[1] {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestSetuidIsDropped unless it is asked for.
func TestSetuidIsDropped(t *testing.T) {
	for _, keep := range []bool{false, true} {
		from, to := t.TempDir(), t.TempDir()
		must(t, os.WriteFile(filepath.Join(from, "su"), nil, 0o600))
		must(t, os.Chmod(filepath.Join(from, "su"), fs.ModeSetuid|fs.ModeSetgid|0o755))
		var stream bytes.Buffer
		must(t, archive.Pack(&stream, root(t, from), ".", archive.Options{KeepSetuid: true}))
		must(t, archive.Unpack(&stream, root(t, to), "x", archive.Options{KeepSetuid: keep}))
		info, err := os.Stat(filepath.Join(to, "x/su"))
		must(t, err)
		if got := info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0; got != keep {
			t.Errorf("keep %t: %s", keep, info.Mode())
		}
	}
}

// entry is a line of a forged archive.
type entry struct {
	kind       byte
	name, link string
	body       string
}

func forge(t testing.TB, list ...entry) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range list {
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Linkname: e.link, Mode: 0o777, Size: int64(len(e.body)), ModTime: time.Unix(1, 0)}
		must(t, w.WriteHeader(h))
		_, err := w.Write([]byte(e.body))
		must(t, err)
	}
	must(t, w.Close())
	return &b
}

var top = entry{kind: tar.TypeDir, name: "./"}

// TestHostileArchives: attacks 35 to 37. Nothing outside of the target is touched, and what is refused is named.
func TestHostileArchives(t *testing.T) {
	file := func(name string) entry { return entry{kind: tar.TypeReg, name: name, body: "evil"} }
	link := func(name, to string) entry { return entry{kind: tar.TypeSymlink, name: name, link: to} }
	for name, list := range map[string][]entry{
		"parent":                    {top, file("../victim")},
		"parent inside":             {top, file("a/../../victim")},
		"absolute":                  {top, file("/victim")},
		"not clean":                 {top, file("./a//b")},
		"the top twice":             {top, top},
		"no top":                    {file("a")},
		"nothing":                   {},
		"below a link":              {top, link("a", "."), file("a/b")},
		"below a link that is left": {top, link("a", ".."), file("a/victim")},
		"below a file":              {top, file("a"), file("a/b")},
		"twice":                     {top, file("a"), file("a")},
		"link, then file":           {top, link("a", "victim"), file("a")},
		"directory again":           {top, {kind: tar.TypeDir, name: "d/"}, file("d/a"), file("x"), {kind: tar.TypeDir, name: "d/"}},
		"into what was left":        {top, {kind: tar.TypeDir, name: "d/"}, file("d/a"), file("x"), file("d/b")},
		"hard link":                 {top, {kind: tar.TypeLink, name: "a", link: "/etc/passwd"}},
		"device":                    {top, {kind: tar.TypeChar, name: "a"}},
		"block device":              {top, {kind: tar.TypeBlock, name: "a"}},
		"pipe":                      {top, {kind: tar.TypeFifo, name: "a"}},
		"more than one file":        {{kind: tar.TypeReg, name: ".", body: "x"}, file("b")},
		"top is a link":             {link(".", "/etc")},
		"unknown kind":              {top, {kind: 'Z', name: "a"}},
		"depth":                     append([]entry{top}, nested(archive.MaxDepth+1)...),
		"long name":                 {top, file(strings.Repeat("n", archive.MaxName+1))},
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			must(t, os.WriteFile(filepath.Join(outside, "victim"), []byte("untouched"), 0o644))
			into := filepath.Join(outside, "into")
			must(t, os.Mkdir(into, 0o755))
			err := archive.Unpack(forge(t, list...), root(t, into), "x", archive.Options{})
			if !errors.Is(err, archive.ErrUnsafe) && !strings.Contains(fmt.Sprint(err), "unsafe") && !strings.Contains(fmt.Sprint(err), "archive") {
				t.Errorf("accepted, or another error: %v", err)
			}
			if err == nil {
				t.Error("accepted")
			}
			data, _ := os.ReadFile(filepath.Join(outside, "victim"))
			entries, _ := os.ReadDir(outside)
			if string(data) != "untouched" || len(entries) != 2 {
				t.Errorf("outside: %q, %v", data, entries)
			}
		})
	}
}

func nested(n int) (list []entry) {
	at := ""
	for range n {
		at += "d/"
		list = append(list, entry{kind: tar.TypeDir, name: at})
	}
	return list
}

// TestLinksThatLeadOut are left out, of an archive that somebody else made too, and made when they are asked for.
func TestLinksThatLeadOut(t *testing.T) {
	links := map[string]bool{
		"/etc/passwd": true, "..": true, "../x": true, "a/../../x": true, "sub/../..": true, "": true, "a/../x": true,
		"x": false, "./x": false, "sub/x": false, ".": false,
	}
	for target, out := range links {
		if target == "" {
			continue // A tar header cannot say it.
		}
		for _, keep := range []bool{false, true} {
			to := t.TempDir()
			must(t, archive.Unpack(forge(t, top, entry{kind: tar.TypeSymlink, name: "l", link: target}), root(t, to), "x", archive.Options{KeepLinks: keep}))
			_, err := os.Lstat(filepath.Join(to, "x/l"))
			if made := err == nil; made != (keep || !out) {
				t.Errorf("link to %q, keep %t: made %t", target, keep, made)
			}
		}
	}
}

// TestWhatIsThereStays: a link that was there is replaced, not followed; a directory is not replaced by a file, nor the reverse.
func TestWhatIsThereStays(t *testing.T) {
	outside, into := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "victim"), []byte("untouched"), 0o644))
	must(t, os.Mkdir(filepath.Join(into, "x"), 0o755))
	must(t, os.Symlink(filepath.Join(outside, "victim"), filepath.Join(into, "x/f")))
	must(t, os.Symlink(outside, filepath.Join(into, "x/d")))
	must(t, os.Mkdir(filepath.Join(into, "x/dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(into, "x/file"), []byte("mine"), 0o644))
	r := root(t, into)
	must(t, archive.Unpack(forge(t, top, entry{kind: tar.TypeReg, name: "f", body: "new"}), r, "x", archive.Options{}))
	for name, e := range map[string][]entry{
		"d/":   {{kind: tar.TypeDir, name: "d/"}, {kind: tar.TypeReg, name: "d/victim", body: "evil"}},
		"dir":  {{kind: tar.TypeReg, name: "dir", body: "evil"}},
		"file": {{kind: tar.TypeDir, name: "file/"}},
	} {
		if err := archive.Unpack(forge(t, append([]entry{top}, e...)...), r, "x", archive.Options{}); err == nil {
			t.Errorf("%s was replaced", name)
		}
	}
	if data, _ := os.ReadFile(filepath.Join(outside, "victim")); string(data) != "untouched" {
		t.Errorf("outside: %q", data)
	}
	if data, _ := os.ReadFile(filepath.Join(into, "x/f")); string(data) != "new" {
		t.Errorf("f: %q", data)
	}
	if left, _ := filepath.Glob(filepath.Join(into, "x/.berm-*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestTruncatedStream leaves no half of a file.
func TestTruncatedStream(t *testing.T) {
	whole := forge(t, top, entry{kind: tar.TypeReg, name: "f", body: strings.Repeat("x", 100_000)}).Bytes()
	for _, n := range []int{600, 1024, 1500, 2048, 50_000} {
		to := t.TempDir()
		err := archive.Unpack(io.MultiReader(bytes.NewReader(whole[:n]), broken{}), root(t, to), "x", archive.Options{})
		if err == nil {
			t.Errorf("cut at %d: accepted", n)
		}
		if left, _ := filepath.Glob(filepath.Join(to, "x/*")); len(left) > 0 {
			t.Errorf("cut at %d: %q", n, left)
		}
		if left, _ := filepath.Glob(filepath.Join(to, "x/.*")); len(left) > 0 {
			t.Errorf("cut at %d: %q", n, left)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the connection broke") }

// TestExchangedWhilePacked: somebody makes a file a pipe, a link, a directory all the time. Packing ends, and nothing of outside is in it.
func TestExchangedWhilePacked(t *testing.T) {
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("TOP-SECRET"), 0o644))
	dir := t.TempDir()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		p := filepath.Join(dir, "f")
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.RemoveAll(p)
			switch i % 4 {
			case 0:
				_ = os.WriteFile(p, []byte("plain"), 0o644)
			case 1:
				_ = os.Symlink(filepath.Join(outside, "secret"), p)
			case 2:
				_ = unix.Mkfifo(p, 0o644)
			case 3:
				_ = os.Symlink(outside, p)
			}
		}
	}()
	for range 500 {
		var b bytes.Buffer
		_ = archive.Pack(&b, root(t, dir), ".", archive.Options{KeepLinks: true})
		if bytes.Contains(b.Bytes(), []byte("TOP-SECRET")) {
			t.Fatal("what a link leads to was packed")
		}
	}
	close(stop)
	<-done
}

// TestCaseIsTold: on a file system with case, names that differ in it are two.
func TestCase(t *testing.T) {
	to := t.TempDir()
	must(t, archive.Unpack(forge(t, top, entry{kind: tar.TypeReg, name: "A", body: "1"}, entry{kind: tar.TypeReg, name: "a", body: "2"}), root(t, to), "x", archive.Options{}))
	if entries, _ := os.ReadDir(filepath.Join(to, "x")); len(entries) != 2 {
		t.Errorf("%v", entries)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(forge(f, top, entry{kind: tar.TypeReg, name: "a", body: "x"}, entry{kind: tar.TypeSymlink, name: "l", link: "../x"}).Bytes())
	f.Add(forge(f, top, entry{kind: tar.TypeDir, name: "d/"}, entry{kind: tar.TypeReg, name: "d/../../a", body: "x"}).Bytes())
	f.Add(forge(f, entry{kind: tar.TypeReg, name: ".", body: "x"}).Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		outside := t.TempDir()
		into := filepath.Join(outside, "into")
		must(t, os.Mkdir(into, 0o755))
		_ = archive.Unpack(bytes.NewReader(data), root(t, into), "x", archive.Options{})
		if entries, _ := os.ReadDir(outside); len(entries) != 1 {
			t.Fatalf("outside: %v", entries)
		}
		if entries, _ := os.ReadDir(into); len(entries) > 1 || len(entries) == 1 && entries[0].Name() != "x" {
			t.Fatalf("beside the target: %v", entries)
		}
	})
}

func BenchmarkSmallFiles(b *testing.B) {
	dir := b.TempDir()
	for i := range 2000 {
		must(b, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("small"), 0o644))
	}
	to := b.TempDir()
	for i := 0; b.Loop(); i++ {
		r, w := io.Pipe()
		from := root(b, dir)
		go func() { w.CloseWithError(archive.Pack(w, from, ".", archive.Options{})) }()
		must(b, archive.Unpack(r, root(b, to), fmt.Sprint(i), archive.Options{}))
	}
	b.ReportMetric(float64(b.N)*2000/b.Elapsed().Seconds(), "files/s")
}
