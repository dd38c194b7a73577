package kept

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

// recordHeader is what a piece has before its bytes: length, stream and time.
const recordHeader = 16

const pageSize = 4 << 10

// together is how long output of one stream goes into one piece, which has one time: a command that prints byte by byte does not fill the
// ring with headers, nor its readers with frames, and no time that is told is further off than this.
const together = 10 * time.Millisecond

// ring holds the last output of a command. Its memory is mapped, not of the heap: a page that nothing was written to costs nothing, and
// all of it is given back at once.
type ring struct {
	mu      sync.Mutex
	changed chan struct{} // closed at the next change; nil while nobody waits
	buf     []byte
	drop    bool
	// head is where the oldest piece lies, used how much is held, written how much ever was, headers included.
	head, used int
	written    int64
	// last is where the newest piece lies, of lastSize bytes and lastStream, begun at lastAt. It may be gone.
	last, lastSize int
	lastStream     wire.Stream
	lastAt         time.Time
	// first is the offset of the oldest byte held, end that behind the last; all before received is somebody's.
	first, end, received int64
	// closed: nothing more comes. freed: nothing is held any more either.
	closed, freed bool
}

func newRing(size int, drop bool) (*ring, error) {
	buf, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	return &ring{buf: buf, drop: drop}, nil
}

// put appends output, which waits for room where nothing may be dropped. It is false once the ring is closed or freed.
func (r *ring) put(stream wire.Stream, data []byte, at time.Time) bool {
	for len(data) > 0 {
		n := min(len(data), wire.MaxChunk)
		if !r.putPiece(stream, data[:n], at) {
			return false
		}
		data = data[n:]
	}
	return true
}

func (r *ring) putPiece(stream wire.Stream, data []byte, at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.closed && len(r.buf)-r.used < r.need(stream, data, at) {
		if r.dropOldest() {
			continue
		}
		changed := r.wait()
		r.mu.Unlock()
		<-changed
		r.mu.Lock()
	}
	if r.closed {
		return false
	}
	need := r.need(stream, data, at)
	if need > len(data) {
		r.last, r.lastSize, r.lastStream, r.lastAt = (r.head+r.used)%len(r.buf), 0, stream, at
	}
	r.copyIn(r.last+recordHeader+r.lastSize, data)
	r.lastSize += len(data)
	var h [recordHeader]byte
	binary.BigEndian.PutUint32(h[:], uint32(r.lastSize)) //nolint:gosec // at most wire.MaxChunk
	h[4] = byte(stream)
	binary.BigEndian.PutUint64(h[8:], uint64(r.lastAt.UnixNano()))
	r.copyIn(r.last, h[:])
	r.used += need
	r.written += int64(need)
	r.end += int64(len(data))
	r.notify()
	return true
}

// need is how much room data takes: of its own where it is joined to the newest piece, else with a header.
func (r *ring) need(stream wire.Stream, data []byte, at time.Time) int {
	if r.used > 0 && stream == r.lastStream && r.lastSize+len(data) <= wire.MaxChunk && at.Sub(r.lastAt) < together {
		return len(data)
	}
	return recordHeader + len(data)
}

// dropOldest makes room, if the oldest piece may go.
func (r *ring) dropOldest() bool {
	if r.used == 0 {
		return false
	}
	n, _, _ := r.header(r.head)
	end := r.first + int64(n)
	if !r.drop && end > r.received {
		return false
	}
	r.head = (r.head + recordHeader + n) % len(r.buf)
	r.used -= recordHeader + n
	r.first = end
	return true
}

func (r *ring) header(at int) (n int, stream wire.Stream, when time.Time) {
	var h [recordHeader]byte
	r.copyOut(h[:], at)
	return int(binary.BigEndian.Uint32(h[:])), wire.Stream(h[4]), time.Unix(0, int64(binary.BigEndian.Uint64(h[8:])))
}

func (r *ring) copyIn(at int, b []byte) {
	at %= len(r.buf)
	n := copy(r.buf[at:], b)
	copy(r.buf, b[n:])
}

func (r *ring) copyOut(b []byte, at int) {
	at %= len(r.buf)
	n := copy(b, r.buf[at:])
	copy(b[n:], r.buf)
}

// cursor is where a reader is: at offset, in or right behind the piece at pos, which begins at base and may still grow.
type cursor struct {
	pos          int
	base, offset int64
	buf          []byte
}

// cursor begins at an offset, which must have been reached, in a ring that is not freed. What is not held any more shows in the offset of
// the first piece.
func (r *ring) cursor(offset int64) (*cursor, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.freed || offset < 0 || offset > r.end {
		return nil, false
	}
	c := &cursor{buf: make([]byte, wire.MaxChunk), pos: r.head, base: r.first, offset: max(offset, r.first)}
	for c.base < c.offset {
		n, _, _ := r.header(c.pos)
		if c.base+int64(n) >= c.offset {
			break
		}
		r.pass(c, n)
	}
	return c, true
}

// pass moves a cursor behind a piece of n bytes.
func (r *ring) pass(c *cursor, n int) {
	c.pos, c.base = (c.pos+recordHeader+n)%len(r.buf), c.base+int64(n)
}

// next returns what follows; its data is valid until the next call. Without a piece, changed is closed when there may be one, and over
// says that there never will.
func (r *ring) next(c *cursor) (o wire.Output, over bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.freed {
		return o, true, nil
	}
	if c.base < r.first { // Its piece is gone, and what was not read of it.
		c.pos, c.base, c.offset = r.head, r.first, max(c.offset, r.first)
	}
	if c.offset == r.end {
		return o, r.closed, r.wait()
	}
	n, stream, when := r.header(c.pos)
	if c.base+int64(n) == c.offset { // It did not grow.
		r.pass(c, n)
		n, stream, when = r.header(c.pos)
	}
	skip := int(c.offset - c.base)
	o = wire.Output{Offset: c.offset, Time: when, Stream: stream, Data: c.buf[:n-skip]}
	r.copyOut(o.Data, c.pos+recordHeader+skip)
	c.offset = c.base + int64(n)
	return o, false, nil
}

// had notes that all before offset is somebody's. It is false for what was never printed.
func (r *ring) had(offset int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if offset < 0 || offset > r.end {
		return false
	}
	if offset > r.received {
		r.received = offset
		r.notify()
	}
	return true
}

// close says that nothing more comes, free gives the memory back.
func (r *ring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.notify()
}

func (r *ring) free() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.freed {
		return
	}
	r.closed, r.freed = true, true
	_ = unix.Munmap(r.buf)
	r.buf = nil
	r.notify()
}

// extent returns the offsets of what is held.
func (r *ring) extent() (first, end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first, r.end
}

// cost is what the ring has of the sandbox's memory, and may still take.
func (r *ring) cost() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := int64(len(r.buf))
	if !r.closed || r.written >= all {
		return all
	}
	return min(all, (r.written+pageSize-1)/pageSize*pageSize)
}

// wait returns what is closed at the next change. The caller holds the lock.
func (r *ring) wait() <-chan struct{} {
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

func (r *ring) notify() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}
