package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/shim/spool"
	"github.com/bermhq/berm/internal/shim/wire"
)

var session = strings.Repeat("ab", spool.SessionSize/2)

func create(t testing.TB, limit int64) (*spool.Writer, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "output")
	clock := time.Unix(1000, 0)
	w, err := spool.Create(dir, session, limit, func() time.Time { clock = clock.Add(time.Second); return clock })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w, dir
}

// readAll returns what a reader yields until it has no more, and checks that offsets have no holes.
func readAll(t testing.TB, r *spool.Reader, from int64) []byte {
	t.Helper()
	var all []byte
	for {
		o, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if o.Offset != from+int64(len(all)) {
			t.Fatalf("offset %d after %d bytes from %d", o.Offset, len(all), from)
		}
		all = append(all, o.Data...)
	}
}

func size(t testing.TB, dir string) (total int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	return total
}

func TestRecords(t *testing.T) {
	w, dir := create(t, spool.MinLimit)
	r, err := spool.Open(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("empty spool: %v", err)
	}
	for _, o := range []struct {
		stream wire.Stream
		text   string
	}{{wire.Stdout, "one\n"}, {wire.Stderr, "two\n"}, {wire.Stdout, "three"}} {
		if err := w.Append(o.stream, []byte(o.text)); err != nil {
			t.Fatal(err)
		}
	}
	want := []wire.Output{
		{Offset: 0, Time: time.Unix(1001, 0), Stream: wire.Stdout, Data: []byte("one\n")},
		{Offset: 4, Time: time.Unix(1002, 0), Stream: wire.Stderr, Data: []byte("two\n")},
		{Offset: 8, Time: time.Unix(1003, 0), Stream: wire.Stdout, Data: []byte("three")},
	}
	for _, o := range want {
		got, err := r.Next()
		if err != nil || fmt.Sprint(got) != fmt.Sprint(o) {
			t.Errorf("got %v, %v, want %v", got, err, o)
		}
	}
	if r.Session() != session {
		t.Errorf("session %q", r.Session())
	}
}

func TestOpenInsideARecord(t *testing.T) {
	w, dir := create(t, spool.MinLimit)
	for range 3 {
		if err := w.Append(wire.Stdout, []byte("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
	all := strings.Repeat("0123456789", 3)
	for from := range len(all) + 1 {
		r, err := spool.Open(dir, int64(from))
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, r, int64(from)); string(got) != all[from:] {
			t.Errorf("from %d: %q", from, got)
		}
		r.Close()
	}
}

func TestBoundedAndGap(t *testing.T) {
	w, dir := create(t, spool.MinLimit)
	slow, err := spool.Open(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for i := range 5000 {
		line := fmt.Appendf(nil, "line %d %s\n", i, strings.Repeat("x", i%700))
		all.Write(line)
		if err := w.Append(wire.Stdout, line); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := slow.Next(); err != nil {
				t.Fatal(err)
			}
		}
		if i%100 == 0 && size(t, dir) > spool.MinLimit {
			t.Fatalf("%d bytes on disk after %d lines", size(t, dir), i)
		}
	}
	if size(t, dir) > spool.MinLimit || size(t, dir) < spool.MinLimit/2 {
		t.Errorf("%d bytes on disk at the end", size(t, dir))
	}
	var gap *spool.GapError
	if _, err := spool.Open(dir, 0); !errors.As(err, &gap) || gap.First == 0 {
		t.Fatalf("offset 0: %v", err)
	}
	r, err := spool.Open(dir, gap.First)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r, gap.First); !bytes.Equal(got, all.Bytes()[gap.First:]) {
		t.Errorf("%d bytes differ from what was printed", len(got))
	}
	// A reader that was overtaken still ends what it has open and then learns of the gap.
	for err == nil {
		_, err = slow.Next()
	}
	if !errors.Is(err, spool.ErrGap) {
		t.Errorf("overtaken reader: %v", err)
	}
	oldest, err := spool.Open(dir, -1)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, oldest, gap.First); len(got) != all.Len()-int(gap.First) {
		t.Errorf("oldest: %d bytes", len(got))
	}
}

