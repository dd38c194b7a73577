package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/yamux"
)

// line returns both ends of a guarded connection: the session of the end that opens streams, its guard, and the connection of the other.
func line(t *testing.T) (*yamux.Session, *Guard, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	session, g, err := Client(Coalesce(ours))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = session.Close(), theirs.Close() })
	return session, g, theirs
}

func header(kind byte, flags uint16, stream, length uint32) []byte {
	h := []byte{0, kind, byte(flags >> 8), byte(flags)}
	h = binary.BigEndian.AppendUint32(h, stream)
	return binary.BigEndian.AppendUint32(h, length)
}

// TestGuardEndsFloods: each kind of frame that nobody asked for ends the connection, at once or after a bounded number.
func TestGuardEndsFloods(t *testing.T) {
	tests := map[string]struct {
		frame []byte
		most  int
		why   string
	}{
		"pings":         {header(muxPing, muxSYN, 0, 7), 1, "a ping"},
		"pongs":         {header(muxPing, 2, 0, 7), 1, "a ping"},
		"streams":       {header(muxWindow, muxSYN, 2, 0), 1, "a stream"},
		"streams, data": {header(muxData, muxSYN, 2, 0), 1, "a stream"},
		"updates":       {header(muxWindow, 0, 1, 0), 3 * idlePerStream, "without content"},
		"empties":       {header(muxData, 0, 1, 0), 3 * idlePerStream, "without content"},
		"farewells":     {header(muxGoAway, 0, 0, 0), 3 * idlePerStream, "without content"},
		"strays":        {append(header(muxData, 0, 77, 1), 'x'), 1, "streams that there are not"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			session, g, peer := line(t)
			go func() { _, _ = io.Copy(io.Discard, peer) }()
			if _, err := session.OpenStream(); err != nil {
				t.Fatal(err)
			}
			// One more than may come is written, of which not all may be taken.
			for range tt.most + 1 {
				if _, err := peer.Write(tt.frame); err != nil {
					break
				}
			}
			<-session.CloseChan()
			if err := g.Cause(); !errors.Is(err, ErrFlood) || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("ended by %v", err)
			}
		})
	}
}

// TestGuardLetsHonestPeersBe: many streams at once, in pieces of all sizes, both ways, some abandoned in the middle.
func TestGuardLetsHonestPeersBe(t *testing.T) {
	session, g, peer := line(t)
	server, err := yamux.Server(Coalesce(peer), MuxConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() { // It gives back what it gets, byte by byte at first.
		for {
			s, err := server.AcceptStream()
			if err != nil {
				return
			}
			go func() {
				defer s.Close()
				var one [1]byte
				for range 300 {
					if _, err := s.Read(one[:]); err != nil {
						return
					}
					if _, err := s.Write(one[:]); err != nil {
						return
					}
				}
				_, _ = io.Copy(s, s)
			}()
		}
	}()
	const size = 3 * streamWindow
	var all sync.WaitGroup
	for n := range 40 {
		all.Go(func() {
			s, err := session.OpenStream()
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			go func() {
				_, _ = s.Write(make([]byte, size))
				_ = s.Close()
			}()
			want := int64(size)
			if n%2 == 0 {
				want = int64(n) * 1000 // It is left with more on the way.
			}
			if got, err := io.CopyN(io.Discard, s, want); err != nil {
				t.Errorf("%d of %d bytes came back: %v", got, want, err)
			}
		})
	}
	all.Wait()
	if err := g.Cause(); err != nil || session.IsClosed() {
		t.Errorf("an honest peer was cut off: %v", err)
	}
}

// TestGuardAllowsForTheEndOfStreams: what was on the way when a stream was reset, or was being written when both sides closed it, is not
// held against the peer; what is more is.
func TestGuardAllowsForTheEndOfStreams(t *testing.T) {
	type frame struct {
		ours  bool
		flags uint16
	}
	for name, end := range map[string][]frame{
		"reset by us": {{true, muxRST}}, "reset by the peer": {{false, muxRST}},
		"closed by us first": {{true, muxFIN}, {false, muxFIN}}, "closed by the peer first": {{false, muxFIN}, {true, muxFIN}},
	} {
		t.Run(name, func(t *testing.T) {
			g := &Guard{live: map[uint32]*muxSides{}}
			_ = g.sending(muxFrame{kind: muxWindow, flags: muxSYN, stream: 1})
			for _, f := range end {
				judge := g.received
				if f.ours {
					judge = g.sending
				}
				if err := judge(muxFrame{kind: muxWindow, flags: f.flags, stream: 1}); err != nil {
					t.Fatal(err)
				}
			}
			const small = 9
			for n := range streamWindow / small {
				if err := g.received(muxFrame{kind: muxData, stream: 1, length: small}); err != nil {
					t.Fatalf("after %d bytes of a window of %d: %v", n*small, streamWindow, err)
				}
			}
			var err error
			for range strayPerStream {
				if err = g.received(muxFrame{kind: muxData, stream: 1, length: small}); err != nil {
					break
				}
			}
			if err == nil {
				t.Error("a stream that ended may be written to for ever")
			}
		})
	}
}
