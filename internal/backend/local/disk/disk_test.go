package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "disks"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mounted makes and mounts a file system and returns its file and its root.
func mounted(t testing.TB, s *Store, size int64) (image, dir string) {
	t.Helper()
	at := t.TempDir()
	image, dir = filepath.Join(at, "image"), filepath.Join(at, "root")
	if err := errors.Join(s.Make(t.Context(), image, size), os.Mkdir(dir, 0o700), Mount(image, dir)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	return image, dir
}

// onDisk is what a file takes of the machine's disk, in bytes.
func onDisk(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestSizes(t *testing.T) {
	s := open(t)
	for _, size := range []int64{MinBytes, 100<<20 + 1, 10 << 30} {
		image, dir := mounted(t, s, size)
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		has := int64(st.Bavail) * st.Bsize
		if has > size || has < size*9/10 {
			t.Errorf("of %d bytes %d can be written", size, has)
		}
		if files := int64(st.Files); files < size/BytesPerFile*9/10 || files > size/BytesPerFile*11/10+64 {
			t.Errorf("of %d bytes: %d files", size, files)
		}
		if taken := onDisk(t, image); taken > 8<<20 {
			t.Errorf("an empty one of %d bytes takes %d", size, taken)
		}
	}
	for _, size := range []int64{-1, 0, MinBytes - 1, MaxBytes + blockBytes} {
		if err := s.Make(t.Context(), filepath.Join(t.TempDir(), "image"), size); err == nil {
			t.Errorf("%d bytes: no error", size)
		}
	}
}

// TestFull: a full one says so, and gives back to the machine what is deleted.
func TestFull(t *testing.T) {
	image, dir := mounted(t, open(t), 32<<20)
	name := filepath.Join(dir, "file")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	written := int64(0)
	for err == nil {
		var n int
		n, err = f.Write(make([]byte, 1<<16))
		written += int64(n)
	}
	if !errors.Is(err, unix.ENOSPC) || written < 24<<20 {
		t.Errorf("after %d bytes: %v", written, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Error(err)
	}
	if used, err := Used(dir); err != nil || used < written {
		t.Errorf("%d bytes are used, %v", used, err)
	}
	if taken := onDisk(t, image); taken < written || taken > 32<<20 {
		t.Errorf("%d bytes in it take %d", written, taken)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := unix.Syncfs(openDir(t, dir)); err != nil {
		t.Fatal(err)
	}
	if taken := onDisk(t, image); taken > 8<<20 {
		t.Errorf("after the deletion it takes %d bytes", taken)
	}
}

func openDir(t *testing.T, dir string) int {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return int(d.Fd())
}

// TestFiles: their number is bounded too.
func TestFiles(t *testing.T) {
	_, dir := mounted(t, open(t), MinBytes)
	var err error
	n := 0
	for ; err == nil && n < 1<<20; n++ {
		err = os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), nil, 0o600)
	}
	if !errors.Is(err, unix.ENOSPC) || n > 2*MinBytes/BytesPerFile {
		t.Errorf("after %d files: %v", n, err)
	}
}

// TestApart: what is copied from one template does not show in another copy, and a mount goes without a trace.
func TestApart(t *testing.T) {
	s := open(t)
	_, one := mounted(t, s, MinBytes)
	if err := os.WriteFile(filepath.Join(one, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, other := mounted(t, s, MinBytes)
	if _, err := os.Stat(filepath.Join(other, "file")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(Unmount(one), Unmount(one)); err != nil {
		t.Error(err)
	}
	if err := s.Supported(t.Context(), filepath.Join(t.TempDir(), "probe")); err != nil {
		t.Error(err)
	}
}

// TestBegins: each begins with the directories asked for, which are its own, empty and closed.
func TestBegins(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "disks"), "a", "b-c")
	if err != nil {
		t.Fatal(err)
	}
	_, one := mounted(t, s, MinBytes)
	_, other := mounted(t, s, 64<<20)
	for _, name := range []string{"a", "b-c"} {
		if err := os.WriteFile(filepath.Join(one, name, "file"), []byte("x"), 0o600); err != nil {
			t.Error(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(other, name), &st); err != nil || st.Uid != 0 || st.Mode&0o7777 != 0o700 {
			t.Errorf("%s: %+v %v", name, st, err)
		}
		if found, err := os.ReadDir(filepath.Join(other, name)); err != nil || len(found) > 0 {
			t.Errorf("%s: %v %v", name, found, err)
		}
	}
}

func TestManySizes(t *testing.T) {
	s := open(t)
	image := filepath.Join(t.TempDir(), "image")
	for i := range maxTemplates + 3 {
		if err := s.Make(t.Context(), image, MinBytes+int64(i)*blockBytes); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, "*.ext4")); err != nil || len(left) != maxTemplates {
		t.Errorf("%d are kept, %v", len(left), err)
	}
	if err := s.Make(t.Context(), image, MinBytes); err != nil {
		t.Error(err)
	}
}

func BenchmarkMakeAndMount(b *testing.B) {
	s := open(b)
	at := b.TempDir()
	image, dir := filepath.Join(at, "image"), filepath.Join(at, "root")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_ = os.Remove(image) // The one before may still be on its way out.
		if err := errors.Join(s.Make(b.Context(), image, 10<<30), Mount(image, dir)); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := Unmount(dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
