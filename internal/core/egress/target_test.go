package egress

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"pypi.org": "pypi.org 0 tcp", "PyPI.org.:443": "pypi.org 443 tcp", "  pypi.org ": "pypi.org 0 tcp", "_x.y_z.example:1": "_x.y_z.example 1 tcp",
		"https://pypi.org/simple": "pypi.org 443 tcp", "HTTP://x.example:8080/a?b#c": "x.example 8080 tcp", "udp://x.example:53": "x.example 53 udp", "icmp://10.0.0.1": "10.0.0.1 0 icmp-echo",
		"gopher://x.example": "x.example 0 tcp",
		"10.0.0.1":           "10.0.0.1 0 tcp", "10.0.0.1:80": "10.0.0.1 80 tcp", "fd00::1": "fd00::1 0 tcp", "[fd00::1]": "fd00::1 0 tcp", "[fd00::1]:8080": "fd00::1 8080 tcp",
		"fe80::1%eth0": "fe80::1 0 tcp", "http://[fe80::1%25eth0]/": "fe80::1 80 tcp",
		// The metadata service, as people hide it.
		"2852039166":               "169.254.169.254 0 tcp 2852039166 is 169.254.169.254",
		"0xA9FEA9FE":               "169.254.169.254 0 tcp 0xA9FEA9FE is 169.254.169.254",
		"0xa9.0xfe.0xa9.0xfe":      "169.254.169.254 0 tcp 0xa9.0xfe.0xa9.0xfe is 169.254.169.254",
		"0251.0376.0251.0376:80":   "169.254.169.254 80 tcp 0251.0376.0251.0376 is 169.254.169.254",
		"025177524776":             "169.254.169.254 0 tcp 025177524776 is 169.254.169.254",
		"169.254.43518":            "169.254.169.254 0 tcp 169.254.43518 is 169.254.169.254",
		"169.16689662":             "169.254.169.254 0 tcp 169.16689662 is 169.254.169.254",
		"169.254.169.254.":         "169.254.169.254 0 tcp 169.254.169.254. is 169.254.169.254",
		"127.1":                    "127.0.0.1 0 tcp 127.1 is 127.0.0.1",
		"0":                        "0.0.0.0 0 tcp 0 is 0.0.0.0",
		"::ffff:169.254.169.254":   "169.254.169.254 0 tcp ::ffff:169.254.169.254 is the IPv4 address 169.254.169.254",
		"[::ffff:a9fe:a9fe]:80":    "169.254.169.254 80 tcp ::ffff:a9fe:a9fe is the IPv4 address 169.254.169.254",
		"64:ff9b::169.254.169.254": "64:ff9b::a9fe:a9fe 0 tcp 64:ff9b::169.254.169.254 is 169.254.169.254 through a NAT64",
		"2002:a9fe:a9fe::1":        "2002:a9fe:a9fe::1 0 tcp 2002:a9fe:a9fe::1 is a network of 169.254.169.254 through 6to4",
		"::169.254.169.254":        "::a9fe:a9fe 0 tcp ::169.254.169.254 has 169.254.169.254 in a form that is not used any more",
		"::1":                      "::1 0 tcp",
		"１６９。２５４。１６９。２５４":                     "169.254.169.254 0 tcp １６９。２５４。１６９。２５４ is 169.254.169.254",
		"http://pypi.org@169.254.169.254/":    "169.254.169.254 80 tcp what is before the @ is a user's name, not the host",
		"http://pypi.org:443@2852039166/x":    "169.254.169.254 80 tcp what is before the @ is a user's name, not the host; 2852039166 is 169.254.169.254",
		"https://bücher.example":              "xn--bcher-kva.example 443 tcp bücher.example is xn--bcher-kva.example",
		"ｐｙｐｉ.org":                            "pypi.org 0 tcp ｐｙｐｉ.org is pypi.org",
		"xn--bcher-kva.example":               "xn--bcher-kva.example 0 tcp",
		"0x.example":                          "0x.example 0 tcp",
		"1.2.3.4.example":                     "1.2.3.4.example 0 tcp",
		"169.254.169.254.nip.example":         "169.254.169.254.nip.example 0 tcp",
		strings.Repeat("a.", 126) + "example": "",
	} {
		got, err := ParseTarget(text)
		if want == "" {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%q: %+v", text, got)
			}
			continue
		}
		what := got.Name
		if got.Addr.IsValid() {
			what = got.Addr.String()
		}
		if s := strings.TrimSpace(fmt.Sprint(what, " ", got.Port, " ", got.Protocol, " ", got.Note)); err != nil || s != want || got.Text != text {
			t.Errorf("%q: %s %v, want %s", text, s, err, want)
		}
	}
}

func TestParseTargetRefuses(t *testing.T) {
	for text, why := range map[string]string{
		"": "nothing is named", " ": "nothing is named", "x.example:": "a port follows", "x.example:0": "is no port", "x.example:65536": "is no port", "x.example:http": "is no port",
		"[fd00::1": "brackets", "[fd00::1]x": "brackets", "[fd00::1]:": "brackets", "[x.example]:80": "in brackets is no IPv6 address", "[10.0.0.1]:80": "in brackets is no IPv6 address",
		"fd00::1::2": "it is no IPv6 address", "a:b:c": "it is no IPv6 address", "http://": "no URL with a host", "http:///path": "no URL with a host", `http://a\@b/`: "no URL",
		"256.256.256.256": "names do not end in a number", "1.2.3.4.5": "names do not end in a number", "4294967296": "names do not end in a number", "1.2.3.0x100": "names do not end in a number",
		"08.0.0.1": "names do not end in a number", "example.7": "names do not end in a number", "a b": "is no name", "a/b": "is no name", "a..b": "is no name", "*.example": "is no name",
		"icmp://10.0.0.1:80": "is no port", "x\x00.example": "is no name", strings.Repeat("x", MaxTarget+1): "more than",
	} {
		got, err := ParseTarget(text)
		if f := fault.From(err); !fault.Is(err, fault.Invalid) || len(f.Fields) != 1 || !strings.Contains(f.Fields[0].Description, why) {
			t.Errorf("%.60q: %+v %v, want %s", text, got, f, why)
		}
	}
}

// FuzzParseTarget: whatever is given is a name or an address, or an error, and what it is read as is read alike again.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"pypi.org:443", "[::ffff:1.2.3.4]:80", "0xa9fea9fe", "http://a@b:1/", "１２７.1", "64:ff9b::1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTarget(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if (got.Name == "") != got.Addr.IsValid() || got.Addr.Zone() != "" || got.Addr.Is4In6() {
			t.Fatalf("%q: %+v", text, got)
		}
		again, err := ParseTarget(got.Name)
		if got.Name == "" {
			again, err = ParseTarget(got.Addr.String())
		}
		if err != nil || again.Name != got.Name || again.Addr != got.Addr {
			t.Fatalf("%q: %+v, again %+v %v", text, got, again, err)
		}
	})
}
