package backendtest

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// testTransfers: what broke off can be gone on with, at the byte, and only what it was the beginning of.
func (s *suite) testTransfers() {
	id := s.idle(s.T)
	content := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	at := time.Unix(1_600_000_000, 0)
	digest := func(b []byte) []byte { d := sha256.Sum256(b); return d[:] }
	// breakOff writes the first n bytes and no more.
	breakOff := func(t *testing.T, path, name string, n int) {
		t.Helper()
		u := backend.Upload{Name: name, Mode: 0o640, Size: int64(len(content))}
		if err := s.b.WriteFileFrom(s.ctx, id, path, u, io.MultiReader(bytes.NewReader(content[:n]), failing{})); err == nil {
			t.Fatal("a write whose content broke off succeeded")
		}
	}
	// left waits until nobody writes, and returns what is left.
	left := func(t *testing.T, path, name string) backend.FileState {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			state, err := s.b.FileState(s.ctx, id, path, name)
			if err != nil {
				t.Fatal(err)
			}
			if !state.Busy {
				return state
			}
			if time.Now().After(end) {
				t.Fatal("busy for ever")
			}
		}
	}
	s.sub("a write goes on where it broke off", func(t *testing.T) {
		for _, to := range []struct{ path, name, at string }{{"/tmp/on", "", "/tmp/on"}, {"/tmp", "within", "/tmp/within"}} {
			if err := s.b.WriteFile(s.ctx, id, to.at, 0o600, strings.NewReader("before")); err != nil {
				t.Fatal(err)
			}
			breakOff(t, to.path, to.name, 300_001)
			if got := s.read(t, id, to.at); string(got) != "before" {
				t.Fatalf("%s: half of a file is there: %d bytes", to.at, len(got))
			}
			state := left(t, to.path, to.name)
			if state.Partial == 0 || state.Partial > 300_001 || state.File == nil || state.File.Size != 6 {
				t.Fatalf("%+v", state)
			}
			n := state.Partial - 1 // It need not be all.
			u := backend.Upload{Name: to.name, Mode: 0o640, ModTime: at, Size: int64(len(content)), Offset: n, Prefix: digest(content[:n])}
			if err := s.b.WriteFileFrom(s.ctx, id, to.path, u, bytes.NewReader(content[n:])); err != nil {
				t.Fatal(err)
			}
			if got := s.read(t, id, to.at); !bytes.Equal(got, content) {
				t.Errorf("%s: %d bytes, and not those that were written", to.at, len(got))
			}
			state = left(t, to.path, to.name)
			if state.Partial != 0 || state.File == nil || state.File.Size != int64(len(content)) || state.File.Mode != 0o640 || !state.File.ModTime.Equal(at) {
				t.Errorf("afterwards %+v, %+v", state, state.File)
			}
		}
		if r := s.exec(t, id, backend.Exec{Argv: []string{"sh", "-c", "ls -A /tmp | grep berm-part"}}); r.out != "" {
			t.Errorf("left: %q", r.out)
		}
	})
	s.sub("a beginning that is another is refused, and gone", func(t *testing.T) {
		breakOff(t, "/tmp/other", "", 1000)
		left(t, "/tmp/other", "")
		u := backend.Upload{Size: 2000, Offset: 1000, Prefix: digest([]byte("another"))}
		wantFault(t, s.b.WriteFileFrom(s.ctx, id, "/tmp/other", u, bytes.NewReader(content[:1000])), fault.Conflict, fault.ReasonFileChanged)
		u.Prefix = digest(content[:1000])
		wantFault(t, s.b.WriteFileFrom(s.ctx, id, "/tmp/other", u, bytes.NewReader(content[1000:2000])), fault.Conflict, fault.ReasonFileChanged)
		if state := left(t, "/tmp/other", ""); state.Partial != 0 || state.File != nil {
			t.Errorf("%+v", state)
		}
	})
	s.sub("another size than was said", func(t *testing.T) {
		for _, n := range []int{5, 11} {
			u := backend.Upload{Size: 10}
			wantFault(t, s.b.WriteFileFrom(s.ctx, id, "/tmp/size", u, bytes.NewReader(content[:n])), fault.Invalid, fault.ReasonInvalidRequest)
			if state := left(t, "/tmp/size", ""); state.Partial != 0 || state.File != nil {
				t.Errorf("%+v", state)
			}
		}
	})
	s.sub("two at once", func(t *testing.T) {
		release, began := make(chan struct{}), make(chan struct{})
		first := make(chan error, 1)
		go func() {
			u := backend.Upload{Size: int64(len(content))}
			first <- s.b.WriteFileFrom(s.ctx, id, "/tmp/two", u, io.MultiReader(bytes.NewReader(content[:200_000]), &gate{began: began, release: release}, bytes.NewReader(content[200_000:])))
		}()
		<-began
		if state, err := s.b.FileState(s.ctx, id, "/tmp/two", ""); err != nil || !state.Busy || state.Partial != 0 {
			t.Errorf("%+v, %v", state, err)
		}
		u := backend.Upload{Size: 20, Offset: 10, Prefix: digest(content[:10])}
		wantFault(t, s.b.WriteFileFrom(s.ctx, id, "/tmp/two", u, bytes.NewReader(content[10:20])), fault.Conflict, fault.ReasonFileBusy)
		if err := s.b.WriteFileFrom(s.ctx, id, "/tmp/two", backend.Upload{Size: 5}, strings.NewReader("quick")); err != nil {
			t.Errorf("a second one from the beginning: %v", err)
		}
		if got := s.read(t, id, "/tmp/two"); string(got) != "quick" {
			t.Errorf("got %d bytes", len(got))
		}
		close(release)
		if err := <-first; err != nil {
			t.Error(err)
		}
		if got := s.read(t, id, "/tmp/two"); !bytes.Equal(got, content) {
			t.Errorf("the last to end does not count: %d bytes", len(got))
		}
	})
	s.sub("reading from an offset", func(t *testing.T) {
		if err := s.b.WriteFile(s.ctx, id, "/tmp/read", 0o644, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, 100_000, len(content)} {
			r, info, err := s.b.ReadFileFrom(s.ctx, id, "/tmp/read", int64(n), digest(content[:n]))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			r.Close()
			if err != nil || !bytes.Equal(got, content[n:]) || info.Size != int64(len(content)) || info.Mode != 0o644 {
				t.Errorf("from %d: %d bytes, %+v, %v", n, len(got), info, err)
			}
		}
		for _, n := range []int64{1, int64(len(content)) + 1, math.MaxInt64} {
			_, _, err := s.b.ReadFileFrom(s.ctx, id, "/tmp/read", n, digest([]byte("another")))
			wantFault(t, err, fault.Conflict, fault.ReasonFileChanged)
		}
		for _, n := range []int64{-1, math.MinInt64} {
			_, _, err := s.b.ReadFileFrom(s.ctx, id, "/tmp/read", n, nil)
			wantFault(t, err, fault.Invalid, fault.ReasonInvalidRequest)
		}
		_, _, err := s.b.ReadFileFrom(s.ctx, id, "/tmp/read", 1, []byte("short"))
		wantFault(t, err, fault.Invalid, fault.ReasonInvalidRequest)
		_, _, err = s.b.ReadFileFrom(s.ctx, id, "/tmp", 0, nil)
		wantFault(t, err, fault.Precondition, fault.ReasonFileIsDirectory)
		_, _, err = s.b.ReadFileFrom(s.ctx, id, "/tmp/absent", 0, nil)
		wantFault(t, err, fault.NotFound, fault.ReasonFileNotFound)
	})
	s.sub("errors", func(t *testing.T) {
		one := func() io.Reader { return strings.NewReader("x") }
		wantFault(t, s.b.WriteFileFrom(s.ctx, id, "/tmp", backend.Upload{Size: 1}, one()), fault.Precondition, fault.ReasonFileIsDirectory)
		wantFault(t, s.b.WriteFileFrom(s.ctx, id, "relative", backend.Upload{Size: 1}, one()), fault.Invalid, "")
		wantFault(t, s.b.WriteFileFrom(s.ctx, "sbx-unknown", "/tmp/x", backend.Upload{Size: 1}, one()), fault.NotFound, fault.ReasonSandboxNotFound)
		if err := s.b.WriteFileFrom(s.ctx, id, "/usr/new", backend.Upload{Size: 1}, one()); err == nil {
			t.Error("the image's read-only part was written to")
		}
		if state, err := s.b.FileState(s.ctx, id, "/tmp/nowhere/at/all", ""); err != nil || state != (backend.FileState{}) {
			t.Errorf("%+v, %v", state, err)
		}
	})
}

// gate is content that is waited for.
type gate struct {
	began, release chan struct{}
	over           bool
}

func (g *gate) Read([]byte) (int, error) {
	if !g.over {
		g.over = true
		close(g.began)
		<-g.release
	}
	return 0, io.EOF
}
