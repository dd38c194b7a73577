package egress

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// interesting are addresses at and around the edges of what is closed; the rest is random.
func interesting() []string {
	return []string{
		"169.254.169.254", "169.254.169.253", "fd00:ec2::254", "168.63.129.16", "100.100.100.200", "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0",
		"127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "100.64.0.0", "100.63.255.255", "172.15.255.255", "172.16.0.0", "172.32.0.0",
		"192.168.1.10", "192.168.1.11", "198.18.0.5", "198.20.0.1", "::1", "::", "fe80::1", "fc00::", "fbff:ffff::", "2a02:8109:1::10", "2a02:8109:1::11", "2002::1",
		"64:ff9b::1.1.1.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "2001::1", "2001:db8::1", "ff02::1", "1.1.1.1", "2606:4700::1",
	}
}

func drawAddr(t *rapid.T) netip.Addr {
	switch rapid.IntRange(0, 3).Draw(t, "sort") {
	case 0:
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
	case 1:
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6"))).Unmap()
	default:
		return netip.MustParseAddr(rapid.SampledFrom(interesting()).Draw(t, "edge"))
	}
}

func drawRange(t *rapid.T) netip.Prefix {
	a := drawAddr(t)
	bits := rapid.IntRange(0, a.BitLen()).Draw(t, "bits")
	p, err := a.Prefix(bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func drawRanges(t *rapid.T, label string, most int) []netip.Prefix {
	n := rapid.IntRange(0, most).Draw(t, label)
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = drawRange(t)
	}
	return out
}

func drawSite(t *rapid.T) Site {
	s := Site{Denied: drawRanges(t, "denied", 2), OnLink: drawRanges(t, "on link", 2), Sandboxes: home().Sandboxes}
	for _, p := range append(drawRanges(t, "machine", 2), home().Machine...) {
		s.Machine = append(s.Machine, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
	}
	return s
}

func drawMode(t *rapid.T) *specpb.EgressMode {
	m := &specpb.EgressMode{Type: string(rapid.SampledFrom(Types()).Draw(t, "type"))}
	if m.GetType() != string(Allowlist) {
		return m
	}
	for _, r := range drawRanges(t, "cidrs", 6) {
		m.Cidrs = append(m.Cidrs, r.String())
	}
	m.DnsNames = rapid.SliceOfN(rapid.SampledFrom([]string{"pypi.org", "*.allowed.example", "a.b.example"}), 0, 2).Draw(t, "names")
	return m
}

func drawDestination(t *rapid.T) Destination {
	return Destination{
		Addr: drawAddr(t), Port: rapid.SampledFrom([]uint16{0, 53, 80, 443, 853}).Draw(t, "port"),
		Protocol: rapid.SampledFrom([]Protocol{TCP, UDP, Echo, Other}).Draw(t, "protocol"),
	}
}

func compileDrawn(t *rapid.T, m *specpb.EgressMode, s Site) *Policy {
	p, err := Compile("m", m, s)
	if err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	return p
}

func allows(p *Policy, d Destination, live Live) bool { return p.Rules[p.Decide(d, live)].Allow }

// TestNarrowing: closing more, and listing less, never admits what was not admitted before.
func TestNarrowing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mode, site := drawMode(t), drawSite(t)
		pinned := rapid.Bool().Draw(t, "pinned")
		live := Live{Pinned: func(netip.Addr) string {
			if pinned {
				return "pypi.org"
			}
			return ""
		}}
		tighter := Site{
			Denied: slices.Concat(site.Denied, drawRanges(t, "more denied", 2)), Machine: slices.Concat(site.Machine, prefixes("1.1.1.1/32")),
			OnLink: slices.Concat(site.OnLink, drawRanges(t, "more on link", 3)), Sandboxes: slices.Concat(site.Sandboxes, prefixes("9.0.0.0/8")),
		}
		less := &specpb.EgressMode{Type: mode.GetType(), Cidrs: mode.GetCidrs()[:len(mode.GetCidrs())/2]}
		if len(mode.GetDnsNames()) > 0 { // Without any name, all would be looked up.
			less.DnsNames = mode.GetDnsNames()[:1]
		}
		wide, d := compileDrawn(t, mode, site), drawDestination(t)
		for what, narrow := range map[string]*Policy{"closing more": compileDrawn(t, mode, tighter), "listing less": compileDrawn(t, less, site)} {
			if allows(narrow, d, live) && !allows(wide, d, live) {
				t.Fatalf("%s admits %+v", what, d)
			}
			if pin := wide.named(); narrow.Answers(d.Addr, pin) && !wide.Answers(d.Addr, pin) {
				t.Fatalf("%s answers %+v", what, d)
			}
		}
		everything := compileDrawn(t, &specpb.EgressMode{Type: "allowlist", Cidrs: []string{"0.0.0.0/0", "::/0"}}, site)
		internet := compileDrawn(t, &specpb.EgressMode{Type: "internet"}, site)
		if allows(everything, d, Live{}) != allows(internet, d, Live{}) {
			t.Fatalf("listing everything and the internet differ about %+v", d)
		}
	})
}