func TestFollow(t *testing.T) {
	w, dir := create(t, spool.MinLimit)
	const pieces, piece = 2000, 100
	got := make(chan []byte)
	r, err := spool.Open(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	turn := make(chan struct{}, 100) // The reader may lag, but not so far that it is overtaken.
	go func() {
		var all []byte
		for {
			changed, closed := w.Changed(), w.Closed()
			o, err := r.Next()
			switch {
			case err == nil:
				all = append(all, o.Data...)
				for range len(o.Data) / piece {
					<-turn
				}
			case errors.Is(err, io.EOF) && closed:
				got <- all
				return
			case errors.Is(err, io.EOF):
				<-changed
			default:
				got <- []byte(err.Error())
				return
			}
		}
	}()
	var want []byte
	for i := range pieces {
		turn <- struct{}{}
		p := bytes.Repeat([]byte{byte(i)}, piece)
		want = append(want, p...)
		if err := w.Append(wire.Stdout, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if all := <-got; !bytes.Equal(all, want) {
		t.Errorf("followed %d bytes, want %d", len(all), len(want))
	}
}

// segment writes records, and returns the file that they are in, which nobody has open.
func segment(t *testing.T, records ...string) (dir, path string, data []byte) {
	t.Helper()
	w, dir := create(t, spool.MinLimit)
	for _, s := range records {
		if err := w.Append(wire.Stdout, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, fmt.Sprintf("%020d.out", 0))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return dir, path, data
}

func TestTornTail(t *testing.T) {
	dir, path, data := segment(t, "whole", "torn")
	for cut := 1; cut <= len("torn")+wire.HeaderSize+wire.OutputHeader; cut++ {
		if err := os.WriteFile(path, data[:len(data)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := spool.Open(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, r, 0); string(got) != "whole" {
			t.Errorf("cut by %d: %q", cut, got)
		}
		r.Close()
	}
}

// TestRecordTakenBack: a record that was half written when it was seen, and taken back because the disk was full, is not mixed with the one
// that came in its place.
func TestRecordTakenBack(t *testing.T) {
	dir, path, data := segment(t, "first", "taken back")
	whole := len(data) - wire.HeaderSize - wire.OutputHeader - len("taken back")
	for seen := whole; seen < len(data); seen++ {
		if err := os.WriteFile(path, data[:seen], 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := spool.Open(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, r, 0); string(got) != "first" {
			t.Errorf("of %d bytes: %q", seen, got)
		}
		other := wire.AppendOutput(nil, wire.Output{Offset: 5, Time: time.Unix(1, 0), Stream: wire.Stderr, Data: []byte("what came then")})
		if err := os.WriteFile(path, wire.Append(data[:whole:whole], wire.TypeOutput, other), 0o600); err != nil {
			t.Fatal(err)
		}
		if o, err := r.Next(); err != nil || string(o.Data) != "what came then" || o.Stream != wire.Stderr {
			t.Errorf("behind %d bytes: %+v %v", seen, o, err)
		}
		r.Close()
	}
}

// TestHeadlessSegment: a segment whose header never came to the disk ends the reading, and hides nothing behind it.
func TestHeadlessSegment(t *testing.T) {
	w, dir := create(t, spool.MinLimit)
	piece := bytes.Repeat([]byte("x"), wire.MaxChunk)
	for range 2 * spool.MinLimit / 8 / len(piece) * 3 / 2 {
		if err := w.Append(wire.Stdout, piece); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 3 {
		t.Fatalf("%d segments, %v", len(entries), err)
	}
	if err := os.Truncate(filepath.Join(dir, entries[len(entries)-1].Name()), 0); err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		r, err := spool.Open(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for {
			o, err := r.Next()
			if errors.Is(err, io.EOF) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			n += len(o.Data)
		}
	}
	whole := len(entries) - 1
	if n := count(); n != whole*len(piece) {
		t.Errorf("%d bytes of %d whole segments", n, whole)
	}
	if err := os.Truncate(filepath.Join(dir, entries[1].Name()), 0); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != (whole-1)*len(piece) {
		t.Errorf("%d bytes of %d whole segments", n, whole-1)
	}
}

func TestForeignSegment(t *testing.T) {
	_, dir := create(t, spool.MinLimit)
	path := filepath.Join(dir, fmt.Sprintf("%020d.out", 0))
	for _, content := range []string{strings.Repeat("x", 100), "BERMOUT1" + strings.Repeat("y", 100)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := spool.Open(dir, 0)
		if err == nil {
			_, err = r.Next()
		}
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%q was read: %v", content[:10], err)
		}
	}
}

func TestLostIsTold(t *testing.T) {
	w, dir := create(t, spool.MinLimit)
	if err := w.Append(wire.Stdout, []byte("before")); err != nil {
		t.Fatal(err)
	}
	// The directory goes away: the next segment cannot be made.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, wire.MaxData)
	if err := w.Append(wire.Stdout, big); err == nil {
		t.Fatal("output that could not be written counts as kept")
	}
	if total, lost := w.Offset(); total != int64(len(big)+6) || lost != int64(len(big)) {
		t.Errorf("total %d, lost %d", total, lost)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := w.Append(wire.Stdout, []byte("after")); err != nil {
		t.Fatal(err)
	}
	r, err := spool.Open(dir, int64(len(big)+6))
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r, int64(len(big)+6)); string(got) != "after" {
		t.Errorf("after the loss: %q", got)
	}
}

func BenchmarkAppend(b *testing.B) {
	w, _ := create(b, 16<<20)
	data := make([]byte, 32<<10)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := w.Append(wire.Stdout, data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSince looks for the last of many small pieces: all of them are looked at.
func BenchmarkSince(b *testing.B) {
	const pieces = 100_000
	w, dir := create(b, 16<<20)
	for range pieces {
		if err := w.Append(wire.Stdout, []byte("a line as a program prints it, of some length\n")); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if at, err := spool.Since(dir, time.Unix(1_000+pieces, 0)); err != nil || at.Offset == 0 {
			b.Fatal(at, err)
		}
	}
}
