package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/image/imagetest"
)

func jsonOf(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return data
}

const testBase = 0x70000000

// mounted unpacks and mounts layers.
func mounted(t *testing.T, layers ...[]byte) Rootfs {
	t.Helper()
	s, img, err := unpackLayers(t, layers...)
	must(t, err)
	dir := t.TempDir()
	r, err := s.Mount(img, dir, testBase, 1<<20)
	must(t, err)
	t.Cleanup(func() { must(t, Unmount(dir)) })
	return r
}

// TestMount: layers are laid over one another with their whiteouts, and owners are those of the sandbox.
func TestMount(t *testing.T) {
	file, dir := imagetest.File, imagetest.Dir
	owned := file("owned", "x")
	owned.Uid, owned.Gid = 1000, 1001
	r := mounted(t,
		imagetest.Tar(t, file("kept", "1"), file("changed", "1"), file("removed", "1"), dir("opaque"), file("opaque/old", "1"), dir("again"), file("again/old", "1")),
		imagetest.Tar(t, file("changed", "2"), file(".wh.removed", ""), dir("opaque"), file("opaque/.wh..wh..opq", ""), file("opaque/new", "2"),
			file(".wh.again", ""), dir("again"), file("again/new", "2"), owned, file(".wh..wh.plnk", "")),
	)
	for name, want := range map[string]string{"kept": "1", "changed": "2", "removed": "", "opaque/old": "", "opaque/new": "2", "again/old": "", "again/new": "2"} {
		got, err := os.ReadFile(filepath.Join(r.Root(), name))
		if want == "" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q %v, want it hidden", name, got, err)
		}
		if want != "" && string(got) != want {
			t.Errorf("%s: %q %v, want %q", name, got, err, want)
		}
	}
	for name, want := range map[string][2]uint32{"kept": {testBase, testBase}, "owned": {testBase + 1000, testBase + 1001}} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(r.Root(), name), &st))
		if st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("%s belongs to %d:%d, want %d", name, st.Uid, st.Gid, want)
		}
	}
	// What is written has a limit and does not reach the layers.
	if err := os.WriteFile(filepath.Join(r.Root(), "large"), make([]byte, 2<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writing more than the scratch space: %v", err)
	}
}

// TestManyLayers: as many layers as are allowed can be mounted.
func TestManyLayers(t *testing.T) {
	var layers [][]byte
	for i := range MaxLayers {
		layers = append(layers, imagetest.Tar(t, imagetest.File(fmt.Sprintf("f%d", i), "x"), imagetest.File("last", fmt.Sprint(i))))
	}
	r := mounted(t, layers...)
	if got, err := os.ReadFile(filepath.Join(r.Root(), "last")); err != nil || string(got) != fmt.Sprint(MaxLayers-1) {
		t.Errorf("%q %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(r.Root(), "f0")); err != nil {
		t.Error(err)
	}
}

func TestUser(t *testing.T) {
	passwd := "root:x:0:0::/root:/bin/sh\nworker:x:1000:100:Worker:/home/worker:/bin/sh\nbad:x:99999:1::/:\nshort:x\n12:x:77:78::/twelve:\n"
	group := "root:x:0:\nstaff:x:50:other,worker\nextra:x:51:worker\nhuge:x:70000:worker\n"
	r := mounted(t, imagetest.Tar(t, imagetest.Dir("etc"), imagetest.File("etc/passwd", passwd), imagetest.File("etc/group", group)))
	for spec, want := range map[string]User{
		"":             {Home: "/root"},
		"root":         {Home: "/root"},
		"0":            {Home: "/root"},
		"worker":       {UID: 1000, GID: 100, Groups: []uint32{50, 51}, Home: "/home/worker"},
		"1000":         {UID: 1000, GID: 100, Groups: []uint32{50, 51}, Home: "/home/worker"},
		"worker:staff": {UID: 1000, GID: 50, Home: "/home/worker"},
		"worker:7":     {UID: 1000, GID: 7, Home: "/home/worker"},
		"4242":         {UID: 4242, Home: "/"},
		"4242:4343":    {UID: 4242, GID: 4343, Home: "/"},
		"12":           {UID: 77, GID: 78, Home: "/twelve"},
	} {
		got, err := r.User(spec)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: %+v %v, want %+v", spec, got, err, want)
		}
	}
	for _, spec := range []string{"nobody-here", "worker:nothing", "70000", "-1", "bad", "a:b:c", "0:99999999999"} {
		if got, err := r.User(spec); err == nil {
			t.Errorf("%q: %+v, want an error", spec, got)
		}
	}
}

