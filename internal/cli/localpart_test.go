package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/fault"
)

func partIn(t *testing.T) (dir string, open func(resume bool) (*localPart, error)) {
	t.Helper()
	dir = t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return dir, func(resume bool) (*localPart, error) {
		p := &localPart{dir: root, name: "f"}
		return p, p.open(resume)
	}
}

// TestPartIsTrusted: what others put where the beginning of a file was is not written to, followed or waited for.
func TestPartIsTrusted(t *testing.T) {
	dir, open := partIn(t)
	p, err := open(false)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, p.temp)
	p.close(false)
	victim := filepath.Join(dir, "victim")
	for name, trap := range map[string]func() error{
		"link":      func() error { return os.Symlink("victim", at) },
		"hard link": func() error { return os.Link(victim, at) },
		"pipe":      func() error { return unix.Mkfifo(at, 0o600) },
		"directory": func() error { return os.Mkdir(at, 0o700) },
		"full directory": func() error {
			return os.MkdirAll(filepath.Join(at, "x"), 0o700)
		},
		"writable by all": func() error { return os.WriteFile(at, []byte("evil"), 0o600) },
	} {
		for _, resume := range []bool{false, true} {
			if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := trap(); err != nil {
				t.Fatal(err)
			}
			if name == "writable by all" {
				if err := os.Chmod(at, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			p, err := open(resume)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if n, err := p.size(); err != nil || n != 0 {
				t.Errorf("%s: %d bytes of somebody else's, %v", name, n, err)
			}
			if _, err := p.file.WriteString("mine"); err != nil {
				t.Error(err)
			}
			if err := p.finish(0o640, time.Unix(1, 0)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			p.close(true)
			if got, _ := os.ReadFile(filepath.Join(dir, "f")); string(got) != "mine" {
				t.Errorf("%s: %q", name, got)
			}
			if got, _ := os.ReadFile(victim); string(got) != "untouched" {
				t.Errorf("%s: %q", name, got)
			}
			if err := os.RemoveAll(at); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPartIsOnes: while somebody writes it nobody goes on with it, and a copy from the beginning takes another file.
func TestPartIsOnes(t *testing.T) {
	dir, open := partIn(t)
	first, err := open(false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.file.WriteString("half"); err != nil {
		t.Fatal(err)
	}
	if _, err := open(true); !fault.HasReason(err, fault.ReasonFileBusy) {
		t.Errorf("two at once: %v", err)
	}
	second, err := open(false)
	if err != nil || second.temp == first.temp {
		t.Fatalf("%+v, %v", second, err)
	}
	if err := second.finish(0o644, time.Unix(1, 0)); err != nil {
		t.Error(err)
	}
	if !first.close(true) {
		t.Error("what came is not kept")
	}
	again, err := open(true)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := again.size(); n != 4 {
		t.Errorf("%d bytes were kept", n)
	}
	if again.close(false) {
		t.Error("kept")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
