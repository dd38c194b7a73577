package egress

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// judged says what is made of a target: "denied metadata 169.254.169.254/32".
func judged(t testing.TB, p *Policy, text string, around *Around) string {
	t.Helper()
	target, err := ParseTarget(text)
	if err != nil {
		t.Fatal(err)
	}
	j := p.Judge(target, around)
	if j.Why == "" {
		t.Errorf("%s: no reason: %+v", text, j)
	}
	out := string(j.Verdict)
	if j.Rule >= 0 {
		r := p.Rules[j.Rule]
		out += " " + strings.TrimPrefix(string(r.Kind)+" "+string(r.Class), "ranges ")
		out = strings.TrimSuffix(out, " ")
		if r.Path != "" {
			out += " " + strings.TrimPrefix(r.Path, Field)
		}
	}
	for _, a := range j.Addresses {
		out += fmt.Sprintf(" [%s %v", a.Addr, a.Allow)
		if a.Range.IsValid() {
			out += " " + a.Range.String()
		}
		out += strings.TrimRight(" "+a.Member+a.Pinned, " ") + "]"
	}
	return out
}

func TestJudge(t *testing.T) {
	addr := netip.MustParseAddr
	site := home()
	around := func(facts ...Fact) *Around {
		return &Around{Site: site, Resolvers: []netip.Addr{addr("198.18.0.1")}, Facts: facts}
	}
	internet := mustCompile(t, &specpb.EgressMode{Type: "internet"}, site)
	named := mustCompile(t, &specpb.EgressMode{Type: "allowlist", DnsNames: []string{"pypi.org", "*.x.example"}, Cidrs: []string{"10.0.0.0/8"}}, site)
	ranged := mustCompile(t, &specpb.EgressMode{Type: "allowlist", Cidrs: []string{"1.0.0.0/8"}}, site)
	user := mustCompile(t, &specpb.EgressMode{Type: "user"}, site)
	none := mustCompile(t, nil, site)
	pinned, member := Fact{Addr: addr("1.1.1.1"), Pinned: "pypi.org"}, Fact{Addr: addr("198.18.0.9"), Member: "sb-2"}
	for _, c := range []struct {
		p      *Policy
		target string
		around *Around
		want   string
	}{
		{internet, "1.1.1.1", around(), `allowed any ["m"].type [1.1.1.1 true]`},
		{internet, "0xa9fea9fe", around(), "denied metadata [169.254.169.254 false 169.254.169.254/32]"},
		{internet, "64:ff9b::a9fe:a9fe", around(), "denied translated [64:ff9b::a9fe:a9fe false 64:ff9b::a9fe:a9fe/128]"},
		{internet, "192.168.1.10", around(), "denied machine [192.168.1.10 false 192.168.1.10/32]"},
		{internet, "198.18.0.1:53", around(), "allowed resolver [198.18.0.1 true]"}, {internet, "8.8.8.8:53", around(), "denied ports [8.8.8.8 false]"},
		{internet, "pypi.org", around(), `allowed any ["m"].type`}, {internet, "pypi.org:853", around(), "denied ports"}, {internet, "metadata.google.internal", around(), "denied"},
		{named, "https://pypi.org/", around(), `allowed name ["m"].dnsNames[0]`}, {named, "pypi.org", around(pinned), `allowed name ["m"].dnsNames[0] [1.1.1.1 true pypi.org]`},
		{named, "evil.org", around(), `denied any ["m"]`}, {named, "a.x.example:53", around(), "denied ports"},
		{named, "1.1.1.1", around(pinned), `allowed name ["m"].dnsNames[0] [1.1.1.1 true pypi.org]`}, {named, "1.1.1.1", around(), `denied any ["m"] [1.1.1.1 false]`},
		{named, "1.1.1.1", nil, `depends any ["m"] [1.1.1.1 false]`}, {named, "pypi.org", nil, `allowed name ["m"].dnsNames[0]`},
		{named, "10.1.2.3", nil, `allowed private ["m"].cidrs[0] [10.1.2.3 true 10.0.0.0/8]`}, {named, "192.168.7.7", nil, "denied private [192.168.7.7 false 192.168.0.0/16]"},
		{ranged, "any.example", around(), "depends"}, {ranged, "1.2.3.4", nil, `allowed ["m"].cidrs[0] [1.2.3.4 true 1.0.0.0/8]`}, {ranged, "2.2.2.2", nil, `denied any ["m"] [2.2.2.2 false]`},
		{user, "sb-2", around(member), `allowed scope ["m"].type [198.18.0.9 true sb-2]`}, {user, "sb-3", around(), `denied any ["m"].type`}, {user, "sb-2", nil, `depends any ["m"].type`},
		{user, "198.18.0.9:80", around(member), `allowed scope ["m"].type [198.18.0.9 true sb-2]`}, {user, "198.18.0.9", nil, `depends any ["m"].type [198.18.0.9 false]`},
		{user, "1.1.1.1", around(), `denied any ["m"].type [1.1.1.1 false]`},
		{none, "pypi.org", nil, `denied any ["m"].type`}, {none, "1.1.1.1", around(), `denied any ["m"].type [1.1.1.1 false]`},
	} {
		if got := judged(t, c.p, c.target, c.around); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.p.Type, c.target, got, c.want)
		}
	}
}

// TestJudgeDecides: what is told of an address is what is enforced.
func TestJudgeDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := compileDrawn(t, drawMode(t), drawSite(t))
		d := drawDestination(t)
		a := d.Addr.Unmap()
		around := &Around{}
		if rapid.Bool().Draw(t, "pinned") {
			around.Facts = []Fact{{Addr: a, Pinned: "pypi.org"}}
		}
		target := Target{Addr: a, Port: d.Port, Protocol: d.Protocol}
		j := p.Judge(target, around)
		if i := p.Decide(d, around.live()); j.Rule != i || (j.Verdict == Allowed) != p.Rules[i].Allow || j.Verdict == Depends {
			t.Fatalf("%+v: judged %+v, decided by %+v", d, j, p.Rules[i])
		}
		// Without what is known, nothing is promised that does not hold, as far as the machine is the same.
		if blind := p.Judge(target, nil); blind.Verdict == Allowed && j.Verdict != Allowed {
			t.Fatalf("%+v: blind %+v, judged %+v", d, blind, j)
		}
	})
}
