package kept

import (
	"bytes"
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
		var received int64
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "put") {
				n := rapid.IntRange(1, wire.MaxChunk).Draw(t, "n")
				if !drop && r.used+n+recordHeader > MinOutput && !r.mayDrop(n) {
					continue // It would wait.
				}
				piece := bytes.Repeat([]byte{byte(len(all)), byte(len(all) >> 8), 7}, n)[:n]
				if !r.put(wire.Stdout, piece, time.Now()) {
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
