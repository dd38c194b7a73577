package egress

import (
	"net/netip"
	"slices"
)

// MaxFacts is how many addresses of a name are told of.
const MaxFacts = 64

// Around is what is known around one sandbox, and of one target: what a decision depends on besides the policy.
type Around struct {
	Site Site
	// Resolvers are the addresses of the sandbox's own resolver.
	Resolvers []netip.Addr
	// Facts are the addresses that the target stands for now, at most MaxFacts: its own; those that the resolver answered for its
	// name; those of the sandbox that it names.
	Facts []Fact
}

// Fact is what is known of one address.
type Fact struct {
	Addr netip.Addr
	// Member is the id of the sandbox of the same scope that has it, Pinned the name that it was answered for; empty when there
	// is none.
	Member, Pinned string
}

// live returns what is known as Live.
func (a *Around) live() Live {
	fact := func(addr netip.Addr) Fact {
		if i := slices.IndexFunc(a.Facts, func(f Fact) bool { return f.Addr == addr }); i >= 0 {
			return a.Facts[i]
		}
		return Fact{}
	}
	return Live{
		Resolver: func(addr netip.Addr) bool { return slices.Contains(a.Resolvers, addr) },
		Member:   func(addr netip.Addr) bool { return fact(addr).Member != "" },
		Pinned:   func(addr netip.Addr) string { return fact(addr).Pinned },
	}
}

// Verdict is what a policy says about a target.
type Verdict string

// The verdicts.
const (
	Allowed Verdict = "allowed"
	Refused Verdict = "denied"
	// Depends: on the address that a name turns out to have, or on what is not known of a sandbox that does not run.
	Depends Verdict = "depends"
)

// Judgement says what a policy makes of a target, and which rules say so.
type Judgement struct {
	Verdict Verdict
	// Rule is the index of the rule that decides, -1 where no rule of the list does.
	Rule int
	Why  string
	// Lookup is set for names, unless a rule closes the port whatever the name.
	Lookup *Lookup
	// Addresses are the known addresses of the target, each with its own decision.
	Addresses []Judged
}

// Judged is the decision about one address.
type Judged struct {
	Fact
	Rule  int
	Allow bool
	// Range is the one of the rule's ranges that the address lies in; not valid for other rules.
	Range netip.Prefix
}

// Judge decides about a target. A nil Around is that of a sandbox that does not run, or that nobody can be asked about: then
// nothing is known that changes while one lives, and of the machine nothing either.
func (p *Policy) Judge(t Target, around *Around) Judgement {
	known := around != nil
	if !known {
		around = &Around{}
	}
	live := around.live()
	if t.Name == "" {
		return p.judgeAddr(t, live, around, known)
	}
	if i := p.closesPort(t); i >= 0 {
		return Judgement{Verdict: Refused, Rule: i, Why: p.Rules[i].Why}
	}
	look := p.Lookup(t.Name)
	j := Judgement{Verdict: Refused, Rule: look.Rule, Why: look.Why, Lookup: &look}
	for _, f := range around.Facts[:min(len(around.Facts), MaxFacts)] {
		j.Addresses = append(j.Addresses, p.judged(t.Destination(f.Addr), live, f))
	}
	reached := slices.ContainsFunc(j.Addresses, func(a Judged) bool { return a.Allow })
	switch {
	case look.Scope && reached:
		j.Verdict, j.Rule, j.Why = Allowed, j.Addresses[0].Rule, p.Rules[j.Addresses[0].Rule].Why
	case look.Scope && !known:
		j.Verdict, j.Why = Depends, look.Why+"; which those are is not known of a sandbox that does not run"
	case look.Allow && (look.Pin || p.Type == Internet):
		j.Verdict = Allowed
	case look.Allow:
		j.Verdict = Depends
	}
	return j
}

func (p *Policy) judgeAddr(t Target, live Live, around *Around, known bool) Judgement {
	f := Fact{Addr: t.Addr}
	if i := slices.IndexFunc(around.Facts, func(f Fact) bool { return f.Addr == t.Addr }); i >= 0 {
		f = around.Facts[i]
	}
	a := p.judged(t.Destination(t.Addr), live, f)
	j := Judgement{Verdict: Refused, Rule: a.Rule, Why: p.Rules[a.Rule].Why, Addresses: []Judged{a}}
	switch {
	case a.Allow:
		j.Verdict = Allowed
	case !known && p.Rules[a.Rule].Kind == KindAny && p.named():
		j.Verdict, j.Why = Depends, "reached only once the resolver answered a listed name with it, which is not known of a sandbox that does not run"
	case !known && p.Rules[a.Rule].Kind == KindAny && p.Type.Scoped():
		j.Verdict, j.Why = Depends, j.Why+"; which those are is not known of a sandbox that does not run"
	}
	return j
}

func (p *Policy) judged(d Destination, live Live, f Fact) Judged {
	i := p.Decide(d, live)
	j := Judged{Fact: f, Rule: i, Allow: p.Rules[i].Allow}
	if at := slices.IndexFunc(p.Rules[i].Ranges, func(r netip.Prefix) bool { return r.Contains(d.Addr.Unmap()) }); at >= 0 {
		j.Range = p.Rules[i].Ranges[at]
	}
	return j
}

// closesPort returns the index of a rule that closes a port or protocol whatever the address, -1 for none.
func (p *Policy) closesPort(t Target) int {
	return slices.IndexFunc(p.Rules, func(r Rule) bool {
		return (r.Kind == KindPorts || r.Kind == KindProtocols) && r.matches(t.Destination(netip.Addr{}), Live{})
	})
}
