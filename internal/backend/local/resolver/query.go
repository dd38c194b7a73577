package resolver

import (
	"github.com/miekg/dns"

	"github.com/bermhq/berm/internal/core/egress"
)

// query is a question that can be thought about.
type query struct {
	msg *dns.Msg
	// name is canonical; "" when what is asked for is no name.
	name string
	typ  uint16
	// opt says that the question announced extensions, size how long an answer over UDP may be.
	opt  bool
	size int
}

// headerBytes is the length of the header of a message.
const headerBytes = 12

// parse reads a question. A reply without a query is what to answer to something that is none; neither: it is no question at
// all, and an answer could start a loop.
func parse(data []byte) (*query, *dns.Msg) {
	if len(data) < headerBytes || data[2]&0x80 != 0 {
		return nil, nil
	}
	m := new(dns.Msg)
	if len(data) > MaxQuestionBytes || m.Unpack(data) != nil {
		return nil, reject(data, dns.RcodeFormatError)
	}
	q := &query{msg: m, size: dns.MinMsgSize}
	opts := 0
	for _, rr := range m.Extra {
		if opt, ok := rr.(*dns.OPT); ok {
			opts++
			q.opt = true
			q.size = min(max(int(opt.UDPSize()), dns.MinMsgSize), MaxReplyBytes)
		}
	}
	switch {
	case m.Opcode != dns.OpcodeQuery:
		return nil, reject(data, dns.RcodeNotImplemented)
	case len(m.Question) != 1 || len(m.Answer) > 0 || len(m.Ns) > 0 || opts != len(m.Extra) || opts > 1:
		return nil, reject(data, dns.RcodeFormatError)
	case q.opt && m.IsEdns0().Version() != 0:
		return nil, q.reply(dns.RcodeBadVers)
	}
	q.typ = m.Question[0].Qtype
	if m.Question[0].Qclass != dns.ClassINET {
		return nil, q.reply(dns.RcodeRefused)
	}
	q.name, _ = egress.CanonicalName(m.Question[0].Name)
	return q, nil
}

// reject answers a header alone.
func reject(data []byte, rcode int) *dns.Msg {
	m := new(dns.Msg)
	m.Id = uint16(data[0])<<8 | uint16(data[1])
	m.Response, m.Opcode, m.Rcode = true, int(data[2]>>3&0xf), rcode
	return m
}

// reply starts an answer.
func (q *query) reply(rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(q.msg, rcode)
	m.RecursionAvailable = true
	if q.opt {
		m.SetEdns0(MaxReplyBytes, false)
	}
	return m
}

// because adds the reason to an answer, for who can read it.
func because(m *dns.Msg, code uint16, why string) *dns.Msg {
	if opt := m.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: code, ExtraText: why})
	}
	return m
}

// addresses reports whether a question is for addresses.
func (q *query) addresses() bool { return q.typ == dns.TypeA || q.typ == dns.TypeAAAA }

// served says what is done with the other types.
type served int

const (
	// servedNot: the type is not implemented.
	servedNot served = iota
	// servedNone: there is never anything of the type. Clients ask on their own and go on with addresses; what is in such records
	// are addresses that nobody checks, and keys to hide names with.
	servedNone
	// servedText: asked for upstream, counted as text.
	servedText
)

func servedAs(typ uint16) served {
	switch typ {
	case dns.TypeHTTPS, dns.TypeSVCB:
		return servedNone
	case dns.TypeCNAME, dns.TypeMX, dns.TypeSRV, dns.TypeTXT, dns.TypeCAA, dns.TypeNS, dns.TypeSOA, dns.TypeTLSA, dns.TypeSSHFP, dns.TypeNAPTR, dns.TypePTR:
		return servedText
	}
	return servedNot
}
