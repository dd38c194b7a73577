package backendtest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// packed is an archive of files and directories, "name" or "name/", the content of a file being its name.
func packed(t *testing.T, names ...string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range names {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: n, Mode: 0o640, Size: int64(len(n))}
		if strings.HasSuffix(n, "/") {
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o750, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// unpacked lists what an archive of the sandbox holds: name, mode and content.
func (s *suite) unpacked(t *testing.T, id, path string) string {
	t.Helper()
	r, err := s.b.ReadArchive(s.ctx, id, path, backend.ArchivePart{})
	if err != nil {
		t.Fatalf("read archive of %s: %v", path, err)
	}
	defer r.Close()
	in := tar.NewReader(r)
	var list []string
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("archive of %s: %v", path, err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatalf("archive of %s: %v", path, err)
		}
		list = append(list, fmt.Sprintf("%s %o %s", h.Name, h.Mode&0o777, content))
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatalf("the end of an archive of %s: %v", path, err)
	}
	if len(list) > 1 {
		sort.Strings(list[1:])
	}
	return strings.Join(list, "\n")
}

func (s *suite) testArchives() {
	id := s.idle(s.T)
	const tree = "./ 750 \na 640 a\nd/ 750 \nd/b 640 d/b"
	write := func(path, name string, r io.Reader) error { return s.b.WriteArchive(s.ctx, id, path, name, r) }
	s.sub("a directory, into one, as one and over one", func(t *testing.T) {
		for _, to := range []struct{ path, name, at string }{
			{"/tmp", "in", "/tmp/in"}, {"/tmp/as", "ignored", "/tmp/as"}, {"/tmp/as", "", "/tmp/as"}, {"/tmp/as", "below", "/tmp/as/below"},
		} {
			if err := write(to.path, to.name, packed(t, "./", "a", "d/", "d/b")); err != nil {
				t.Fatalf("%+v: %v", to, err)
			}
			if got := s.unpacked(t, id, to.at); to.at != "/tmp/as" && !strings.HasSuffix(got, strings.SplitN(tree, "\n", 2)[1]) {
				t.Errorf("%+v:\n%s\nwant\n%s", to, got, tree)
			}
		}
		if r := s.exec(t, id, backend.Exec{Argv: []string{"cat", "/tmp/as/below/d/b"}}); r.out != "d/b" {
			t.Errorf("commands do not see it: %+v", r)
		}
	})
	s.sub("a file, as one and into a directory", func(t *testing.T) {
		for _, to := range []struct{ path, name, at string }{{"/tmp/file", "ignored", "/tmp/file"}, {"/tmp", "named", "/tmp/named"}} {
			if err := write(to.path, to.name, packed(t, ".")); err != nil {
				t.Fatalf("%+v: %v", to, err)
			}
			if got := s.unpacked(t, id, to.at); got != ". 640 ." {
				t.Errorf("%+v: %q", to, got)
			}
		}
	})
	s.sub("a part of a directory", func(t *testing.T) {
		if err := write("/tmp", "part", packed(t, "./", "a", "d/", "d/b", "d/c")); err != nil {
			t.Fatal(err)
		}
		r, err := s.b.ReadArchive(s.ctx, id, "/tmp/part", backend.ArchivePart{Bare: true, Skip: []string{"a", "d", "d/c", "nothing"}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		list, err := archive.List(r)
		if err != nil || len(list) != 3 || !list["d"].Mode.IsDir() || list["d/b"].Size != 3 || list["d/b"].Mode != 0o640 {
			t.Errorf("%v, %v", list, err)
		}
	})
	s.sub("archives that nobody goes on reading hold up no other", func(t *testing.T) {
		var big bytes.Buffer
		w := tar.NewWriter(&big)
		content := bytes.Repeat([]byte("much of it "), 1<<20)
		if err := w.WriteHeader(&tar.Header{Name: ".", Mode: 0o600, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := write("/tmp", "held", &big); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
		defer cancel()
		for range 10 {
			r, err := s.b.ReadArchive(ctx, id, "/tmp/held", backend.ArchivePart{})
			if err != nil {
				t.Fatalf("after others that were given up: %v", err)
			}
			if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			_ = r.Close()
		}
	})
	s.sub("a stream that breaks off", func(t *testing.T) {
		whole, _ := io.ReadAll(packed(t, "./", "first", "second"))
		err := write("/tmp", "broken", io.MultiReader(bytes.NewReader(whole[:1600]), failing{}))
		if err == nil {
			t.Error("was accepted")
		}
		if _, _, err := s.b.ReadFile(s.ctx, id, "/tmp/broken/second", 100); !fault.Is(err, fault.NotFound) {
			t.Errorf("half of a file is there: %v", err)
		}
	})
	s.sub("what is no archive, or leads out", func(t *testing.T) {
		for name, r := range map[string]io.Reader{
			"text": strings.NewReader(strings.Repeat("no archive ", 200)), "nothing": strings.NewReader(""),
			"out": packed(t, "./", "../out"), "absolute": packed(t, "./", "/tmp/out"),
		} {
			if err := write("/tmp", "bad", r); err == nil {
				t.Errorf("%s was accepted", name)
			}
		}
		if _, _, err := s.b.ReadFile(s.ctx, id, "/tmp/out", 100); !fault.Is(err, fault.NotFound) {
			t.Errorf("it got out: %v", err)
		}
	})
	s.sub("errors name what is wrong", func(t *testing.T) {
		_, err := s.b.ReadArchive(s.ctx, id, "/tmp/absent", backend.ArchivePart{})
		wantFault(t, err, fault.NotFound, fault.ReasonFileNotFound)
		if got := fault.From(err).Meta["filepath"]; got != "/tmp/absent" {
			t.Errorf("filepath %q", got)
		}
		_, err = s.b.ReadArchive(s.ctx, id, "relative", backend.ArchivePart{})
		wantFault(t, err, fault.Invalid, "")
		_, err = s.b.ReadArchive(s.ctx, "sbx-unknown", "/tmp", backend.ArchivePart{})
		wantFault(t, err, fault.NotFound, fault.ReasonSandboxNotFound)
		if err := write("/usr", "new", packed(t, "./", "a")); err == nil {
			t.Error("the image's read-only part was written to")
		}
	})
}
