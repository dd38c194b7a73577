package shim_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// read returns a file's content.
func (s *sandbox) read(path string, limit int64) ([]byte, shim.FileInfo, error) {
	r, info, err := s.client.ReadFile(s.ctx(), path, limit)
	if err != nil {
		return nil, info, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return data, info, err
}

func (s *sandbox) write(path string, o shim.WriteOptions, data []byte) error {
	return s.client.WriteFile(s.ctx(), path, o, bytes.NewReader(data))
}

func TestFiles(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime)
		big := make([]byte, 20<<20)
		for i := range big {
			big[i] = byte(rand.Uint32())
		}
		for name, data := range map[string][]byte{
			"/tmp/empty": {}, "/tmp/small": []byte("hello"), "/tmp/new/deep/dir/file": []byte("x"), "/workspace/big": big,
			"/tmp/ünï cödé\nline": []byte("name"), "/tmp/frame": big[:64<<10], "/tmp/frame+1": big[:64<<10+1],
		} {
			if err := s.write(name, shim.WriteOptions{}, data); err != nil {
				t.Errorf("write %q: %v", name, err)
				continue
			}
			got, info, err := s.read(name, int64(len(data)))
			if err != nil || sha256.Sum256(got) != sha256.Sum256(data) || info.Size != int64(len(data)) || info.Mode != 0o644 {
				t.Errorf("read %q: %d bytes, %+v, %v", name, len(got), info, err)
			}
		}
		if got := s.sh("find / -name '.berm-*' 2>/dev/null; stat -c '%a %u' /tmp/new /tmp/small"); got != "755 0\n644 0" {
			t.Errorf("afterwards: %q", got)
		}
	})
}

func TestWriteKeepsWhatWasThere(t *testing.T) {
	s := start(t, "crun")
	s.sh("printf old > /tmp/f; chmod 2751 /tmp/f; chmod u+s /tmp/f; ln -s f /tmp/link; ln -s /tmp/made/later /tmp/dangling; mkdir /tmp/d; ln -s ../f /tmp/d/up; ln -s /tmp/d /tmp/dl")
	if err := s.write("/tmp/f", shim.WriteOptions{Mode: 0o600}, []byte("new")); err != nil {
		t.Fatal(err)
	}
	// Not the set-id bits: the kernel takes those from any file that is written to.
	if got := s.sh("cat /tmp/f; stat -c ' %a' /tmp/f"); got != "new 751" {
		t.Errorf("mode and content: %q", got)
	}
	// Links are followed, as by a shell's redirection: the file changes, the link stays.
	for _, link := range []string{"/tmp/link", "/tmp/d/up", "/tmp/dl/up", "/tmp/d/../link", "/tmp/dangling"} {
		if err := s.write(link, shim.WriteOptions{}, []byte(link)); err != nil {
			t.Errorf("%s: %v", link, err)
			continue
		}
		if got, _, err := s.read(link, 0); err != nil || string(got) != link {
			t.Errorf("%s: %q, %v", link, got, err)
		}
	}
	if got := s.sh("readlink /tmp/link /tmp/d/up /tmp/dangling; cat /tmp/made/later"); got != "f\n../f\n/tmp/made/later\n/tmp/dangling" {
		t.Errorf("links: %q", got)
	}
	if err := s.write("/tmp/exe", shim.WriteOptions{Mode: 0o755}, []byte("#!/bin/sh\necho ran\n")); err != nil {
		t.Fatal(err)
	}
	if got := s.sh("/tmp/exe"); got != "ran" {
		t.Errorf("executable: %q", got)
	}
}

