package wire

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	// streamWindow is how much one stream may have in flight, in bytes.
	streamWindow = 512 << 10
	// openBacklog is how many streams may wait for the other side to notice them.
	openBacklog = 256
	// muxWriteTimeout bounds one write to the socket: a sandbox that is frozen must not hold the shim for ever.
	muxWriteTimeout = time.Minute
	// muxHeader is the length of a yamux header, in bytes.
	muxHeader = 12
)

// MuxConfig returns the yamux configuration of both ends. There is no keepalive: an idle sandbox should use no CPU at all,
// and a dead peer closes the socket.
func MuxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.AcceptBacklog = openBacklog
	c.MaxStreamWindowSize = streamWindow
	c.ConnectionWriteTimeout = muxWriteTimeout
	c.StreamOpenTimeout = 0
	c.LogOutput = io.Discard
	return c
}

// Coalesce returns c with the two writes that yamux makes for a frame with a body joined into one, which halves the system
// calls and the wake-ups of the other side.
func Coalesce(c net.Conn) net.Conn { return &coalescer{Conn: c} }

type coalescer struct {
	net.Conn
	mu      sync.Mutex
	pending []byte
}

// Write keeps a data header back until its body comes. yamux writes a header and then, if the frame is of type data with a
// length, its whole body; it never writes anything in between.
func (c *coalescer) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 && isDataHeader(p) {
		c.pending = append(c.pending, p...)
		return len(p), nil
	}
	if len(c.pending) == 0 {
		return c.Conn.Write(p)
	}
	n, err := c.writeBoth(p)
	c.pending = c.pending[:0]
	return n, err
}

func (c *coalescer) writeBoth(p []byte) (int, error) {
	both := net.Buffers{c.pending, p}
	n, err := both.WriteTo(c.Conn)
	return max(int(n)-muxHeader, 0), err
}

// isDataHeader reports whether p is a yamux header of type data (0) with a body.
func isDataHeader(p []byte) bool {
	return len(p) == muxHeader && p[0] == 0 && p[1] == 0 && binary.BigEndian.Uint32(p[8:]) > 0
}
