package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
)

// Compile returns the policy of a mode on a site. Errors are a type that does not exist, and a range or name that has no meaning: the spec's
// own checks refuse both when they are written.
func Compile(name string, mode *specpb.EgressMode, site Site) (*Policy, error) {
	p := &Policy{Mode: name, Type: Type(mode.GetType())}
	if p.Type == "" {
		p.Type = None
	}
	if !slices.Contains(Types(), p.Type) {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "egress mode %q is of type %.40q, which does not exist", name, mode.GetType())
	}
	if p.Type == None {
		p.Rules = []Rule{{Kind: KindAny, Path: p.path(".type"), Why: "the mode has no network: there is no interface, and no resolver"}}
		return p, nil
	}
	p.Rules = append(p.Rules,
		Rule{Allow: true, Kind: KindResolver, Why: "names are looked up at the sandbox's own resolver"},
		Rule{Kind: KindPorts, Ports: []uint16{PortDNS, PortDNSOverTLS}, Why: "no other resolver may be asked: answers of others are held to nothing"},
		Rule{Kind: KindProtocols, Why: "TCP, UDP and echo requests are let through, other protocols are not"},
	)
	switch p.Type {
	case Internet:
		p.internet(site)
	case Allowlist:
		return p, p.allowlist(mode, site)
	default:
		p.Rules = append(p.Rules,
			Rule{Allow: true, Kind: KindScope, Path: p.path(".type"), Why: "sandboxes of the same " + p.scope() + " on this runner"},
			Rule{Kind: KindAny, Path: p.path(".type"), Why: "the mode reaches sandboxes of the same " + p.scope() + " alone"})
	}
	return p, nil
}

// Ports of name services. The second is that over TLS and over QUIC.
const (
	PortDNS        = 53
	PortDNSOverTLS = 853
)

func (p *Policy) path(item string) string { return fmt.Sprintf("%s[%q]%s", Field, p.Mode, item) }

func (p *Policy) scope() string {
	if p.Type == Org {
		return "organization"
	}
	return string(p.Type)
}

func (p *Policy) internet(site Site) {
	for _, c := range Closures(site) {
		p.close(c)
	}
	p.Rules = append(p.Rules, Rule{Allow: true, Kind: KindAny, Path: p.path(".type"), Why: "the public internet"})
}

func (p *Policy) close(c Closed) {
	if len(c.Ranges) > 0 {
		p.Rules = append(p.Rules, Rule{Kind: KindRanges, Class: c.Class, Ranges: c.Ranges, Why: c.Why})
	}
}

// allowlist puts each range where it opens something: before the class that it lies in, or behind them all.
func (p *Policy) allowlist(mode *specpb.EgressMode, site Site) error {
	cidrs, err := p.ranges(mode.GetCidrs())
	if err != nil {
		return err
	}
	names, err := p.names(mode.GetDnsNames())
	if err != nil {
		return err
	}
	closures := Closures(site)
	for _, c := range closures {
		if !c.Opens {
			p.close(c)
			continue
		}
		within := func(r Rule) bool { return inside(r.Ranges[0], c.Ranges) }
		for _, r := range cidrs {
			if within(r) {
				r.Class = c.Class
				p.Rules = append(p.Rules, r)
			}
		}
		cidrs = slices.DeleteFunc(cidrs, within)
		p.close(c)
	}
	p.Rules = slices.Concat(p.Rules, cidrs, names)
	p.Rules = append(p.Rules, Rule{Kind: KindAny, Path: p.path(""), Why: "the allowlist does not list it"})
	return nil
}

func (p *Policy) ranges(cidrs []string) ([]Rule, error) {
	out := make([]Rule, len(cidrs))
	for i, text := range cidrs {
		r, err := netip.ParsePrefix(text)
		if err != nil || r.Addr().Is4In6() {
			return nil, fault.Invalidf(fault.ReasonInvalidRequest, "egress mode %q: %.60q is no range of addresses", p.Mode, text)
		}
		out[i] = Rule{Allow: true, Kind: KindRanges, Ranges: []netip.Prefix{r.Masked()}, Path: p.path(fmt.Sprintf(".cidrs[%d]", i)), Why: "listed: " + r.Masked().String()}
	}
	return out, nil
}

func (p *Policy) names(patterns []string) ([]Rule, error) {
	out := make([]Rule, len(patterns))
	for i, text := range patterns {
		name, ok := CanonicalName(strings.TrimPrefix(text, "*."))
		if !ok {
			return nil, fault.Invalidf(fault.ReasonInvalidRequest, "egress mode %q: %.60q is no name", p.Mode, text)
		}
		if strings.HasPrefix(text, "*.") {
			name = "*." + name
		}
		out[i] = Rule{Allow: true, Kind: KindName, Name: name, Path: p.path(fmt.Sprintf(".dnsNames[%d]", i)), Why: "listed: " + name}
	}
	return out, nil
}

// inside reports whether a range lies inside one of others.
func inside(r netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, func(o netip.Prefix) bool {
		return o.Addr().Is4() == r.Addr().Is4() && o.Bits() <= r.Bits() && o.Contains(r.Addr())
	})
}
