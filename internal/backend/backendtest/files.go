package backendtest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// errBroken is what a reader returns whose content ends early.
var errBroken = errors.New("the content ends early")

func (s *suite) testFiles() {
	w := s.work("sleep", "infinity")
	w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/data/given", Content: []byte("given")}}
	id := s.create(s.T, w)
	s.await(s.T, id, "it runs", func(o *backend.Observation) bool { return o.Phase == backend.PhaseRunning })

	s.sub("what is written is read", func(t *testing.T) {
		for name, content := range map[string][]byte{
			"/tmp/empty": {}, "/tmp/text": []byte("text\n"), "/workspace/binary": bytes.Repeat([]byte{0, 1, 255, '\n'}, 1<<18),
		} {
			if err := s.b.WriteFile(s.ctx, id, name, 0o644, bytes.NewReader(content)); err != nil {
				t.Errorf("write %s: %v", name, err)
				continue
			}
			if got := s.read(t, id, name); !bytes.Equal(got, content) {
				t.Errorf("%s: %d bytes came back, want %d", name, len(got), len(content))
			}
		}
		if r := s.exec(t, id, backend.Exec{Argv: []string{"cat", "/tmp/text"}}); r.out != "text\n" {
			t.Errorf("commands do not see the file: %+v", r)
		}
	})
	s.sub("a write replaces all of a file", func(t *testing.T) {
		for _, content := range []string{"a long first content", "short"} {
			if err := s.b.WriteFile(s.ctx, id, "/tmp/replaced", 0o644, strings.NewReader(content)); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.read(t, id, "/tmp/replaced"); string(got) != "short" {
			t.Errorf("got %q", got)
		}
	})
	s.sub("a write that breaks off leaves what was there", func(t *testing.T) {
		if err := s.b.WriteFile(s.ctx, id, "/tmp/kept", 0o644, strings.NewReader("kept")); err != nil {
			t.Fatal(err)
		}
		broken := io.MultiReader(strings.NewReader("half of the new"), failing{})
		if err := s.b.WriteFile(s.ctx, id, "/tmp/kept", 0o644, broken); err == nil {
			t.Error("a write whose content broke off succeeded")
		}
		if got := s.read(t, id, "/tmp/kept"); string(got) != "kept" {
			t.Errorf("got %q", got)
		}
	})
	s.sub("errors name what is wrong", func(t *testing.T) { s.fileErrors(t, id) })
	s.sub("mounted files are there and cannot be changed", func(t *testing.T) {
		if got := s.read(t, id, "/data/given"); string(got) != "given" {
			t.Errorf("got %q", got)
		}
		if err := s.b.WriteFile(s.ctx, id, "/data/given", 0o644, strings.NewReader("changed")); err == nil {
			t.Error("a mounted file was replaced")
		}
		if got := s.read(t, id, "/data/given"); string(got) != "given" {
			t.Errorf("got %q after a refused write", got)
		}
	})
}

func (s *suite) fileErrors(t *testing.T, id string) {
	read := func(p string, limit int64) error {
		r, _, err := s.b.ReadFile(s.ctx, id, p, limit)
		if err == nil {
			r.Close()
		}
		return err
	}
	wantFault(t, read("/tmp/absent", 100), fault.NotFound, fault.ReasonFileNotFound)
	wantFault(t, read("/tmp", 100), fault.CodeOf(read("/tmp", 100)), fault.ReasonFileIsDirectory)
	wantFault(t, read("relative", 100), fault.Invalid, "")
	write := func(p string) error { return s.b.WriteFile(s.ctx, id, p, 0o644, strings.NewReader("x")) }
	wantFault(t, write("/tmp"), fault.CodeOf(write("/tmp")), fault.ReasonFileIsDirectory)
	wantFault(t, write("relative"), fault.Invalid, "")
	if err := write("/usr/new"); err == nil {
		t.Error("the image's read-only part was written to")
	}
	if err := s.b.WriteFile(s.ctx, id, "/tmp/ten", 0o644, strings.NewReader("0123456789")); err != nil {
		t.Fatal(err)
	}
	if err := read("/tmp/ten", 10); err != nil {
		t.Errorf("a file of exactly the limit: %v", err)
	}
	err := read("/tmp/ten", 9)
	wantFault(t, err, fault.Precondition, fault.ReasonFileTooLarge)
	if meta := fault.From(err).Meta; meta["size_bytes"] != "10" || meta["max_size_bytes"] != "9" {
		t.Errorf("metadata: %v", meta)
	}
	_, _, err = s.b.ReadFile(s.ctx, "sbx-unknown", "/tmp/ten", 10)
	wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
	ended := s.create(t, s.work("true"))
	s.ended(t, ended)
	_, _, err = s.b.ReadFile(s.ctx, ended, "/tmp/ten", 10)
	wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
	err = s.b.WriteFile(s.ctx, ended, "/tmp/ten", 0o644, strings.NewReader("x"))
	wantFault(t, err, fault.Precondition, fault.ReasonSandboxNotRunning)
}

func (s *suite) read(t *testing.T, id, p string) []byte {
	t.Helper()
	r, size, err := s.b.ReadFile(s.ctx, id, p, backend.MaxUnaryFile)
	if err != nil {
		t.Fatalf("read %s: %v", p, err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %s: %v", p, err)
	}
	if int64(len(data)) != size {
		t.Errorf("%s: size %d was said, %d bytes came", p, size, len(data))
	}
	return data
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }
