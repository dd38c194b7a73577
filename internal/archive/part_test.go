package archive_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/archive"
)

// shelf keeps the beginnings of large files in memory.
type shelf struct {
	kept   map[string][]byte
	pieces []archive.Piece
}

func (s *shelf) open(dir *os.Root, name string, p archive.Piece) (archive.Part, error) {
	s.pieces = append(s.pieces, p)
	if len(s.kept[p.Name]) < int(p.Offset) {
		return nil, errors.New("nothing is kept")
	}
	return &shelved{s: s, dir: dir, name: name, as: p.Name, data: s.kept[p.Name][:p.Offset]}, nil
}

type shelved struct {
	s        *shelf
	dir      *os.Root
	name, as string
	data     []byte
}

func (p *shelved) Write(b []byte) (int, error) { p.data = append(p.data, b...); return len(b), nil }

func (p *shelved) Finish(mode fs.FileMode, _ time.Time) error {
	return p.dir.WriteFile(p.name, p.data, mode)
}

func (p *shelved) Close(broken error) {
	if broken != nil {
		p.s.kept[p.as] = p.data
	}
}

// TestLargeGoesOn: what came of a large file stays, and the rest of it makes it whole; a small one has no part.
func TestLargeGoesOn(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	content := bytes.Repeat([]byte("content "), archive.MinPart/4)
	must(t, os.Mkdir(filepath.Join(from, "d"), 0o755))
	must(t, os.WriteFile(filepath.Join(from, "d/large"), content, 0o644))
	must(t, os.WriteFile(filepath.Join(from, "small"), content[:archive.MinPart-1], 0o644))
	var whole, rest bytes.Buffer
	must(t, archive.Pack(&whole, root(t, from), ".", archive.Options{}))
	keep := &shelf{kept: map[string][]byte{}}
	cut := io.MultiReader(bytes.NewReader(whole.Bytes()[:archive.MinPart]), broken{})
	if err := archive.Unpack(cut, root(t, to), "copy", archive.Options{Large: keep.open}); err == nil {
		t.Fatal("an archive that broke off was accepted")
	}
	n := len(keep.kept["d/large"])
	if n == 0 || len(keep.kept) != 1 || !bytes.HasPrefix(content, keep.kept["d/large"]) {
		t.Fatalf("%d bytes of %d files are kept", n, len(keep.kept))
	}
	digest := sha256.Sum256(content[:n])
	must(t, archive.Pack(&rest, root(t, from), ".", archive.Options{From: func(name string, f *os.File, size int64) (int64, []byte, error) {
		if name != "d/large" || size != int64(len(content)) {
			t.Errorf("asked for %s of %d bytes", name, size)
		}
		return int64(n), digest[:], nil
	}}))
	if saved := whole.Len() - rest.Len(); saved < n-8<<10 {
		t.Errorf("only %d bytes are not sent again, of %d", saved, n)
	}
	must(t, archive.Unpack(bytes.NewReader(rest.Bytes()), root(t, to), "copy", archive.Options{Large: keep.open}))
	if got, err := os.ReadFile(filepath.Join(to, "copy/d/large")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	last := keep.pieces[len(keep.pieces)-1]
	if len(keep.pieces) != 2 || last.Size != int64(len(content)) || last.Offset != int64(n) || !bytes.Equal(last.Prefix, digest[:]) {
		t.Errorf("%d pieces, the last %+v", len(keep.pieces), last)
	}
	if err := archive.Unpack(bytes.NewReader(rest.Bytes()), root(t, to), "other", archive.Options{}); !errors.Is(err, archive.ErrUnsafe) {
		t.Errorf("without a beginning: %v", err)
	}
	if _, err := os.Stat(filepath.Join(to, "other/d/large")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the end of a file has its name: %v", err)
	}
}

// TestHostileOffsets: an offset that is none, or without a digest, makes nothing.
func TestHostileOffsets(t *testing.T) {
	digest := strings.Repeat("ab", sha256.Size)
	for name, records := range map[string]map[string]string{
		"negative":       {archive.Offset: "-1", archive.Prefix: digest},
		"zero":           {archive.Offset: "0", archive.Prefix: digest},
		"no number":      {archive.Offset: "x", archive.Prefix: digest},
		"too large":      {archive.Offset: strconv.FormatInt(1<<63-1, 10), archive.Prefix: digest},
		"without digest": {archive.Offset: "5"},
		"short digest":   {archive.Offset: "5", archive.Prefix: digest[2:]},
		"no digest":      {archive.Offset: "5", archive.Prefix: "zz" + digest[2:]},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}))
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 1, Mode: 0o644, Format: tar.FormatPAX, PAXRecords: records}))
		_, err := w.Write([]byte("x"))
		must(t, err)
		must(t, w.Close())
		keep := &shelf{kept: map[string][]byte{"f": make([]byte, 10)}}
		to := t.TempDir()
		if err := archive.Unpack(&b, root(t, to), "x", archive.Options{Large: keep.open}); !errors.Is(err, archive.ErrUnsafe) || len(keep.pieces) > 0 {
			t.Errorf("%s: %v, %+v", name, err, keep.pieces)
		}
		if _, err := os.Stat(filepath.Join(to, "x/f")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPartsAreListed, with the name of the file that they will be, and not copied.
func TestPartsAreListed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "d/.half"), []byte("half"), 0o644))
	of := func(info fs.FileInfo) string { return map[string]string{".half": "whole"}[info.Name()] }
	var bare, full bytes.Buffer
	must(t, archive.Pack(&bare, root(t, dir), ".", archive.Options{Bare: true, PartOf: of}))
	list, err := archive.List(&bare)
	if e := list["d/.half"]; err != nil || e.PartOf != "whole" || e.Size != 4 {
		t.Errorf("%+v, %v", list, err)
	}
	must(t, archive.Pack(&full, root(t, dir), ".", archive.Options{PartOf: of}))
	if list, err := archive.List(&full); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	forged := &bytes.Buffer{}
	w := tar.NewWriter(forged)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: ".", Format: tar.FormatPAX, PAXRecords: map[string]string{archive.PartOf: "../out"}}))
	must(t, w.Close())
	if _, err := archive.List(forged); !errors.Is(err, archive.ErrUnsafe) {
		t.Errorf("a part of a file elsewhere: %v", err)
	}
}