func TestFilesRefused(t *testing.T) {
	s := start(t, "crun")
	s.sh(`mkfifo /tmp/fifo; mkdir /tmp/dir; printf 12345 > /tmp/five; ln -s loop /tmp/loop; ln -s /proc/self/fd/0 /tmp/magic
		ln -s /proc/1/root /tmp/root; ln -s /dev/zero /tmp/zero; printf secret > /tmp/secret; chmod 0 /tmp/secret; mkdir -m 0 /tmp/locked`)
	for _, tt := range []struct {
		path   string
		reason string
		text   string
	}{
		{"/tmp/none", fault.ReasonFileNotFound, "no such file"},
		{"/tmp/five/below", fault.ReasonFileNotFound, "no such file"},
		{"/tmp/dir", fault.ReasonFileIsDirectory, "directory"},
		{"/", fault.ReasonFileIsDirectory, "directory"},
		{"/tmp/fifo", fault.ReasonFileIOFailed, "named pipe"},
		{"/dev/zero", fault.ReasonFileIOFailed, "device"},
		{"/tmp/zero", fault.ReasonFileIOFailed, "device"},
		{"/dev/ptmx", fault.ReasonFileIOFailed, "device"},
		{"/tmp/loop", fault.ReasonFileIOFailed, "links"},
		{"/tmp/magic", fault.ReasonFileIOFailed, "links"},
		{"/tmp/root/etc/passwd", fault.ReasonFileIOFailed, "links"},
		{"/proc/self/root/etc/passwd", fault.ReasonFileIOFailed, "links"},
		{"/proc/self/environ", fault.ReasonFileIOFailed, "proc"},
		{"/proc/1/environ", fault.ReasonFileIOFailed, "proc"},
		{"/proc/kmsg", "", ""},
		{"/proc/uptime", fault.ReasonFileIOFailed, "proc"},
		{"/tmp/five", fault.ReasonFileTooLarge, "5 bytes exceed the limit of 4"},
		{"/tmp/secret", fault.ReasonFilePermissionDenied, "permission"},
		{"/tmp/locked/x", fault.ReasonFilePermissionDenied, "permission"},
		{"relative", fault.ReasonInvalidRequest, "absolute"},
		{"", fault.ReasonInvalidRequest, "absolute"},
		{"/" + strings.Repeat("x", 300), fault.ReasonInvalidRequest, "name too long"},
		{"/tmp/\x00", fault.ReasonInvalidRequest, "zero byte"},
	} {
		data, _, err := s.read(tt.path, 4)
		if err == nil || !fault.HasReason(err, tt.reason) && tt.reason != "" || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("read %q: %q, %v, want %s with %q", tt.path, data, err, tt.reason, tt.text)
		}
		if f := fault.From(err); f != nil && tt.reason == fault.ReasonFileTooLarge && (f.Meta["size_bytes"] != "5" || f.Meta["max_size_bytes"] != "4") {
			t.Errorf("metadata %v", f.Meta)
		}
		if f := fault.From(err); f != nil && strings.HasPrefix(tt.reason, "CWSANDBOX_FILE") && f.Meta["filepath"] != tt.path {
			t.Errorf("metadata %v of %q", f.Meta, tt.path)
		}
	}
	for _, tt := range []struct {
		path   string
		reason string
	}{
		{"/tmp/dir", fault.ReasonFileIsDirectory},
		{"/tmp/dir/", fault.ReasonFileIsDirectory},
		{"/", fault.ReasonFileIsDirectory},
		{"/tmp/fifo", fault.ReasonFileIOFailed},
		{"/dev/null", fault.ReasonFileIOFailed},
		{"/tmp/zero", fault.ReasonFileIOFailed},
		{"/tmp/loop", fault.ReasonFileIOFailed},
		{"/tmp/magic", fault.ReasonFileIOFailed},
		{"/tmp/root/tmp/x", fault.ReasonFileIOFailed},
		{"/proc/self/oom_score_adj", fault.ReasonFileIOFailed},
		{"/proc/new", fault.ReasonFileIOFailed},
		{"/proc/self/fd/0", fault.ReasonFileIOFailed},
		{"/proc/self/cwd/tmp/x", fault.ReasonFileIOFailed},
		{"/usr/new", fault.ReasonFilePermissionDenied},
		{"/etc/passwd", fault.ReasonFilePermissionDenied},
		{"/.berm/init", fault.ReasonFilePermissionDenied},
		{"/tmp/secret", fault.ReasonFilePermissionDenied},
		{"/tmp/locked/x", fault.ReasonFilePermissionDenied},
		{"/tmp/five/below", fault.ReasonFileIOFailed},
		{"relative", fault.ReasonInvalidRequest},
		{"/tmp/" + strings.Repeat("x", 300), fault.ReasonInvalidRequest},
		{"/tmp/..", fault.ReasonFileIsDirectory},
	} {
		if err := s.write(tt.path, shim.WriteOptions{}, []byte("x")); !fault.HasReason(err, tt.reason) {
			t.Errorf("write %q: %v (%v), want %s", tt.path, err, reasonOf(err), tt.reason)
		}
	}
	if got := s.sh("find / -xdev -name '.berm-*' 2>/dev/null; test -c /dev/null && test -p /tmp/fifo && echo same"); got != "same" {
		t.Errorf("afterwards: %q", got)
	}
}

func reasonOf(err error) string {
	if err == nil {
		return "no error"
	}
	return fault.From(err).Reason
}

