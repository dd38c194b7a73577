package backendtest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// largeFile is the archive of a directory with one file, d/large, from an offset on.
func largeFile(t *testing.T, content []byte, offset int) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h := &tar.Header{Typeflag: tar.TypeReg, Name: "d/large", Mode: 0o640, Size: int64(len(content) - offset), ModTime: time.Unix(1_600_000_000, 0), Format: tar.FormatPAX}
	if offset > 0 {
		sum := sha256.Sum256(content[:offset])
		h.PAXRecords = map[string]string{archive.Offset: strconv.Itoa(offset), archive.Prefix: hex.EncodeToString(sum[:])}
	}
	for _, h := range []*tar.Header{{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, {Typeflag: tar.TypeDir, Name: "d/", Mode: 0o555}, h} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(content[offset:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// testArchiveParts: a large file of a directory goes on where its copy broke off, in either direction, and only where it was that file.
func (s *suite) testArchiveParts() {
	id := s.idle(s.T)
	content := bytes.Repeat([]byte("0123456789abcdef"), 3*archive.MinPart/16)
	const broken = archive.MinPart + 5_000
	write := func(r io.Reader) error { return s.b.WriteArchive(s.ctx, id, "/tmp/tree", "", r) }
	list := func(t *testing.T) map[string]archive.Entry {
		t.Helper()
		r, err := s.b.ReadArchive(s.ctx, id, "/tmp/tree", backend.ArchivePart{Bare: true})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		list, err := archive.List(r)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	// left returns how much is listed of the file that broke off.
	left := func(t *testing.T) (n int64) {
		t.Helper()
		for _, e := range list(t) {
			if e.PartOf == "large" {
				n += e.Size
			}
		}
		return n
	}
	// breakOff sends the beginning, and returns how much of the file stayed once nobody writes it any more.
	breakOff := func(t *testing.T) int {
		t.Helper()
		if err := write(io.MultiReader(io.LimitReader(largeFile(t, content, 0), broken), failing{})); err == nil {
			t.Fatal("an archive that broke off was accepted")
		}
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			state, err := s.b.FileState(s.ctx, id, "/tmp/tree/d/large", "")
			if err != nil {
				t.Fatal(err)
			}
			if !state.Busy {
				return int(state.Partial)
			}
			if time.Now().After(end) {
				t.Fatal("busy for ever")
			}
		}
	}
	s.sub("into the sandbox", func(t *testing.T) {
		n := breakOff(t)
		if n <= 0 || n > broken || left(t) != int64(n) {
			t.Fatalf("%d bytes stayed, listed are %d", n, left(t))
		}
		if _, is := list(t)["d/large"]; is {
			t.Error("half of the file has its name")
		}
		n-- // It need not be all.
		if err := write(largeFile(t, content, n)); err != nil {
			t.Fatal(err)
		}
		if got := s.read(t, id, "/tmp/tree/d/large"); !bytes.Equal(got, content) {
			t.Errorf("%d bytes, and not those that were sent", len(got))
		}
		if e := list(t)["d/large"]; left(t) != 0 || e.Mode != 0o640 || !e.ModTime.Equal(time.Unix(1_600_000_000, 0)) || list(t)["d"].Mode.Perm() != 0o555 {
			t.Errorf("afterwards %v", list(t))
		}
	})
	s.sub("what is not there any more", func(t *testing.T) {
		wantFault(t, write(largeFile(t, content, archive.MinPart)), fault.Conflict, fault.ReasonFileChanged)
	})
	s.sub("out of the sandbox", func(t *testing.T) {
		sum := sha256.Sum256(content[:broken])
		for name, c := range map[string]struct {
			begun archive.Begun
			want  int64
		}{
			"it is the beginning": {archive.Begun{Name: "d/large", Offset: broken, Prefix: sum[:]}, broken},
			"it is another":       {archive.Begun{Name: "d/large", Offset: broken - 1, Prefix: sum[:]}, 0},
			"it is more":          {archive.Begun{Name: "d/large", Offset: int64(len(content)) + 1, Prefix: sum[:]}, 0},
			"of another file":     {archive.Begun{Name: "d/none", Offset: broken, Prefix: sum[:]}, 0},
		} {
			if offset, rest := s.readLarge(t, id, c.begun); offset != c.want || !bytes.Equal(rest, content[offset:]) {
				t.Errorf("%s: from %d on %d bytes", name, offset, len(rest))
			}
		}
	})
}

// readLarge reads /tmp/tree/d/large out of an archive: from where on it came, and what came.
func (s *suite) readLarge(t *testing.T, id string, begun archive.Begun) (offset int64, rest []byte) {
	t.Helper()
	r, err := s.b.ReadArchive(s.ctx, id, "/tmp/tree", backend.ArchivePart{Begun: []archive.Begun{begun}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			t.Fatal("the file did not come")
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "d/large" {
			offset, _ = strconv.ParseInt(h.PAXRecords[archive.Offset], 10, 64)
			if rest, err = io.ReadAll(in); err != nil {
				t.Fatal(err)
			}
			return offset, rest
		}
	}
}