// TestNotesAreFew: of many things that are left out the first are named, and the rest counted; whoever sends more is refused.
func TestNotesAreFew(t *testing.T) {
	const more = 7
	dir := t.TempDir()
	for i := range archive.MaxNotes + more {
		must(t, unix.Mkfifo(filepath.Join(dir, fmt.Sprint(i)), 0o644))
	}
	var stream bytes.Buffer
	told := 0
	must(t, archive.Pack(&stream, root(t, dir), ".", archive.Options{Left: func(string, string) { told++ }}))
	if told != archive.MaxNotes+1 {
		t.Errorf("the packer told %d", told)
	}
	whole := stream.Bytes()
	var last string
	told = 0
	must(t, archive.Unpack(bytes.NewReader(whole), root(t, t.TempDir()), "x", archive.Options{Left: func(_, why string) { told, last = told+1, why }}))
	if told != archive.MaxNotes+1 || !strings.HasPrefix(last, fmt.Sprint(more, " more")) {
		t.Errorf("%d were told, the last %q", told, last)
	}
	if _, err := archive.List(bytes.NewReader(whole)); err != nil {
		t.Errorf("listed: %v", err)
	}
	var flood bytes.Buffer
	w := tar.NewWriter(&flood)
	for range archive.MaxNotes + 2 {
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{archive.Note: "a\nb"}}))
	}
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "."}))
	must(t, w.Close())
	_, first := archive.First(bytes.NewReader(flood.Bytes()))
	_, list := archive.List(bytes.NewReader(flood.Bytes()))
	for name, err := range map[string]error{
		"unpacked": archive.Unpack(bytes.NewReader(flood.Bytes()), root(t, t.TempDir()), "x", archive.Options{}),
		"content":  archive.Content(bytes.NewReader(flood.Bytes()), io.Discard), "first": first, "listed": list,
	} {
		if !errors.Is(err, archive.ErrUnsafe) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLinksLeftOutAreFew: an archive with nothing but links that lead out does not fill the terminal.
func TestLinksLeftOutAreFew(t *testing.T) {
	list := []entry{top}
	for i := range archive.MaxNotes + 3 {
		list = append(list, entry{kind: tar.TypeSymlink, name: fmt.Sprint(i), link: "/etc"})
	}
	told, last := 0, ""
	must(t, archive.Unpack(forge(t, list...), root(t, t.TempDir()), "x", archive.Options{Left: func(_, why string) { told, last = told+1, why }}))
	if told != archive.MaxNotes+1 || !strings.HasPrefix(last, "3 more") {
		t.Errorf("%d were told, the last %q", told, last)
	}
}

// TestOpenDir goes through directories alone.
func TestOpenDir(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "a/b/f"), nil, 0o644))
	must(t, os.Symlink("a", filepath.Join(dir, "link")))
	for name, want := range map[string]bool{".": true, "a": true, "a/b": true, "link": false, "link/b": false, "a/b/f": false, "none": false} {
		got, err := archive.OpenDir(root(t, dir), name)
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = got.Close()
		}
	}
}