// TestNeverOpened: whatever is listed, some destinations stay closed.
func TestNeverOpened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mode, site, d := drawMode(t), drawSite(t), drawDestination(t)
		p := compileDrawn(t, mode, site)
		if !allows(p, d, Live{Pinned: func(netip.Addr) string { return "pypi.org" }}) {
			return
		}
		for _, c := range Closures(site) {
			hit := slices.ContainsFunc(c.Ranges, func(r netip.Prefix) bool { return r.Contains(d.Addr.Unmap()) })
			if !hit {
				continue
			}
			if !c.Opens {
				t.Fatalf("%+v is admitted and is %s", d, c.Why)
			}
			opener := slices.ContainsFunc(mode.GetCidrs(), func(text string) bool {
				r := netip.MustParsePrefix(text)
				return r.Contains(d.Addr.Unmap()) && inside(r, c.Ranges)
			})
			if !opener {
				t.Fatalf("%+v is admitted, is %s, and no range inside that was listed: %v", d, c.Why, mode.GetCidrs())
			}
			return // An earlier class was opened by a range that lies inside it: it says more than a later one.
		}
	})
}

// TestOpened: the sets that a backend enforces are what the rules say, address by address.
func TestOpened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mode, site := drawMode(t), drawSite(t)
		p := compileDrawn(t, mode, site)
		machine, rest := p.Opened()
		for range 8 {
			a := drawAddr(t).Unmap()
			r := p.Rules[p.Decide(Destination{Addr: a, Port: 443, Protocol: TCP}, Live{})]
			want := r.Allow && r.Kind == KindRanges
			if got := machine.Contains(a) || rest.Contains(a); got != want {
				t.Fatalf("%s: in the sets: %v, by the rules: %+v", a, got, r)
			}
			if machine.Contains(a) != (want && r.Class == ClassMachine) {
				t.Fatalf("%s: as the machine's: %v, by the rules: %+v", a, machine.Contains(a), r)
			}
		}
	})
}

// TestTotal: every destination is decided, and every name.
func TestTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := compileDrawn(t, drawMode(t), drawSite(t))
		d := drawDestination(t)
		if i := p.Decide(d, Live{}); i < 0 || p.Rules[i].Why == "" {
			t.Fatalf("%+v: rule %d", d, i)
		}
		name, ok := CanonicalName(rapid.StringMatching(`[A-Za-z0-9_.-]{0,40}`).Draw(t, "name"))
		if !ok {
			return
		}
		if l := p.Lookup(name); l.Why == "" || l.Rule >= len(p.Rules) {
			t.Fatalf("%s: %+v", name, l)
		}
		if p.Lookup(name).Pin && !p.Lookup(name).Allow {
			t.Fatalf("%s is pinned and not allowed", name)
		}
	})
}

// TestRebinding: no answer is given that could not be reached, and none that is closed.
func TestRebinding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, a := compileDrawn(t, drawMode(t), drawSite(t)), drawAddr(t)
		pin := p.named() && rapid.Bool().Draw(t, "pin")
		live := Live{Pinned: func(netip.Addr) string {
			if !pin {
				return ""
			}
			for _, r := range p.Rules {
				if r.Kind == KindName && r.Name[0] != '*' {
					return r.Name
				}
			}
			return "x.allowed.example"
		}}
		if got, want := p.Answers(a, pin), allows(p, Destination{Addr: a, Port: 443, Protocol: TCP}, live); got != want {
			t.Fatalf("%s answered: %v, reached: %v", a, got, want)
		}
	})
}