// A full disk is told in words, keeps what was there and leaves nothing half-written.
func TestDiskFull(t *testing.T) {
	runtimes(t, func(t *testing.T, runtime string) {
		s := start(t, runtime)
		if err := s.write("/small/f", shim.WriteOptions{}, []byte("before")); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{2 << 20, 30 << 20} { // The larger one does not fit into what may be on the way.
			err := s.write("/small/f", shim.WriteOptions{}, make([]byte, size))
			if !fault.HasReason(err, fault.ReasonFileIOFailed) || !strings.Contains(err.Error(), "no space left") {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
		if got := s.sh("cat /small/f; ls -A /small; df --output=used /small | tail -1 | tr -d ' '"); got != "beforef\n4" {
			t.Errorf("afterwards: %q", got)
		}
	})
}

func TestWriteLimit(t *testing.T) {
	s := start(t, "crun")
	err := s.write("/tmp/f", shim.WriteOptions{Limit: 1 << 20}, make([]byte, 1<<20+1))
	if !fault.HasReason(err, fault.ReasonFileTooLarge) || fault.From(err).Meta["max_size_bytes"] != "1048576" {
		t.Errorf("over the limit: %v", err)
	}
	if err := s.write("/tmp/g", shim.WriteOptions{Limit: 1 << 20}, make([]byte, 1<<20)); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if got := s.sh("ls -A /tmp"); got != "g" {
		t.Errorf("afterwards: %q", got)
	}
}

// A source that breaks off, however it says so, or a caller that gives up, leaves the old file and nothing else.
func TestWriteAbandoned(t *testing.T) {
	s := start(t, "crun")
	s.sh("printf old > /tmp/f")
	for _, cause := range []error{errors.New("broken"), io.ErrUnexpectedEOF} {
		r := io.MultiReader(bytes.NewReader(make([]byte, 3<<20)), iotest.ErrReader(cause))
		if err := s.client.WriteFile(s.ctx(), "/tmp/f", shim.WriteOptions{}, r); !errors.Is(err, cause) {
			t.Errorf("got %v, want %v", err, cause)
		}
	}
	ctx, cancel := context.WithCancel(s.ctx())
	r := io.MultiReader(bytes.NewReader(make([]byte, 3<<20)), readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }))
	if err := s.client.WriteFile(ctx, "/tmp/f", shim.WriteOptions{}, r); !fault.Is(err, fault.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	eventually(t, "the temporary file is gone", func() error {
		if got := s.sh("cat /tmp/f; ls -A /tmp"); got != "oldf" {
			return fmt.Errorf("afterwards: %q", got)
		}
		return nil
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A file that grows while it is read ends at the limit, with an error.
func TestReadOfAGrowingFile(t *testing.T) {
	s := start(t, "crun", "/bin/sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.05; done; while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done >> /tmp/log")
	const limit, size = 8 << 20, 8<<20 - 100
	if err := s.write("/tmp/log", shim.WriteOptions{}, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	r, info, err := s.client.ReadFile(s.ctx(), "/tmp/log", limit)
	if err != nil || info.Size != size {
		t.Fatal(info.Size, err)
	}
	defer r.Close()
	// It is more than there are buffers for on the way, and nothing is read yet: the end of the file is still to come when it moves.
	if err := s.write("/tmp/go", shim.WriteOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file has outgrown the limit", func() error {
		if _, _, err := s.read("/tmp/log", limit); !fault.HasReason(err, fault.ReasonFileTooLarge) {
			return fmt.Errorf("read: %w", err)
		}
		return nil
	})
	data, err := io.ReadAll(r)
	if !fault.HasReason(err, fault.ReasonFileTooLarge) || int64(len(data)) > limit || int64(len(data)) < size {
		t.Errorf("%d bytes, opened at %d: %v", len(data), info.Size, err)
	}
}

// A reader that goes away in the middle, or never reads, holds nobody up.
func TestReadAbandoned(t *testing.T) {
	s := start(t, "crun")
	if err := s.write("/tmp/big", shim.WriteOptions{}, make([]byte, 30<<20)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		r, _, err := s.client.ReadFile(s.ctx(), "/tmp/big", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		r.Close()
		if _, err := r.Read(make([]byte, 1<<20)); err == nil {
			_, err = io.Copy(io.Discard, r)
			if err == nil {
				t.Error("a closed reader came to a clean end")
			}
		}
	}
	if got := s.sh("echo alive"); got != "alive" {
		t.Errorf("afterwards: %q", got)
	}
}

// While links and files are exchanged under it, a transfer never touches anything but regular files of the sandbox.
func TestFileRaces(t *testing.T) {
	s := start(t, "crun", "/bin/sh", "-c", `
		cd /tmp; echo real > real; mkfifo pipe
		while :; do
			ln -sf real target; ln -sf /proc/self/fd/3 target; ln -sf pipe target; ln -sf /dev/zero target
			rm -f target; echo file > target; rm -rf target; mkdir target; rmdir target
		done`)
	for range 300 {
		if data, _, err := s.read("/tmp/target", 1<<10); err == nil && string(data) != "real\n" && string(data) != "file\n" && string(data) != "" && string(data) != "mine" {
			t.Fatalf("read %q", data)
		}
		_ = s.write("/tmp/target", shim.WriteOptions{}, []byte("mine"))
	}
	if got := s.sh("test -c /dev/zero && test -p /tmp/pipe && echo same"); got != "same" {
		t.Errorf("afterwards: %q", got)
	}
}
