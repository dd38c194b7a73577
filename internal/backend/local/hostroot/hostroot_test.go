package hostroot

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fakeMachine is a machine with secrets in all the places that must not be taken from.
func fakeMachine(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"etc/passwd": "SECRET", "etc/shadow": "SECRET", "etc/hosts": "SECRET", "etc/resolv.conf": "SECRET", "etc/ssl/private/key.pem": "SECRET",
		"home/me/file": "SECRET", "root/.ssh/id": "SECRET", "var/lib/db": "SECRET", "opt/app": "SECRET", "srv/data": "SECRET",
		"etc/ld.so.cache": "linker cache", "etc/ssl/certs/ca-certificates.crt": "certificates", "usr/bin/tool": "tool",
	} {
		p := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(content), 0o644))
	}
	for name, target := range map[string]string{
		"bin": "usr/bin", "lib": "/usr/lib", "sbin": "opt/elsewhere",
		"etc/alternatives/awk": "/usr/bin/mawk", "etc/alternatives/leak": "/root/.ssh/id", "etc/alternatives/rel": "../../root/.ssh/id",
	} {
		p := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.Symlink(target, p))
	}
	must(t, os.Mkdir(filepath.Join(root, "lib64"), 0o755))
	return root
}

func builder(t *testing.T) *Builder {
	t.Helper()
	b := New(t.TempDir())
	b.machine = fakeMachine(t)
	return b
}

// TestSkeleton: it has what programs need, and nothing of what is the machine's own.
func TestSkeleton(t *testing.T) {
	s, err := builder(t).Current()
	must(t, err)
	if len(s.Mounts) != 2 || s.Mounts[0].Path != "/usr" || s.Mounts[1].Path != "/lib64" {
		t.Errorf("mounts: %v", s.Mounts)
	}
	for name, want := range map[string]string{
		"etc/ld.so.cache": "linker cache", "etc/ssl/certs/ca-certificates.crt": "certificates", "etc/ssl/cert.pem": "certificates",
		"etc/pki/tls/certs/ca-bundle.crt": "certificates", "etc/resolv.conf": "",
	} {
		if got, err := os.ReadFile(filepath.Join(s.Path, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q %v, want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]string{"bin": "usr/bin", "lib": "/usr/lib", "etc/alternatives/awk": "/usr/bin/mawk"} {
		if got, err := os.Readlink(filepath.Join(s.Path, name)); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"sbin", "etc/alternatives/leak", "etc/alternatives/rel", "etc/shadow", "etc/ssl/private", "opt/app", "home/me"} {
		if _, err := os.Lstat(filepath.Join(s.Path, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	must(t, filepath.WalkDir(s.Path, func(path string, d fs.DirEntry, err error) error {
		must(t, err)
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), "SECRET") {
			t.Errorf("%s comes from the machine", path)
		}
		if info, _ := d.Info(); info.Mode().Perm()&0o022 != 0 && d.Type() != fs.ModeSymlink && info.Mode()&fs.ModeSticky == 0 {
			t.Errorf("%s can be written: %v", path, info.Mode())
		}
		return nil
	}))
	for dir, mode := range WritableDirs() {
		info, err := os.Stat(filepath.Join(s.Path, dir))
		if err != nil || info.Mode().Perm() != fs.FileMode(mode).Perm() {
			t.Errorf("%s: %v, want %o as the file system mounted there: runc takes the mount point's", dir, info, mode)
		}
	}
}

// TestCurrent: a skeleton is built once, and again when a source changed; the old one stays for those who use it.
func TestCurrent(t *testing.T) {
	b := builder(t)
	first, err := b.Current()
	must(t, err)
	again, err := b.Current()
	must(t, err)
	if again != first {
		t.Error("built twice")
	}
	must(t, os.WriteFile(filepath.Join(b.machine, "etc/ld.so.cache"), []byte("a longer linker cache"), 0o644))
	next, err := b.Current()
	must(t, err)
	if next.Path == first.Path {
		t.Error("a change went unnoticed")
	}
	if _, err := os.Stat(first.Path); err != nil {
		t.Errorf("the old one: %v", err)
	}
	must(t, b.Sweep())
	if _, err := os.Stat(first.Path); err == nil {
		t.Error("the old one survived the sweep")
	}
	if _, err := os.Stat(next.Path); err != nil {
		t.Error(err)
	}
}

func TestCopy(t *testing.T) {
	b := builder(t)
	s, err := b.Current()
	must(t, err)
	root := filepath.Join(b.dir, "own")
	must(t, s.Copy(root, []string{"/etc/app/config.json", "/data/f", "/etc/hosts", "/top"}))
	for _, name := range []string{"etc/app/config.json", "data/f", "etc/hosts", "top", "etc/passwd", "usr", "tmp"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Copy(filepath.Join(b.dir, "other"), []string{"/etc/alternatives"}); err == nil {
		t.Error("a mount point for a file where there is a directory")
	}
}

// TestSources: what is too large, or no file, is not read.
func TestSources(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"too large": func(p string) error { return os.Truncate(p, maxFileBytes+1) },
		"a pipe":    func(p string) error { return firstOf(os.Remove(p), unix.Mkfifo(p, 0o644)) },
	} {
		b := builder(t)
		must(t, spoil(filepath.Join(b.machine, linkerCache)))
		if _, err := b.Current(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A machine without them has none.
	b := builder(t)
	must(t, os.RemoveAll(filepath.Join(b.machine, "etc")))
	if _, err := b.Current(); err != nil {
		t.Error(err)
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
