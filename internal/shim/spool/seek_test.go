package spool_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/shim/spool"
	"github.com/bermhq/berm/internal/shim/wire"
)

// lastLines is what tail -n prints.
func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

func TestTail(t *testing.T) {
	for _, text := range []string{"", "one", "one\n", "one\ntwo", "one\ntwo\n", "\n\n\n", "a\n\nb\n\n", strings.Repeat("line\n", 1000) + "rest"} {
		for _, piece := range []int{1, 3, 7, 4096} {
			w, dir := create(t, spool.MinLimit)
			for chunk := range chunks(text, piece) {
				if err := w.Append(wire.Stdout, []byte(chunk)); err != nil {
					t.Fatal(err)
				}
			}
			for _, n := range []int{0, 1, 2, 3, 4, 999, 1000, 1001, 5000, math.MaxInt64} {
				at, err := spool.Tail(dir, int64(n))
				if err != nil {
					t.Fatal(err)
				}
				if at.Cut {
					t.Errorf("%q: nothing was discarded", text)
				}
				if got, want := text[at.Offset:], lastLines(text, n); got != want {
					t.Fatalf("last %d lines of %.40q in pieces of %d: %.40q, want %.40q", n, text, piece, got, want)
				}
			}
		}
	}
}

func chunks(s string, n int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for len(s) > 0 {
			k := min(n, len(s))
			if !yield(s[:k]) {
				return
			}
			s = s[k:]
		}
	}
}

// TestTailAcrossSegments: lines in many segments, the oldest of which were discarded.
func TestTailAcrossSegments(t *testing.T) {
	w, dir := create(t, spool.MinLimit)
	var all bytes.Buffer
	for i := range 5000 {
		line := fmt.Appendf(nil, "line %d %s\n", i, strings.Repeat("x", i%300))
		all.Write(line)
		if err := w.Append(wire.Stderr, line); err != nil {
			t.Fatal(err)
		}
	}
	oldest, err := spool.Oldest(dir)
	if err != nil || !oldest.Cut || oldest.Offset == 0 {
		t.Fatalf("oldest %+v, %v", oldest, err)
	}
	kept := bytes.Count(all.Bytes()[oldest.Offset:], []byte("\n"))
	for _, n := range []int{1, 10, 500, kept - 1, kept, kept + 1, 5000} {
		at, err := spool.Tail(dir, int64(n))
		if err != nil {
			t.Fatal(err)
		}
		got := bytes.Count(all.Bytes()[at.Offset:], []byte("\n"))
		if want := min(n, kept); got != want || at.Cut != (n >= kept) {
			t.Errorf("last %d lines: %d, cut %t, want %d of %d kept", n, got, at.Cut, want, kept)
		}
	}
}

func TestSince(t *testing.T) {
	w, dir := create(t, spool.MinLimit) // Its clock begins at 1000 and goes on by a second with each piece.
	piece := strings.Repeat("y", 10<<10)
	const pieces = 60
	for range pieces {
		if err := w.Append(wire.Stdout, []byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	oldest, err := spool.Oldest(dir)
	if err != nil {
		t.Fatal(err)
	}
	for second := -5; second < pieces+5; second++ {
		at, err := spool.Since(dir, time.Unix(int64(1000+second), 0))
		if err != nil {
			t.Fatal(err)
		}
		want := min(max(int64(max(second-1, 0)*len(piece)), oldest.Offset), int64(pieces*len(piece)))
		if at.Offset != want || at.Cut != (want == oldest.Offset) {
			t.Errorf("since second %d: %+v, want offset %d; oldest %+v", second, at, want, oldest)
		}
	}
}

// TestSinceOfAClockThatWentBack: what was printed at a time is not left out because of what came later and says an earlier one, whether they are
// in one segment or not.
func TestSinceOfAClockThatWentBack(t *testing.T) {
	for _, size := range []int{1, 10 << 10} {
		dir := filepath.Join(t.TempDir(), "output")
		times := []int64{1000, 2000, 5000, 1400, 1500, 5001, 1600}
		for i := range 8 {
			times = append(times, 1700+int64(i))
		}
		next := 0
		w, err := spool.Create(dir, session, spool.MinLimit, func() time.Time { next++; return time.Unix(times[next-1], 0) })
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for range times {
			if err := w.Append(wire.Stdout, []byte(strings.Repeat("y", size))); err != nil {
				t.Fatal(err)
			}
		}
		for since, want := range map[int64]int{0: 0, 1000: 0, 1001: 1, 1500: 1, 2001: 2, 5000: 2, 5001: 5, 5002: len(times)} {
			at, err := spool.Since(dir, time.Unix(since, 0))
			if err != nil || at.Offset != int64(want*size) {
				t.Errorf("pieces of %d since %d: %+v %v, want piece %d", size, since, at, err, want)
			}
		}
	}
}

// TestSeekWhileWritten: a spool that is written as fast as it can be, whose segments go away under whoever looks.
func TestSeekWhileWritten(t *testing.T) {
	w, dir := create(t, spool.MinLimit)
	done := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(done)
		line := []byte(strings.Repeat("z", 4000) + "\n")
		for {
			select {
			case <-stop:
				return
			default:
				_ = w.Append(wire.Stdout, line)
			}
		}
	}()
	for i := range 200 {
		for _, seek := range []func() (spool.Place, error){
			func() (spool.Place, error) { return spool.Tail(dir, int64(i)) },
			func() (spool.Place, error) { return spool.Since(dir, time.Unix(int64(1000+i), 0)) },
			func() (spool.Place, error) { return spool.Oldest(dir) },
		} {
			if _, err := seek(); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	<-done
}

func TestSeekInNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "absent")
	if _, err := spool.Tail(dir, 1); !os.IsNotExist(err) {
		t.Errorf("absent: %v", err)
	}
	_, dir = create(t, spool.MinLimit)
	if at, err := spool.Since(dir, time.Unix(5, 0)); err != nil || at != (spool.Place{}) {
		t.Errorf("empty: %+v %v", at, err)
	}
}
