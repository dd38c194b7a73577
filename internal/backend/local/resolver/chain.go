package resolver

import (
	"errors"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// question is what is asked of a server: a canonical name and a type.
type question struct {
	name string
	typ  uint16
}

// found is what is believed of an answer.
type found struct {
	// rcode is success or that there is no such name.
	rcode   int
	records []dns.RR
	// aliases are the names that the one asked for stands for, in their order.
	aliases []string
	// ttl is how long it holds.
	ttl time.Duration
}

var (
	errAliases = errors.New("the aliases have no end")
	errTwice   = errors.New("a name is an alias of two names")
)

// believe takes out of an answer what is about the question: the aliases from the name on, and the records at their end. All
// else that is in it, nobody asked for.
func believe(m *dns.Msg, q question) (*found, error) {
	f := &found{rcode: m.Rcode, ttl: MaxTTL}
	owner := dns.Fqdn(q.name)
	for {
		alias, err := f.at(m.Answer, owner, q.typ)
		if err != nil {
			return nil, err
		}
		if alias == "" {
			break
		}
		if len(f.aliases) == MaxAliases || alias == dns.Fqdn(q.name) || slices.Contains(f.aliases, alias) {
			return nil, errAliases
		}
		f.aliases = append(f.aliases, alias)
		owner = alias
	}
	if len(f.records) == 0 {
		f.ttl = min(f.ttl, noneTTL(m.Ns, owner))
	}
	return f, nil
}

// at takes the records of one owner, and returns the name that it is an alias of.
func (f *found) at(all []dns.RR, owner string, typ uint16) (alias string, err error) {
	var aliasTTL uint32
	for _, rr := range all {
		h := rr.Header()
		if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != owner {
			continue
		}
		if h.Rrtype == typ {
			if len(f.records) < MaxAddresses {
				f.records = append(f.records, rr)
				f.ttl = min(f.ttl, seconds(h.Ttl))
			}
			continue
		}
		if c, ok := rr.(*dns.CNAME); ok {
			target := dns.CanonicalName(c.Target)
			if alias != "" && alias != target {
				return "", errTwice
			}
			alias, aliasTTL = target, h.Ttl
		}
	}
	if alias == "" || len(f.records) > 0 {
		return "", nil
	}
	f.ttl = min(f.ttl, seconds(aliasTTL))
	return alias, nil
}

// noneTTL returns how long it holds that there is nothing, by what the authority says of itself.
func noneTTL(authority []dns.RR, owner string) time.Duration {
	for _, rr := range authority {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(dns.CanonicalName(soa.Hdr.Name), owner) {
			return min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl), MaxNoneTTL)
		}
	}
	return NoneTTL
}

// seconds returns a time to live. One with the highest bit set is none at all.
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// bytes returns about how much memory what was found takes.
func (f *found) bytes() int {
	n := 0
	for _, rr := range f.records {
		n += dns.Len(rr)
	}
	for _, a := range f.aliases {
		n += len(a)
	}
	return n
}
