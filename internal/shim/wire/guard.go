package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/hashicorp/yamux"
)

// What the answering end may send that nobody waits for. An honest init stays far below: of a stream it says that it took it, that
// there is more room and that it is done, and it says that there is more room once for each half a window.
const (
	// idlePerStream and idlePerBytes are how many frames without content may come for a stream that is opened, and for so many bytes
	// sent; maxIdle is how many of them can be saved up.
	idlePerStream = 16
	idlePerBytes  = 64 << 10
	maxIdle       = 64 << 10
	// strayPerStream is how much, headers included, may come of a stream after its end, in frames that may be small: what was on the
	// way when it was reset, and what a goroutine of the peer was writing when another closed it (yamux sends that behind the close).
	// maxStray is how much of it can be saved up.
	strayPerStream = 4 * streamWindow
	maxStray       = 64 << 20
)

// Types and flags of yamux frames; the frame begins with version, type, flags, stream and length.
const (
	muxData, muxWindow, muxPing, muxGoAway = 0, 1, 2, 3
	muxSYN, muxFIN, muxRST                 = 1, 4, 8
)

// ErrFlood is the cause of the end of a connection whose other end sends what nobody asked for.
var ErrFlood = errors.New("it floods its connection")

// Guard stands between yamux, at the end that opens all streams, and the connection to a peer that is not trusted. What is sent on a
// stream that was opened is bounded by its window, which whoever reads it gives. Everything else is work for nothing, outside of any
// limit of the peer: pings, each of which yamux answers in a goroutine of its own, streams that it opens, frames without content or for
// streams that there are not. There is an allowance for what an honest peer sends; beyond it the connection ends with ErrFlood. It counts,
// and looks at no clock: a peer that is slow, or was frozen, is none that floods.
type Guard struct {
	net.Conn
	in, out muxScanner

	mu    sync.Mutex
	live  map[uint32]*muxSides
	idle  int64 // frames without content that may come
	stray int64 // bytes that may come for streams that there are not
	sent  int64 // bytes sent that earned no idle frame yet
	cause error
}

// muxSides are the ends of a stream that are closed.
type muxSides struct{ ours, theirs bool }

// Client makes a session over a connection to a peer that answers. Why it ended, Guard.Cause says, if it was the Guard that did it.
func Client(conn net.Conn) (*yamux.Session, *Guard, error) {
	g := &Guard{Conn: conn, live: map[uint32]*muxSides{}, idle: idlePerStream}
	session, err := yamux.Client(g, MuxConfig())
	return session, g, err
}

// Cause is why the Guard ended the connection, nil when it did not.
func (g *Guard) Cause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cause
}

// Read reads what the peer sends, up to the first frame that is too much.
func (g *Guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	if flood := g.in.scan(p[:n], g.received); flood != nil && g.cause == nil {
		g.cause = fmt.Errorf("%w: %w", ErrFlood, flood)
	}
	if g.cause != nil {
		return 0, g.cause
	}
	return n, err
}

// Write sends what yamux has to say.
func (g *Guard) Write(p []byte) (int, error) {
	g.mu.Lock()
	_ = g.out.scan(p, g.sending)
	g.earn(int64(len(p)))
	g.mu.Unlock()
	return g.Conn.Write(p)
}

// earn allows frames without content for bytes that are sent.
func (g *Guard) earn(bytes int64) {
	g.sent += bytes
	g.idle = min(g.idle+g.sent/idlePerBytes, maxIdle)
	g.sent %= idlePerBytes
}

// sending follows a frame that is sent.
func (g *Guard) sending(f muxFrame) error {
	if f.kind > muxWindow {
		return nil
	}
	if f.flags&muxSYN != 0 {
		g.live[f.stream] = &muxSides{}
		g.idle = min(g.idle+idlePerStream, maxIdle)
	}
	s := g.live[f.stream]
	if s == nil {
		return nil
	}
	s.ours = s.ours || f.flags&muxFIN != 0
	g.over(f, s)
	return nil
}

// over forgets a stream after its last frame.
func (g *Guard) over(f muxFrame, s *muxSides) {
	if f.flags&muxRST != 0 || s.ours && s.theirs {
		delete(g.live, f.stream)
		g.stray = min(g.stray+strayPerStream, maxStray)
	}
}

// received judges a frame that came.
func (g *Guard) received(f muxFrame) error {
	switch {
	case f.kind == muxPing:
		return errors.New("a ping, which nobody sends")
	case f.kind <= muxWindow && f.flags&muxSYN != 0:
		return errors.New("a stream that it opens, which only the other end does")
	}
	s := g.live[f.stream]
	if f.kind == muxData && f.length > 0 && s == nil {
		g.stray -= muxHeader + int64(f.length)
	} else if f.kind != muxData || f.length == 0 {
		g.idle--
	}
	if s != nil && f.kind <= muxWindow {
		s.theirs = s.theirs || f.flags&muxFIN != 0
		g.over(f, s)
	}
	switch {
	case g.stray < 0:
		return errors.New("content for streams that there are not")
	case g.idle < 0:
		return errors.New("frames without content")
	}
	return nil
}

// muxFrame is the header of a frame.
type muxFrame struct {
	kind   uint8
	flags  uint16
	stream uint32
	length uint32
}

// muxScanner finds the frames in a stream of bytes.
type muxScanner struct {
	head [muxHeader]byte
	have int
	body uint32 // what is still to come of a frame's content
}

// scan calls each for the frames that begin, or whose header is completed, in p. It stops at the first error.
func (s *muxScanner) scan(p []byte, each func(muxFrame) error) error {
	for len(p) > 0 {
		if s.body > 0 {
			n := min(uint64(s.body), uint64(len(p)))
			s.body -= uint32(n) //nolint:gosec // at most body
			p = p[n:]
			continue
		}
		n := copy(s.head[s.have:], p)
		s.have += n
		p = p[n:]
		if s.have < muxHeader {
			return nil
		}
		s.have = 0
		f := muxFrame{
			kind: s.head[1], flags: binary.BigEndian.Uint16(s.head[2:]), stream: binary.BigEndian.Uint32(s.head[4:]), length: binary.BigEndian.Uint32(s.head[8:]),
		}
		if f.kind == muxData {
			s.body = f.length
		}
		if err := each(f); err != nil {
			return err
		}
	}
	return nil
}
