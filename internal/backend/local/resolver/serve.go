package resolver

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// breath is how long to wait after an error of a socket before trying again.
const breath = 100 * time.Millisecond

// serveUDP takes datagrams. One goroutine reads; as many think as there are slots.
func (r *Resolver) serveUDP(conn *net.UDPConn) {
	buf := make([]byte, MaxQuestionBytes+1)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if !r.pause(err) {
				return
			}
			continue
		}
		a, ok := r.asker(from.Addr())
		if !ok {
			continue
		}
		if !takeBoth(a.questions, r.questions) {
			a.count(func(s *Stats) { s.Limited++ })
			continue
		}
		data := bytes.Clone(buf[:n])
		r.running.Go(func() {
			defer func() { <-a.questions; <-r.questions }()
			r.answerUDP(conn, from, a, data)
		})
	}
}

func (r *Resolver) answerUDP(conn *net.UDPConn, to netip.AddrPort, a asker, data []byte) {
	q, m := r.answer(a, data)
	if m == nil {
		return
	}
	size := dns.MinMsgSize
	if q != nil {
		size = q.size
	}
	m.Truncate(size)
	if out := r.pack(m, data); out != nil {
		_, _ = conn.WriteToUDPAddrPort(out, to) // Whoever does not get it asks again.
	}
}

// pack writes a message. One that cannot be written is a failure, not silence.
func (r *Resolver) pack(m *dns.Msg, question []byte) []byte {
	out, err := m.Pack()
	if err != nil {
		r.log.Error("an answer for a name could not be written", "error", err)
		out, _ = reject(question, dns.RcodeServerFailure).Pack()
	}
	return out
}

// pause waits after an error of a listening socket, and reports whether to go on.
func (r *Resolver) pause(err error) bool {
	if errors.Is(err, net.ErrClosed) || r.ctx.Err() != nil {
		return false
	}
	r.log.Warn("a socket that names are answered at failed", "error", err)
	select {
	case <-r.ctx.Done():
		return false
	case <-time.After(breath):
		return true
	}
}

// serveTCP takes connections, so many of each sandbox.
func (r *Resolver) serveTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if !r.pause(err) {
				return
			}
			continue
		}
		a, ok := r.asker(addrOf(conn))
		if !ok {
			_ = conn.Close()
			continue
		}
		if !takeBoth(a.connections, r.connections) {
			a.count(func(s *Stats) { s.Limited++ })
			_ = conn.Close()
			continue
		}
		r.running.Go(func() {
			defer func() { <-a.connections; <-r.connections }()
			r.serveConn(conn)
		})
	}
}

func addrOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return netip.Addr{}
}

// serveConn answers the questions of one connection, one after the other. Who asks is looked up each time: what a sandbox may
// reach may have changed, and its address may be another's.
func (r *Resolver) serveConn(conn net.Conn) {
	defer conn.Close()
	end := make(chan struct{})
	defer close(end)
	r.running.Go(func() {
		select {
		case <-r.ctx.Done():
			_ = conn.SetDeadline(time.Unix(1, 0))
		case <-end:
		}
	})
	for range QuestionsPerConnection {
		if conn.SetDeadline(time.Now().Add(ConnectionIdle)) != nil || r.ctx.Err() != nil {
			return
		}
		data, err := readFramed(conn, MaxQuestionBytes)
		if err != nil {
			return
		}
		a, ok := r.asker(addrOf(conn))
		if !ok {
			return
		}
		if !r.answerTCP(conn, a, data) {
			return
		}
	}
}

func (r *Resolver) answerTCP(conn net.Conn, a asker, data []byte) bool {
	if !takeBoth(a.questions, r.questions) {
		a.count(func(s *Stats) { s.Limited++ })
		return false
	}
	defer func() { <-a.questions; <-r.questions }()
	_, m := r.answer(a, data)
	if m == nil {
		return false
	}
	m.Compress = true
	return conn.SetWriteDeadline(time.Now().Add(ConnectionIdle)) == nil && writeFramed(conn, r.pack(m, data)) == nil
}
