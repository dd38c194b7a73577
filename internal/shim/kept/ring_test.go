package kept

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bermhq/berm/internal/shim/wire"
)

// TestRing compares a ring with all that was ever put into it: from every offset a reader gets exactly the bytes from there on, or from
// the oldest that is held, and nothing goes that nobody had unless it may be dropped.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drop := rapid.Bool().Draw(t, "drop")
		r, err := newRing(MinOutput, drop)
		if err != nil {
			t.Fatal(err)
		}
		defer r.free()
		var all []byte
		var received, liveAt int64
		live, _ := r.cursor(0) // A reader that is there from the beginning, and reads between.
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "put") {
				n := rapid.OneOf(rapid.IntRange(1, 9), rapid.IntRange(1, wire.MaxChunk)).Draw(t, "n")
				if !drop && r.used+n+recordHeader > MinOutput && !r.mayDrop(n) {
					continue // It would wait.
				}
				piece := bytes.Repeat([]byte{byte(len(all)), byte(len(all) >> 8), 7}, n)[:n]
				if !r.put(rapid.SampledFrom([]wire.Stream{wire.Stdout, wire.Stderr}).Draw(t, "stream"), piece, time.Now()) {
					t.Fatal("a ring that is there takes nothing")
				}
				all = append(all, piece...)
			} else {
				received = max(received, rapid.Int64Range(0, int64(len(all))).Draw(t, "received"))
				if !r.had(received) {
					t.Fatalf("%d of %d cannot be received", received, len(all))
				}
			}
			first, end := r.extent()
			if end != int64(len(all)) || !drop && first > received || r.used > MinOutput {
				t.Fatalf("%d to %d are held in %d bytes, of %d, %d received", first, end, r.used, len(all), received)
			}
			if rapid.Bool().Draw(t, "read") {
				liveAt = max(liveAt, first)
				if o, _, _ := r.next(live); o.Data == nil && liveAt != end || o.Data != nil && (o.Offset != liveAt || !bytes.Equal(o.Data, all[liveAt:live.offset])) {
					t.Fatalf("%d bytes at %d, want them from %d to %d", len(o.Data), o.Offset, liveAt, live.offset)
				}
				liveAt = live.offset
			}
		}
		r.close()
		offset := rapid.Int64Range(0, int64(len(all))).Draw(t, "offset")
		c, ok := r.cursor(offset)
		if !ok {
			t.Fatalf("no reader at %d of %d", offset, len(all))
		}
		first, _ := r.extent()
		at := max(first, offset)
		for {
			o, over, _ := r.next(c)
			if o.Data == nil {
				if !over || at != int64(len(all)) {
					t.Fatalf("it ends at %d of %d", at, len(all))
				}
				return
			}
			if o.Offset != at || !bytes.Equal(o.Data, all[at:at+int64(len(o.Data))]) {
				t.Fatalf("a piece at %d, want %d", o.Offset, at)
			}
			at += int64(len(o.Data))
		}
	})
}

// mayDrop reports whether a piece of n bytes finds room by what was received alone.
func (r *ring) mayDrop(n int) bool {
	free, pos, end := len(r.buf)-r.used, r.head, r.first
	for left := r.used; free < n+recordHeader && left > 0; {
		size, _, _ := r.header(pos)
		if end += int64(size); end > r.received {
			return false
		}
		free, left, pos = free+recordHeader+size, left-recordHeader-size, (pos+recordHeader+size)%len(r.buf)
	}
	return free >= n+recordHeader
}

// TestRingWaits: output waits for room and comes when a reader has what is there; free ends the waiting.
func TestRingWaits(t *testing.T) {
	r, err := newRing(MinOutput, false)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan bool, 1)
	go func() { done <- r.put(wire.Stdout, make([]byte, 3*MinOutput), time.Now()) }()
	c, _ := r.cursor(0)
	for c.offset < 3*MinOutput {
		o, _, changed := r.next(c)
		if o.Data == nil {
			<-changed
			continue
		}
		r.had(c.offset)
	}
	if !<-done {
		t.Error("it was not put whole")
	}
	go func() { done <- r.put(wire.Stdout, make([]byte, 3*MinOutput), time.Now()) }()
	for _, end := r.extent(); end == 3*MinOutput; _, end = r.extent() {
		time.Sleep(time.Millisecond)
	}
	r.free()
	if <-done {
		t.Error("a ring that was freed took all")
	}
	if o, over, _ := r.next(c); o.Data != nil || !over {
		t.Error("a ring that was freed holds something")
	}
}

// TestRingCost: what output did not reach costs nothing once the command has ended.
func TestRingCost(t *testing.T) {
	r, err := newRing(MaxOutput, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.free()
	r.put(wire.Stdout, make([]byte, 10_000), time.Now())
	if got := r.cost(); got != MaxOutput {
		t.Errorf("while it runs it counts %d", got)
	}
	r.close()
	if got := r.cost(); got < 10_000 || got > 10_000+2*pageSize {
		t.Errorf("afterwards it counts %d", got)
	}
}

// TestRingJoins: what is printed byte by byte is held and read as few pieces; the streams stay apart, and times are true.
func TestRingJoins(t *testing.T) {
	r, err := newRing(MinOutput, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.free()
	at := time.Now()
	for n := range 40_000 { // With a header for each there was no room for them.
		r.put(wire.Stdout, []byte{byte(n)}, at)
	}
	r.put(wire.Stderr, []byte("e"), at)
	r.put(wire.Stdout, []byte("o"), at)
	r.put(wire.Stdout, []byte("later"), at.Add(time.Second))
	r.close()
	c, _ := r.cursor(0)
	var sizes []int
	var last wire.Output
	for {
		o, over, _ := r.next(c)
		if over {
			break
		}
		sizes, last = append(sizes, len(o.Data)), o
	}
	if !slices.Equal(sizes, []int{wire.MaxChunk, 40_000 - wire.MaxChunk, 1, 1, 5}) || !last.Time.Equal(at.Add(time.Second)) {
		t.Errorf("%d, the last of %v", sizes, last.Time)
	}
	if r.put(wire.Stdout, []byte("x"), at) {
		t.Error("a ring that is closed takes more")
	}
}
