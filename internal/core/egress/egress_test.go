package egress

import (
	"net/netip"
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// home is a machine at home: a private IPv4 network, and a global IPv6 one.
func home() Site {
	return Site{
		Machine:   prefixes("192.168.1.10/32", "2a02:8109:1::10/128"),
		OnLink:    prefixes("192.168.1.0/24", "2a02:8109:1::/64"),
		Sandboxes: prefixes("198.18.0.0/15", "fd62:6572:6d00::/48"),
	}
}

func mustCompile(t testing.TB, mode *specpb.EgressMode, site Site) *Policy {
	t.Helper()
	p, err := Compile("m", mode, site)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// decide returns "allow" or "deny" with the class of the rule, or its item, that decided.
func decide(p *Policy, text string, live Live) string {
	d := Destination{Protocol: TCP, Port: 443}
	if addr, err := netip.ParseAddr(text); err == nil {
		d.Addr = addr
	} else {
		ap := netip.MustParseAddrPort(text)
		d.Addr, d.Port = ap.Addr(), ap.Port()
	}
	r := p.Rules[p.Decide(d, live)]
	verdict := "deny"
	if r.Allow {
		verdict = "allow"
	}
	what := string(r.Class)
	switch {
	case r.Path != "" && r.Kind != KindAny:
		what = strings.TrimPrefix(r.Path, Field+`["m"].`)
	case what == "":
		what = string(r.Kind)
	}
	return verdict + " " + what
}

func TestInternet(t *testing.T) {
	site := home()
	site.Denied = prefixes("93.184.215.0/24")
	p := mustCompile(t, &specpb.EgressMode{Type: "internet"}, site)
	for addr, want := range map[string]string{
		"1.1.1.1": "allow any", "2606:4700::1": "allow any", "140.82.112.3": "allow any",
		// Metadata, in every spelling that leaves a machine.
		"169.254.169.254": "deny metadata", "fd00:ec2::254": "deny metadata", "168.63.129.16": "deny metadata", "100.100.100.200": "deny metadata",
		"::ffff:169.254.169.254": "deny metadata", "64:ff9b::a9fe:a9fe": "deny translated", "64:ff9b:1::a9fe:a9fe": "deny special",
		"2002:a9fe:a9fe::1": "deny special", "2001:0:a9fe:a9fe::1": "deny special", "::a9fe:a9fe": "deny special", "::ffff:0:a9fe:a9fe": "deny special",
		"169.254.170.2": "deny metadata", "fe80::a9fe:a9fe": "deny metadata", "169.254.1.2": "deny link-local", "fe80::1": "deny link-local", "fe80::1%eth0": "deny link-local",
		// Private and shared networks, and what is special.
		"10.0.0.1": "deny private", "172.31.255.255": "deny private", "192.168.2.1": "deny private", "100.64.0.1": "deny private", "fd12::1": "deny private",
		"192.0.2.1": "deny private", "198.51.100.7": "deny private", "203.0.113.9": "deny private",
		"127.0.0.1": "deny special", "127.1.2.3": "deny special", "0.0.0.0": "deny special", "::1": "deny special", "::": "deny special",
		"224.0.0.251": "deny special", "255.255.255.255": "deny special", "ff02::1": "deny special",
		// The machine, its networks, its neighbours, and what its owner closed.
		"192.168.1.10": "deny machine", "2a02:8109:1::10": "deny machine", "192.168.1.11": "deny private", "2a02:8109:1::11": "deny on-link",
		"2a02:8109:2::11": "allow any", "198.18.0.5": "deny sandboxes", "fd62:6572:6d00::5": "deny sandboxes", "93.184.215.14": "deny denied",
		// A translator maps public addresses too: those are how an IPv6-only machine reaches them.
		"64:ff9b::1.1.1.1": "allow any", "64:ff9b::10.0.0.1": "deny translated", "64:ff9b::127.0.0.1": "deny translated",
		"64:ff9b::192.168.1.10": "deny translated", "64:ff9b::93.184.215.14": "deny translated",
		// Other resolvers.
		"8.8.8.8:53": "deny ports", "8.8.8.8:853": "deny ports", "[2001:4860:4860::8888]:53": "deny ports",
	} {
		if got := decide(p, addr, Live{}); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if r := p.Rules[p.Decide(Destination{Addr: netip.MustParseAddr("1.1.1.1"), Protocol: Other}, Live{})]; r.Allow || r.Kind != KindProtocols {
		t.Errorf("another protocol: %+v", r)
	}
}

func TestAllowlist(t *testing.T) {
	p := mustCompile(t, &specpb.EgressMode{Type: "allowlist", Cidrs: []string{
		"0.0.0.0/0", "10.0.0.0/8", "169.254.0.0/16", "192.168.1.10/32", "192.168.0.0/16", "::/0", "198.18.0.0/16", "127.0.0.0/8", "fd00::/8",
	}}, home())
	for addr, want := range map[string]string{
		"1.1.1.1": "allow cidrs[0]", "10.1.2.3": "allow cidrs[1]", "2606:4700::1": "allow cidrs[5]",
		// Everything is listed, and that opens nothing that is closed: only a range inside does.
		"172.16.0.1": "deny private", "100.64.1.1": "deny private", "2a02:8109:1::11": "deny on-link",
		"169.254.1.1": "allow cidrs[2]", "169.254.169.254": "deny metadata",
		"192.168.1.10": "allow cidrs[3]", "192.168.1.11": "allow cidrs[4]", "2a02:8109:1::10": "deny machine",
		// What is never opened.
		"198.18.0.5": "deny sandboxes", "127.0.0.1": "deny special", "64:ff9b::10.0.0.1": "deny translated", "fd62:6572:6d00::5": "deny sandboxes",
		"fd12::1": "allow cidrs[8]", "fd00:ec2::254": "deny metadata",
		"8.8.8.8:53": "deny ports",
	} {
		if got := decide(p, addr, Live{}); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	exact := mustCompile(t, &specpb.EgressMode{Type: "allowlist", Cidrs: []string{"169.254.169.254/32", "198.51.100.0/24"}}, home())
	for addr, want := range map[string]string{
		"169.254.169.254": "allow cidrs[0]", "198.51.100.7": "allow cidrs[1]", "1.1.1.1": "deny any", "203.0.113.1": "deny private", "64:ff9b::a9fe:a9fe": "deny translated",
	} {
		if got := decide(exact, addr, Live{}); got != want {
			t.Errorf("exact: %s: %s, want %s", addr, got, want)
		}
	}
}

func TestScope(t *testing.T) {
	neighbour := netip.MustParseAddr("198.18.0.9")
	for _, typ := range []Type{User, Org, Profile} {
		p := mustCompile(t, &specpb.EgressMode{Type: string(typ)}, home())
		live := Live{Member: func(a netip.Addr) bool { return a == neighbour }}
		for addr, want := range map[string]string{
			"198.18.0.9": `allow type`, "198.18.0.10": "deny any", "1.1.1.1": "deny any", "10.0.0.1": "deny any", "192.168.1.10": "deny any", "198.18.0.9:53": "deny ports",
		} {
			if got := decide(p, addr, live); got != want {
				t.Errorf("%s: %s: %s, want %s", typ, addr, got, want)
			}
		}
	}
}

func TestNone(t *testing.T) {
	for _, mode := range []*specpb.EgressMode{nil, {}, {Type: "none"}} {
		p := mustCompile(t, mode, Site{})
		if got := decide(p, "1.1.1.1", Live{}); got != "deny any" || p.Type != None {
			t.Errorf("%v: %s", mode, got)
		}
		if l := p.Lookup("pypi.org"); l.Allow {
			t.Errorf("%v: %+v", mode, l)
		}
	}
}

func TestResolver(t *testing.T) {
	p := mustCompile(t, &specpb.EgressMode{Type: "internet"}, home())
	live := Live{Resolver: func(a netip.Addr) bool { return a == netip.MustParseAddr("198.18.0.1") }}
	for addr, want := range map[string]string{"198.18.0.1:53": "allow resolver", "198.18.0.1:853": "deny ports", "198.18.0.1:80": "deny sandboxes"} {
		if got := decide(p, addr, live); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, mode := range []*specpb.EgressMode{
		{Type: "everything"}, {Type: "allowlist", Cidrs: []string{"10.0.0.0/33"}}, {Type: "allowlist", Cidrs: []string{"::ffff:10.0.0.0/104"}},
		{Type: "allowlist", DnsNames: []string{"*.*.example"}}, {Type: "allowlist", DnsNames: []string{""}},
	} {
		if p, err := Compile("m", mode, Site{}); err == nil {
			t.Errorf("%v: %+v", mode, p)
		}
	}
}

func TestSelected(t *testing.T) {
	one := &specpb.EgressMode{Type: "internet"}
	modes := map[string]*specpb.EgressMode{"one": one}
	name, other := "one", "other"
	for _, c := range []struct {
		e    *specpb.Egress
		name string
		mode *specpb.EgressMode
	}{
		{nil, "", nil}, {&specpb.Egress{Modes: modes}, "", nil}, {&specpb.Egress{Modes: modes, Default: &name}, "one", one},
		{&specpb.Egress{Modes: modes, Default: &other, Selected: &name}, "one", one}, {&specpb.Egress{Modes: modes, Selected: &other}, "other", nil},
	} {
		if n, m := Selected(c.e); n != c.name || m != c.mode {
			t.Errorf("%v: %q %v", c.e, n, m)
		}
	}
}
