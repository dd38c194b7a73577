package shim_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/shim"
)

// breakOff leaves the first n bytes of content at a path, for another to go on with.
func (s *sandbox) breakOff(path string, content []byte, n int) {
	s.t.Helper()
	cut := io.MultiReader(bytes.NewReader(content[:n]), iotest.ErrReader(errors.New("cut")))
	if err := s.client.WriteFrom(s.ctx(), path, shim.Upload{Mode: 0o644, Size: int64(len(content))}, cut); err == nil {
		s.t.Fatal("a write that broke off succeeded")
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		state, err := s.client.FileState(s.ctx(), path, "")
		if err != nil {
			s.t.Fatal(err)
		}
		if !state.Busy && state.Partial == int64(n) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%+v, want %d bytes", state, n)
		}
	}
}

// TestPartialTraps: between two attempts the sandbox puts something else where the beginning of a file was. It is not written to, not
// waited for, not followed, and the next attempt begins anew.
func TestPartialTraps(t *testing.T) {
	s := start(t, "crun")
	content := bytes.Repeat([]byte("content "), 50_000)
	const n = 200_000
	prefix := sha256.Sum256(content[:n])
	s.sh("mkdir /tmp/d; echo victim > /tmp/victim")
	for name, trap := range map[string]string{
		"changed":      "printf x | dd of=$p bs=1 seek=1000 conv=notrunc 2>/dev/null",
		"shorter":      "truncate -s 100 $p",
		"gone":         "rm $p",
		"link":         "rm $p; ln -s /tmp/victim $p",
		"hard link":    "rm $p; ln /tmp/victim $p",
		"another name": "ln $p /tmp/d/other",
		"pipe":         "rm $p; mkfifo $p",
		"directory":    "rm $p; mkdir $p; touch $p/x",
		"device":       "rm $p; mknod $p c 1 5 2>/dev/null || ln -s /dev/zero $p",
		"another file": "cp $p /tmp/d/copy; mv /tmp/d/copy $p",
		"other mode":   "rm $p; head -c 200000 /dev/zero > $p; chmod 666 $p",
	} {
		s.breakOff("/tmp/d/f", content, n)
		s.sh("p=$(echo /tmp/d/.berm-part-*); " + trap)
		u := shim.Upload{Mode: 0o644, Size: int64(len(content)), Offset: n, Prefix: prefix[:]}
		if err := s.client.WriteFrom(s.ctx(), "/tmp/d/f", u, bytes.NewReader(content[n:])); !fault.HasReason(err, fault.ReasonFileChanged) {
			t.Errorf("%s: %v", name, err)
		}
		if got := s.sh("cat /tmp/victim; ls /tmp/d/f 2>/dev/null || true"); got != "victim" {
			t.Errorf("%s: %q", name, got)
		}
		if err := s.client.WriteFrom(s.ctx(), "/tmp/d/f", shim.Upload{Mode: 0o644, Size: int64(len(content))}, bytes.NewReader(content)); err != nil {
			t.Errorf("%s, from the beginning: %v", name, err)
		}
		if got, _, err := s.read("/tmp/d/f", 0); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		s.sh("rm -rf /tmp/d/f /tmp/d/other /tmp/d/.berm-*")
	}
	if got := s.sh("cat /tmp/victim"); got != "victim" {
		t.Errorf("%q", got)
	}
}

// TestPartialsAreFew: what is left of the oldest goes for the seventeenth, and a place that is gone holds up nobody.
func TestPartialsAreFew(t *testing.T) {
	s := start(t, "crun")
	content := []byte("0123456789")
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"} {
		s.breakOff("/tmp/p/"+name, content, 5)
	}
	if got := s.sh("ls -A /tmp/p | wc -l"); got != "16" {
		t.Errorf("%s files are kept", got)
	}
	if state, err := s.client.FileState(s.ctx(), "/tmp/p/a", ""); err != nil || state.Partial != 0 {
		t.Errorf("the oldest: %+v, %v", state, err)
	}
	s.sh("rm -rf /tmp/p")
	if state, err := s.client.FileState(s.ctx(), "/tmp/p/q", ""); err != nil || state != (shim.FileState{}) {
		t.Errorf("%+v, %v", state, err)
	}
	s.breakOff("/tmp/p/q", content, 7)
}

// TestExchangedWhileWritten: the sandbox takes the file away, or puts another one in its place, while it is written.
func TestExchangedWhileWritten(t *testing.T) {
	s := start(t, "crun")
	content := bytes.Repeat([]byte("x"), 300_000)
	for name, trap := range map[string]string{"gone": "rm $p", "another": "rm $p; echo evil > $p", "link": "rm $p; ln -s /etc/passwd $p"} {
		s.sh("mkdir -p /tmp/w")
		exchange := readerFunc(func([]byte) (int, error) {
			s.sh("while ! [ -e /tmp/w/.berm-part-* ]; do sleep 0.01; done; p=$(echo /tmp/w/.berm-part-*); " + trap)
			return 0, io.EOF
		})
		r := io.MultiReader(bytes.NewReader(content[:200_000]), exchange, bytes.NewReader(content[200_000:]))
		err := s.client.WriteFrom(s.ctx(), "/tmp/w/f", shim.Upload{Mode: 0o644, Size: int64(len(content))}, r)
		if !fault.HasReason(err, fault.ReasonFileChanged) {
			t.Errorf("%s: %v", name, err)
		}
		if got := s.sh("ls /tmp/w/f 2>/dev/null; rm -rf /tmp/w"); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}
