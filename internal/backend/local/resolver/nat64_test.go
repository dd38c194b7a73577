package resolver

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// TestTranslators: a server that makes IPv6 addresses out of IPv4 ones tells of its translator; one that does not, that there is none; and one
// that says nothing, nothing.
func TestTranslators(t *testing.T) {
	o := newOutside(t)
	ask, err := Translators(Config{Servers: []netip.AddrPort{o.at}})
	if err != nil {
		t.Fatal(err)
	}
	told := func() string {
		t.Helper()
		list, err := ask(t.Context())
		if err != nil {
			return "no answer"
		}
		return fmt.Sprint(list)
	}
	equal(t, "no such name", told(), "[]")
	o.has(t, "ipv4only.arpa. 60 A 192.0.0.170", "ipv4only.arpa. 60 A 192.0.0.171")
	equal(t, "no such address", told(), "[]")
	o.has(t, "ipv4only.arpa. 60 AAAA 2a01:4f8:122:344::192.0.0.170", "ipv4only.arpa. 60 AAAA 64:ff9b::192.0.0.171", "ipv4only.arpa. 60 AAAA 2a01:4f9:c000:aa::")
	equal(t, "translators", told(), "[2a01:4f8:122:344::/96 2a01:4f9::/32]")
	o.handle(func(_ string, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure) })
	equal(t, "a failure", told(), "no answer")
	if asked := o.questions(); !slices.Contains(asked, "udp ipv4only.arpa. AAAA") {
		t.Errorf("asked %q", asked)
	}
	if _, err := Translators(Config{Servers: []netip.AddrPort{{}}}); err == nil {
		t.Error("a server that makes no sense was taken")
	}
}
