package resolver

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/bermhq/berm/internal/core/egress"
)

// asker is a sandbox while one of its questions is answered.
type asker struct {
	*client
	addr   netip.Addr
	id     string
	policy *egress.Policy
}

// asker returns who asks from an address. Those without a network ask nothing.
func (r *Resolver) asker(from netip.Addr) (asker, bool) {
	from = from.Unmap().WithZone("")
	id, p, ok := r.network.Sandbox(from)
	if !ok || p == nil || p.Type == egress.None {
		return asker{}, false
	}
	return asker{r.client(id), from, id, p}, true
}

// noName stands for what is asked for and is no name, in what is told of denials.
const noName = "(not a host name)"

// answer returns the answer to a question, and the question as far as it is one. Without an answer, none is sent.
func (r *Resolver) answer(a asker, data []byte) (q *query, m *dns.Msg) {
	defer func() {
		// Messages are parsed and written by a library, and come from whoever runs in a sandbox, or is asked on its behalf.
		if p := recover(); p != nil {
			r.log.Error("a question for a name could not be thought about", "sandbox", a.id, "panic", p)
			q, m = nil, reject(data, dns.RcodeServerFailure)
		}
	}()
	if q, m = parse(data); q == nil {
		a.count(func(s *Stats) { s.Malformed++ })
		return nil, m
	}
	now := r.now()
	if !a.rate.AllowN(now, 1) {
		return q, r.limited(a, q, "too many questions: try again later")
	}
	a.count(func(s *Stats) { s.Questions++ })
	if q.name == "" {
		return q, r.denied(a, q, noName, "what is asked for is no name of a host")
	}
	look := a.policy.Lookup(q.name)
	if look.Scope {
		return q, r.member(a, q, look)
	}
	if why := refuses(a.policy, look, q.name); why != "" {
		return q, r.denied(a, q, q.name, why)
	}
	if !q.addresses() {
		if m := r.otherType(a, q, look); m != nil {
			return q, m
		}
	}
	if !a.mayAsk(a.policy, look, q.name, now) {
		return q, r.limited(a, q, "too many different names: try again later")
	}
	return q, r.lookUp(a, q, look)
}

// refuses returns why a name may not be looked up, "" when it may. Names of addresses are about the address.
func refuses(p *egress.Policy, look egress.Lookup, name string) string {
	if !look.Allow {
		return look.Why
	}
	if addr, reverse := reversed(name); reverse && (!addr.IsValid() || !p.Answers(addr, false)) {
		return "the address that the name is of may not be reached"
	}
	return ""
}

// otherType answers questions for anything but addresses that are not passed on, and returns nil for those that are.
func (r *Resolver) otherType(a asker, q *query, look egress.Lookup) *dns.Msg {
	as := servedAs(q.typ)
	switch {
	case as == servedNot:
		a.count(func(s *Stats) { s.Malformed++ })
		return because(q.reply(dns.RcodeNotImplemented), dns.ExtendedErrorCodeNotSupported, "records of this type are not looked up")
	case as == servedNone || !look.Pin && a.policy.Type == egress.Allowlist:
		a.count(func(s *Stats) { s.Answered++ })
		return because(q.reply(dns.RcodeSuccess), dns.ExtendedErrorCodeFiltered, "only addresses are answered")
	case !a.texts.AllowN(r.now(), 1):
		return r.limited(a, q, "too many questions for other records than addresses: try again later")
	}
	return nil
}

