package initd

import (
	"testing"
	"time"

	"github.com/bermhq/berm/internal/shim/wire"
)

func TestHeldOutput(t *testing.T) {
	o := newHeldOutput()
	o.recording.Add(-2)
	o.hold(wire.Stdout, []byte("hello "))
	o.hold(wire.Stderr, []byte("world"))
	first, werr := o.take(0)
	if werr != nil {
		t.Fatal(werr)
	}
	if p, _, mine := o.next(first); !mine || string(p.Data) != "hello " || p.Offset != 0 {
		t.Fatalf("%+v %v", p, mine)
	}
	if !o.had(first, 3) || o.had(first, 4) {
		t.Error("credit for what was sent is taken, for more it is not")
	}
	second, werr := o.take(4)
	if werr != nil {
		t.Fatal(werr)
	}
	if _, _, mine := o.next(first); mine || o.had(first, 1) {
		t.Error("the first reader still has its turn")
	}
	var all string
	for {
		p, _, _ := o.next(second)
		if p == nil {
			break
		}
		if p.Offset != 4+int64(len(all)) {
			t.Errorf("%q at %d", p.Data, p.Offset)
		}
		all += string(p.Data)
	}
	if all != "o world" {
		t.Errorf("%q", all)
	}
	for _, offset := range []int64{-1, 12} {
		if _, werr := o.take(offset); werr == nil {
			t.Errorf("offset %d was taken", offset)
		}
	}
	third, _ := o.take(11)
	if n := o.finish(time.Second); n != 11 || !isClosed(o.delivered()) {
		t.Errorf("%d bytes, delivered %v", n, isClosed(o.delivered()))
	}
	if p, _, mine := o.next(third); p != nil || !mine {
		t.Errorf("%+v %v", p, mine)
	}
}

// A full hold makes who prints wait, and lets it go on when the runner has taken something.
func TestHeldOutputIsBounded(t *testing.T) {
	o := newHeldOutput()
	o.recording.Add(-2)
	for range maxHeld / wire.MaxChunk {
		o.hold(wire.Stdout, make([]byte, wire.MaxChunk))
	}
	went := make(chan struct{})
	go func() { o.hold(wire.Stdout, []byte("more")); close(went) }()
	turn, _ := o.take(0)
	select {
	case <-went:
		t.Fatal("more was held than may be")
	case <-time.After(20 * time.Millisecond): // It cannot be shown that something never happens.
	}
	if p, _, _ := o.next(turn); p == nil || !o.had(turn, int64(len(p.Data))) {
		t.Fatal("nothing was sent")
	}
	<-went
}
