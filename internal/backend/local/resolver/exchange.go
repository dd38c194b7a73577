package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

var (
	errStray  = errors.New("what came is no answer to the question")
	errLength = errors.New("the answer is too long")
)

// exchange asks one server one question: by a datagram, and by a connection when the answer does not fit. Every question has a
// random number and, because it has a socket of its own that the kernel picks a port for, a random port.
func exchange(ctx context.Context, server netip.AddrPort, q question, extended bool) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(q.name), q.typ)
	if extended {
		m.SetEdns0(MaxReplyBytes, false)
	}
	data, err := m.Pack()
	if err != nil {
		return nil, err
	}
	answer, err := overUDP(ctx, server, m, data)
	if err != nil || !answer.Truncated {
		return answer, err
	}
	return overTCP(ctx, server, m, data)
}

// dial opens a socket that ends with ctx.
func dial(ctx context.Context, network string, server netip.AddrPort) (net.Conn, func(), error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() { stop(); _ = conn.Close() }, nil
}

// overUDP reads past what is no answer: anybody may send something to the port.
func overUDP(ctx context.Context, server netip.AddrPort, q *dns.Msg, data []byte) (*dns.Msg, error) {
	conn, end, err := dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer end()
	if _, err := conn.Write(data); err != nil {
		return nil, err
	}
	buf := make([]byte, MaxDatagramBytes)
	for range MaxStrays {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if m, err := matching(q, buf[:n]); err == nil {
			return m, nil
		}
	}
	return nil, errStray
}

func overTCP(ctx context.Context, server netip.AddrPort, q *dns.Msg, data []byte) (*dns.Msg, error) {
	conn, end, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := writeFramed(conn, data); err != nil {
		return nil, err
	}
	buf, err := readFramed(conn, MaxAnswerBytes)
	if err != nil {
		return nil, err
	}
	m, err := matching(q, buf)
	if err == nil && m.Truncated {
		err = errLength
	}
	return m, err
}

// matching parses an answer, when it is one to q.
func matching(q *dns.Msg, data []byte) (*dns.Msg, error) {
	if len(data) < headerBytes || binary.BigEndian.Uint16(data) != q.Id || data[2]&0x80 == 0 {
		return nil, errStray
	}
	m := new(dns.Msg)
	if err := m.Unpack(data); err != nil {
		return nil, err
	}
	if m.Opcode != dns.OpcodeQuery {
		return nil, errStray
	}
	if len(m.Question) == 0 && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) {
		return m, nil // of a server that could not read the question
	}
	if len(m.Question) != 1 || m.Question[0].Qtype != q.Question[0].Qtype || m.Question[0].Qclass != dns.ClassINET ||
		dns.CanonicalName(m.Question[0].Name) != q.Question[0].Name {
		return nil, errStray
	}
	return m, nil
}

// writeFramed writes a message to a connection, behind its length.
func writeFramed(w io.Writer, data []byte) error {
	if len(data) > dns.MaxMsgSize {
		return errLength
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(data)), uint16(len(data))), data...)) //nolint:gosec // checked above
	return err
}

// readFramed reads a message of at most limit bytes from a connection.
func readFramed(r io.Reader, limit int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > limit {
		return nil, errLength
	}
	data := make([]byte, n)
	_, err := io.ReadFull(r, data)
	return data, err
}
