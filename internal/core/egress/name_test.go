package egress

import (
	"net/netip"
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

func TestCanonicalName(t *testing.T) {
	long := strings.Repeat("a", 63)
	for in, want := range map[string]string{
		"PyPI.org": "pypi.org", "pypi.org.": "pypi.org", "_dmarc.Example.com": "_dmarc.example.com", "xn--bcher-kva.example": "xn--bcher-kva.example",
		long + ".example": long + ".example", "a": "a",
		// No names.
		"": "", ".": "", "..": "", "a..b": "", ".a": "", "a.b..": "", "bücher.example": "", "a b": "", "a/b": "", `a\.b`: "", long + "a.example": "", "*.example": "",
		strings.Repeat("a.", 128): "", "a\x00b": "", "\u212Aelvin.example": "",
	} {
		if got, ok := CanonicalName(in); got != want || ok != (want != "") {
			t.Errorf("%q: %q %v, want %q", in, got, ok, want)
		}
	}
}

func TestLookup(t *testing.T) {
	named := &specpb.EgressMode{Type: "allowlist", DnsNames: []string{"pypi.org", "*.allowed.example"}, Cidrs: []string{"10.0.0.0/8"}}
	ranged := &specpb.EgressMode{Type: "allowlist", Cidrs: []string{"198.51.100.0/24"}}
	for _, c := range []struct {
		mode *specpb.EgressMode
		name string
		want string
	}{
		{named, "pypi.org", "pin"}, {named, "files.allowed.example", "pin"}, {named, "a.b.c.allowed.example", "pin"}, {named, "_x.allowed.example", "pin"},
		{named, "allowed.example", "no"}, {named, "evil-allowed.example", "no"}, {named, "allowed.example.evil", "no"}, {named, "xallowed.example", "no"},
		{named, "pypi.org.evil.example", "no"}, {named, "www.pypi.org", "no"}, {named, "localhost", "no"}, {named, "xn--pypi-xyz.org", "no"},
		{ranged, "anything.example", "yes"}, {ranged, "printer.local", "no"}, {ranged, "vault", "no"}, {ranged, "vault.corp.internal", "no"},
		{ranged, strings.Repeat("a.", 60) + "example.org", "no"},
		{&specpb.EgressMode{Type: "allowlist"}, "pypi.org", "no"},
		{&specpb.EgressMode{Type: "internet"}, "pypi.org", "yes"}, {&specpb.EgressMode{Type: "internet"}, "metadata.google.internal", "no"},
		{&specpb.EgressMode{Type: "internet"}, strings.Repeat("a.", 60) + "example.org", "yes"},
		{&specpb.EgressMode{Type: "user"}, "pypi.org", "scope"}, {&specpb.EgressMode{Type: "none"}, "pypi.org", "no"},
		{&specpb.EgressMode{Type: "allowlist", DnsNames: []string{"vault.corp.internal"}}, "vault.corp.internal", "pin"},
	} {
		l := mustCompile(t, c.mode, home()).Lookup(c.name)
		got := "no"
		switch {
		case l.Scope:
			got = "scope"
		case l.Allow && l.Pin:
			got = "pin"
		case l.Allow:
			got = "yes"
		}
		if got != c.want || l.Why == "" {
			t.Errorf("%v: %s: %s (%s), want %s", c.mode, c.name, got, l.Why, c.want)
		}
	}
}

// TestAnswers: an answer is an address that can be reached once it was given.
func TestAnswers(t *testing.T) {
	internet := mustCompile(t, &specpb.EgressMode{Type: "internet"}, home())
	ranged := mustCompile(t, &specpb.EgressMode{Type: "allowlist", Cidrs: []string{"198.51.100.0/24"}}, home())
	named := mustCompile(t, &specpb.EgressMode{Type: "allowlist", DnsNames: []string{"pypi.org"}, Cidrs: []string{"10.0.0.0/8"}}, home())
	for _, c := range []struct {
		p    *Policy
		addr string
		pin  bool
		want bool
	}{
		{internet, "1.1.1.1", false, true}, {internet, "10.0.0.1", false, false}, {internet, "::ffff:1.1.1.1", false, false}, {internet, "169.254.169.254", false, false},
		{internet, "192.168.1.10", false, false}, {internet, "64:ff9b::10.0.0.1", false, false},
		{ranged, "198.51.100.7", false, true}, {ranged, "1.1.1.1", false, false},
		{named, "1.1.1.1", true, true}, {named, "10.0.0.1", true, true}, {named, "192.168.7.7", true, false}, {named, "127.0.0.1", true, false},
		{named, "198.18.0.4", true, false}, {named, "2a02:8109:1::10", true, false},
	} {
		if got := c.p.Answers(netip.MustParseAddr(c.addr), c.pin); got != c.want {
			t.Errorf("%s %s: %v", c.p.Type, c.addr, got)
		}
	}
}
