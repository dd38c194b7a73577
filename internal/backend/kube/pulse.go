package kube

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bermhq/berm/internal/shim"
)

const (
	// silence is how long an init may not answer before its link is taken for dead, pulseInterval how often it is asked.
	silence       = 20 * time.Second
	pulseInterval = 10 * time.Second
	// lastWords is how long a link may go on to tell of an end once its pod is gone.
	lastWords = 5 * time.Second
)

// pulse finds out that the other side of a link is gone: a node that died closes nothing, and an API server in between may keep up its
// side of the connection. It asks only while requests are open, since a sandbox that nobody talks to is to use no CPU at all.
type pulse struct {
	session *yamux.Session
	// end ends the link.
	end func()
	// probe makes requests of its own, which do not count.
	probe *shim.Client
	mu    sync.Mutex
	// open are requests, asking says that somebody asks.
	open   int
	asking bool
}

func newPulse(session *yamux.Session, end func()) *pulse {
	return &pulse{session: session, end: end, probe: shim.Over(func(context.Context) (net.Conn, error) { return session.OpenStream() })}
}

// request is the stream of a request.
type request struct {
	net.Conn
	closed func()
}

// Close ends the request.
func (r *request) Close() error {
	r.closed()
	return r.Conn.Close()
}

// begin opens a stream for a request.
func (p *pulse) begin() (net.Conn, error) {
	stream, err := p.session.OpenStream()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.open++
	if !p.asking {
		p.asking = true
		go p.ask()
	}
	p.mu.Unlock()
	return &request{stream, sync.OnceFunc(func() {
		p.mu.Lock()
		p.open--
		p.mu.Unlock()
	})}, nil
}

// ask goes on until no request is open, or there is no answer; then it ends the link, and with it every request.
func (p *pulse) ask() {
	for {
		if !p.answers() {
			p.end()
			return
		}
		select {
		case <-time.After(pulseInterval):
		case <-p.session.CloseChan():
			return
		}
		p.mu.Lock()
		p.asking = p.open > 0
		done := !p.asking
		p.mu.Unlock()
		if done {
			return
		}
	}
}

// answers asks for what costs least; whatever comes back is an answer. The request has no deadline of its own: where nothing is read, even
// to give it up takes a while.
func (p *pulse) answers() bool {
	answer := make(chan struct{})
	go func() {
		_, _ = p.probe.Stats(context.Background())
		close(answer)
	}()
	late := time.NewTimer(silence)
	defer late.Stop()
	select {
	case <-answer:
		return true
	case <-late.C:
		return false
	}
}

// hangUp ends the link to a pod that is gone, should that not tell: its node may be gone, too.
func (s *sandbox) hangUp() {
	time.AfterFunc(lastWords, func() {
		s.mu.Lock()
		l := s.link
		s.mu.Unlock()
		if l != nil {
			l.close()
		}
	})
}
