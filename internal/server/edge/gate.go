package edge

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
)

// gate is a request body that can be read only while a handler waits for a message.
//
// grpc.Server.ServeHTTP reads the body in a goroutine of its own, as fast as the client sends, into a buffer without a bound.
// That would let a caller without a token, or one whose command does not read its standard input, fill our memory. With the
// gate nothing is read before the call is authenticated, and HTTP/2 flow control reaches the client when a handler is busy.
type gate struct {
	body io.ReadCloser

	mu      sync.Mutex
	changed *sync.Cond
	waiting int
	closed  bool
}

type gateKey struct{}

func newGate(body io.ReadCloser) *gate {
	g := &gate{body: body}
	g.changed = sync.NewCond(&g.mu)
	return g
}

var errBodyClosed = errors.New("the request body was closed")

// Read implements io.Reader.
func (g *gate) Read(p []byte) (int, error) {
	g.mu.Lock()
	for g.waiting == 0 && !g.closed {
		g.changed.Wait()
	}
	closed := g.closed
	g.mu.Unlock()
	if closed {
		return 0, errBodyClosed
	}
	return g.body.Read(p)
}

// Close implements io.Closer and ends a Read that waits.
func (g *gate) Close() error {
	g.mu.Lock()
	g.closed = true
	g.changed.Broadcast()
	g.mu.Unlock()
	return g.body.Close()
}

func (g *gate) add(n int) {
	g.mu.Lock()
	g.waiting += n
	g.changed.Broadcast()
	g.mu.Unlock()
}

// gatedStream opens the gate of its request while it waits for a message, and says what is wrong with one that does not decode.
// On a native listener there is no gate, because grpc-go's own transport does flow control by what was consumed.
type gatedStream struct {
	grpc.ServerStream
	ctx  context.Context //nolint:containedctx // grpc.ServerStream hands its context out, and interceptors replace it this way
	gate *gate
}

func (s *gatedStream) Context() context.Context { return s.ctx }

func (s *gatedStream) RecvMsg(m any) error {
	if s.gate != nil {
		s.gate.add(1)
		defer s.gate.add(-1)
	}
	r := received{message: m}
	if err := s.ServerStream.RecvMsg(&r); err != nil {
		return err
	}
	return r.fault()
}