// lookUp asks for a name that may be asked for, and answers what may be told of it.
func (r *Resolver) lookUp(a asker, q *query, look egress.Lookup) *dns.Msg {
	found, left, err := r.cache.get(r.ctx, question{q.name, q.typ})
	if err != nil {
		a.count(func(s *Stats) { s.Failed++ })
		return because(q.reply(dns.RcodeServerFailure), dns.ExtendedErrorCodeNoReachableAuthority, "no name server gave an answer")
	}
	if !look.Pin {
		for _, alias := range found.aliases {
			name, ok := egress.CanonicalName(alias)
			if !ok || refuses(a.policy, a.policy.Lookup(name), name) != "" {
				return r.denied(a, q, q.name, "the name is an alias of one that may not be looked up")
			}
		}
	}
	records, pins, dropped := filter(a.policy, found.records, look.Pin)
	if dropped > 0 {
		a.count(func(s *Stats) { s.Filtered += int64(dropped) })
	}
	if len(pins) > 0 {
		if err := r.network.Pin(a.addr, q.name, pins, left+PinSlack); err != nil {
			r.log.Warn("an answer could not be let through, and was not given", "sandbox", a.id, "name", q.name, "error", err)
			a.count(func(s *Stats) { s.Failed++ })
			return because(q.reply(dns.RcodeServerFailure), dns.ExtendedErrorCodeOther, "the addresses could not be made reachable")
		}
	}
	m := q.reply(found.rcode)
	for _, rr := range records {
		m.Answer = append(m.Answer, under(rr, q.msg.Question[0].Name, left))
	}
	a.count(func(s *Stats) { s.Answered++ })
	if dropped > 0 && len(records) == 0 {
		const why = "the name has only addresses that may not be reached"
		a.deny(q.name, why, r.now())
		because(m, dns.ExtendedErrorCodeFiltered, why)
	}
	return m
}

// filter keeps what may be told, returns which of the addresses can only be reached once they are let through, and counts the rest.
func filter(p *egress.Policy, all []dns.RR, pin bool) (kept []dns.RR, pins []netip.Addr, dropped int) {
	for _, rr := range all {
		addr, is := address(rr)
		switch {
		case !is, p.Answers(addr, false):
			kept = append(kept, rr)
		case pin && p.Answers(addr, true):
			kept = append(kept, rr)
			if !slices.Contains(pins, addr) {
				pins = append(pins, addr)
			}
		default:
			dropped++
		}
	}
	return kept, pins, dropped
}

// address returns the address of a record, and whether it is of a type that has one. What cannot be read is an address that nobody
// may reach.
func address(rr dns.RR) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		addr, _ := netip.AddrFromSlice(rr.A)
		return addr.Unmap(), true
	case *dns.AAAA:
		addr, _ := netip.AddrFromSlice(rr.AAAA)
		return addr, true
	}
	return netip.Addr{}, false
}

// under returns a record as one of the name that was asked for.
func under(rr dns.RR, name string, left time.Duration) dns.RR {
	out := dns.Copy(rr)
	out.Header().Name = name
	out.Header().Ttl = uint32(left / time.Second) //nolint:gosec // between 0 and MaxTTL
	return out
}

// member answers a question for another sandbox. One out of scope is like one that is not there.
func (r *Resolver) member(a asker, q *query, look egress.Lookup) *dns.Msg {
	id := strings.TrimSuffix(q.name, "."+MemberDomain)
	var addrs []netip.Addr
	if !strings.Contains(id, ".") {
		addrs = r.network.Member(a.addr, id)
	}
	if len(addrs) == 0 {
		return r.denied(a, q, q.name, look.Why)
	}
	m := q.reply(dns.RcodeSuccess)
	for _, addr := range addrs[:min(len(addrs), MaxAddresses)] {
		h := dns.RR_Header{Name: q.msg.Question[0].Name, Class: dns.ClassINET, Rrtype: q.typ, Ttl: uint32(MemberTTL / time.Second)}
		switch {
		case q.typ == dns.TypeA && addr.Is4():
			m.Answer = append(m.Answer, &dns.A{Hdr: h, A: addr.AsSlice()})
		case q.typ == dns.TypeAAAA && addr.Is6():
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: h, AAAA: addr.AsSlice()})
		}
	}
	a.count(func(s *Stats) { s.Answered++ })
	return m
}

// denied answers a question for a name that may not be looked up: for the sandbox there is no such name.
func (r *Resolver) denied(a asker, q *query, name, why string) *dns.Msg {
	a.count(func(s *Stats) { s.Denied++ })
	a.deny(name, why, r.now())
	return because(q.reply(dns.RcodeNameError), dns.ExtendedErrorCodeProhibited, why)
}

func (r *Resolver) limited(a asker, q *query, why string) *dns.Msg {
	a.count(func(s *Stats) { s.Limited++ })
	return because(q.reply(dns.RcodeRefused), dns.ExtendedErrorCodeProhibited, why)
}
