package podguard_test

import (
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/podguard"
)

// TestParse: what is written is what is read, and what is not understood is refused.
func TestParse(t *testing.T) {
	good := []string{
		"allow resolver", "refuse ports 53 853", "refuse protocols", "refuse node", "refuse link", "allow any", "allow inbound-tcp 8080 9090", "allow inbound-udp 53",
		"refuse ranges:link-local 169.254.0.0/16 fe80::/10", "allow ranges 198.51.100.0/24", "refuse ranges:special ::ffff:0.0.0.0/96",
	}
	rules, err := podguard.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rules {
		if r.String() != good[i] {
			t.Errorf("%q became %q", good[i], r)
		}
	}
	for _, bad := range []string{
		"", "allow", "permit any", "allow everything", "allow any 1", "allow ranges", "allow ranges 10.0.0.1", "allow ranges 10.0.0.1/8",
		"refuse inbound-tcp 80", "allow inbound-tcp", "allow inbound-udp 0", "refuse ports", "refuse ports 0", "refuse ports 65536", "refuse ports x", "allow  any", "allow any ", "allow ranges 10.0.0.0/8  11.0.0.0/8", "Allow any",
		"allow ranges " + strings.Repeat("10.0.0.0/8 ", podguard.MaxItems) + "10.0.0.0/8",
	} {
		if rules, err := podguard.Parse([]string{bad}); err == nil {
			t.Errorf("%.40q became %v", bad, rules)
		}
	}
	if _, err := podguard.Parse(nil); err == nil {
		t.Error("no rules are rules")
	}
	if _, err := podguard.Parse(make([]string, podguard.MaxRules+1)); err == nil {
		t.Error("there may be any number of rules")
	}
}