// TestUserFiles: the machine's own files are not read, whatever the image puts in place of its own.
func TestUserFiles(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "passwd")
	must(t, os.WriteFile(outside, []byte("machine:x:5:5::/:\n"), 0o644))
	for name, entries := range map[string]entries{
		"link out":           {imagetest.Dir("etc"), imagetest.Symlink("etc/passwd", outside)},
		"relative link out":  {imagetest.Dir("etc"), imagetest.Symlink("etc/passwd", strings.Repeat("../", 20)+outside)},
		"directory link out": {imagetest.Symlink("etc", filepath.Dir(outside))},
		"a directory":        {imagetest.Dir("etc"), imagetest.Dir("etc/passwd")},
		"a loop":             {imagetest.Dir("etc"), imagetest.Symlink("etc/passwd", "passwd")},
		"none":               {imagetest.Dir("etc")},
	} {
		t.Run(name, func(t *testing.T) {
			if u, err := mounted(t, imagetest.Tar(t, entries...)).User("machine"); err == nil {
				t.Errorf("found %+v", u)
			}
		})
	}
}

func TestMakeDir(t *testing.T) {
	outside := t.TempDir()
	r := mounted(t, imagetest.Tar(t, imagetest.Dir("srv"), imagetest.Symlink("srv/link", outside), imagetest.Symlink("abs", "/srv"), imagetest.File("file", "x")))
	u := User{UID: 3, GID: 4}
	for _, dir := range []string{"/", "/new/deep", "relative", "/srv", "/abs/in", "/srv/../../../up"} {
		if err := r.MakeDir(dir, testBase, u); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	var st unix.Stat_t
	for _, dir := range []string{"new/deep", "relative", "srv/in", "up"} {
		if err := unix.Lstat(filepath.Join(r.Root(), dir), &st); err != nil || st.Uid != testBase+3 || st.Gid != testBase+4 {
			t.Errorf("%s: %v, %d:%d", dir, err, st.Uid, st.Gid)
		}
	}
	if err := r.MakeDir("/file/below", testBase, u); err == nil {
		t.Error("a directory below a file was made")
	}
	// The link leads to a place that does not exist inside.
	_ = r.MakeDir("/srv/link/made", testBase, u)
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("made outside: %v", left)
	}
}

// TestShared: many at once unpack one layer once.
func TestShared(t *testing.T) {
	l := imagetest.New(t)
	big := imagetest.Entry{Header: tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o644}, Content: strings.Repeat("content ", 1<<18)}
	l.Add(imagetest.Image{Layers: [][]byte{imagetest.Tar(t, big)}, Compress: true, Config: v1.Config{}})
	img, err := Resolve(Target{Layout: l.Dir, Ref: "r"}, runtime.GOARCH)
	must(t, err)
	s := newStore(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	did := 0
	for range 8 {
		all.Go(func() {
			done, err := s.Unpack(t.Context(), img)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if done.Entries > 0 {
				did++
			}
		})
	}
	all.Wait()
	if did != 1 {
		t.Errorf("unpacked %d times", did)
	}
}

// TestReopen: what an interrupted unpacking left goes, what was complete stays.
func TestReopen(t *testing.T) {
	s, img, err := unpackLayers(t, imagetest.Tar(t, imagetest.File("f", "x")))
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(s.dir, tempPrefix+"1", "sub"), 0o755))
	again, err := OpenStore(filepath.Dir(s.dir))
	must(t, err)
	defer again.Close()
	left, err := os.ReadDir(s.dir)
	must(t, err)
	if len(left) != 1 || left[0].Name() != img.Layers[0].DiffID.Hex {
		t.Errorf("%v", left)
	}
}

func TestSupported(t *testing.T) {
	s, dir := newStore(t), t.TempDir()
	if err := s.Supported(filepath.Join(dir, "probe"), testBase); err != nil {
		t.Fatal(err)
	}
	noTrace(t, s)
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func BenchmarkMount(b *testing.B) {
	l := imagetest.New(b)
	l.Add(imagetest.Image{Layers: [][]byte{imagetest.Tar(b, imagetest.File("a", "1")), imagetest.Tar(b, imagetest.File("b", "2"))}})
	img, err := Resolve(Target{Layout: l.Dir, Ref: "r"}, runtime.GOARCH)
	must(b, err)
	s := newStore(b)
	_, err = s.Unpack(b.Context(), img)
	must(b, err)
	parent := b.TempDir()
	n := 0
	for b.Loop() {
		n++
		dir := filepath.Join(parent, fmt.Sprint(n))
		must(b, os.Mkdir(dir, 0o755))
		_, err := s.Mount(img, dir, testBase, 1<<20)
		must(b, err)
		must(b, Unmount(dir))
	}
}
