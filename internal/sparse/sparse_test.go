package sparse

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// holey is a file of a gigabyte with a little at two places.
func holey(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "from")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{8192, 900 << 20} {
		if _, err := f.WriteAt(bytes.Repeat([]byte("x"), 10000), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(1<<30), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCopy: the content is the same, and the holes are.
func TestCopy(t *testing.T) {
	from := holey(t)
	to := filepath.Join(t.TempDir(), "to")
	if err := os.WriteFile(to, bytes.Repeat([]byte("old"), 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), to, from, 1<<20); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(to, &st); err != nil || st.Size != 1<<30 || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes in %d: %v", st.Size, st.Blocks*512, err)
	}
	for _, at := range []int64{0, 8192 - 5, 18192 - 5, 900<<20 - 5, 900<<20 + 9995} {
		var got, want [10]byte
		read(t, to, got[:], at)
		read(t, from, want[:], at)
		if got != want {
			t.Errorf("at %d: %q, want %q", at, got, want)
		}
	}
}

func read(t *testing.T, path string, into []byte, at int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(into, at); err != nil {
		t.Fatal(err)
	}
}

// TestRefused: after an error there is no file.
func TestRefused(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx   context.Context
		room  string
		limit int64
		want  error
	}{
		"too large": {t.Context(), "1m", 15000, ErrTooLarge},
		"cancelled": {gone, "1m", 0, context.Canceled},
		"disk full": {t.Context(), "8k", 0, unix.ENOSPC},
	} {
		to := filepath.Join(other(t, c.room), "to")
		if err := Copy(c.ctx, to, holey(t), c.limit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(to); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something is left: %v", name, err)
		}
	}
}

// other is another file system, with which no blocks can be shared.
func other(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("other", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}
