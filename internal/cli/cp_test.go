package cli

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/archive"
)

// oneFile is the archive of a file with this text.
func oneFile(t *testing.T, text string) io.Reader {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var b bytes.Buffer
	if err := archive.Pack(&b, root, "f", archive.Options{}); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestCopyOverWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	file, link, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	put := func(text, to string) error { return unpackLocal(oneFile(t, text), "/src/name", to, archive.Options{}) }
	if err := put("one", file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o644 {
		t.Errorf("a new file: %v, %v", info, err)
	}
	for _, err := range []error{os.Chmod(file, 0o600), os.Symlink("file", link), unix.Mkfifo(pipe, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := put("two", link); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != "file" {
		t.Errorf("the link is gone: %q, %v", to, err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "two" {
		t.Errorf("%q, %v", text, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("the mode of a file that was there: %v, %v", info, err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := put("three", pipe); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("the pipe became a file: %v, %v", info, err)
	}
	text := make([]byte, 10)
	if n, err := reader.Read(text); err != nil || string(text[:n]) != "three" {
		t.Errorf("%q, %v", text[:n], err)
	}
	if err := put("four", dir); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "name")); err != nil || string(text) != "four" {
		t.Errorf("into a directory: %q, %v", text, err)
	}
	if err := put("x", filepath.Join(dir, "nowhere", "file")); err == nil {
		t.Error("a file in a directory that is not there")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}
