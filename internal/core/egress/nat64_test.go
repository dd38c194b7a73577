package egress

import (
	"math/big"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// TestSpellings: 192.0.2.33 as RFC 6052 has it in its table, for each length of a prefix.
func TestSpellings(t *testing.T) {
	one := netip.MustParsePrefix("192.0.2.33/32")
	for prefix, want := range map[string]string{
		"2001:db8::/32": "2001:db8:c000:221::", "2001:db8:100::/40": "2001:db8:1c0:2:21::", "2001:db8:122::/48": "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::", "2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::", "2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
	} {
		p := netip.MustParsePrefix(prefix)
		got := spell64(p, one)
		if !ValidNAT64(p) || got[0].Addr() != netip.MustParseAddr(want) {
			t.Errorf("%s: %v, want %s", prefix, got, want)
		}
	}
	for _, bad := range []string{"2001:db8::/33", "2001:db8::/128", "2001:db8::/0", "2001:db8::1/96", "10.0.0.0/32", "::ffff:0:0/96"} {
		if p, err := netip.ParsePrefix(bad); err == nil && ValidNAT64(p) {
			t.Errorf("%s was taken", bad)
		}
	}
}

// embed spells an IPv4 address behind a prefix, bit by bit, with some value in the octet that spells nothing and some bits at the end.
func embed(prefix netip.Prefix, a netip.Addr, reserved byte, rest []byte) netip.Addr {
	b4, b16 := a.As4(), prefix.Addr().As16()
	n := prefix.Bits()
	bits := new(big.Int).Rsh(new(big.Int).SetBytes(b16[:]), uint(128-n))
	width := n
	push := func(value byte) {
		bits.Lsh(bits, 8).Or(bits, big.NewInt(int64(value)))
		width += 8
	}
	for _, octet := range append(b4[:], rest...) {
		if width == 64 {
			push(reserved)
		}
		if width < 128 {
			push(octet)
		}
	}
	var out [16]byte
	bits.Lsh(bits, uint(128-width)).FillBytes(out[:])
	return netip.AddrFrom16(out)
}

func drawTranslator(t *rapid.T) netip.Prefix {
	text := rapid.SampledFrom([]string{"2a01:4f8::/32", "2a01:4f8:100::/40", "2a01:4f8:122::/48", "2a01:4f8:122:300::/56", "2a01:4f8:122:344::/64", "2a01:4f8:122:344::/96", "2a00:1098:2b::/96"})
	return netip.MustParsePrefix(text.Draw(t, "translator"))
}

// TestTranslated: by way of a translator whose prefix is known nothing is reached that is not reached without it, however it is spelt; and in
// the mode internet everything that is.
func TestTranslated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		site, prefix := drawSite(t), drawTranslator(t)
		site.NAT64 = []netip.Prefix{prefix}
		a := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "any")))
		if rapid.Bool().Draw(t, "closed") {
			a = netip.MustParseAddr(rapid.SampledFrom([]string{
				"169.254.169.254", "169.254.169.253", "168.63.129.16", "100.100.100.200", "10.1.2.3", "172.16.9.9", "192.168.1.10", "127.0.0.1", "192.0.2.1", "0.0.0.0", "255.255.255.255",
			}).Draw(t, "place"))
		}
		rest := rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "rest")
		reserved := rapid.SampledFrom([]byte{0, 0, 0, 1, 2, 127, 128, 255}).Draw(t, "reserved")
		internet := compileDrawn(t, &specpb.EgressMode{Type: "internet"}, site)
		everything := compileDrawn(t, &specpb.EgressMode{Type: "allowlist", Cidrs: []string{"0.0.0.0/0", "::/0", prefix.String()}}, site)
		plain := Destination{Addr: a, Port: 443, Protocol: TCP}
		spelt := Destination{Addr: embed(prefix, a, reserved, rest), Port: 443, Protocol: TCP}
		open := allows(internet, plain, Live{})
		for _, p := range []*Policy{internet, everything} {
			if allows(p, spelt, Live{}) && !open {
				t.Fatalf("%s is closed, and reached as %s", a, spelt.Addr)
			}
		}
		onLink := slices.ContainsFunc(Closures(site), func(c Closed) bool {
			return c.Class != ClassTranslated && inside(netip.PrefixFrom(spelt.Addr, 128), c.Ranges)
		})
		if open && !onLink && reserved == 0 && !allows(internet, spelt, Live{}) {
			t.Fatalf("%s is open, and not reached as %s", a, spelt.Addr)
		}
	})
}

// TestNAT64Of: which translators answers speak of.
func TestNAT64Of(t *testing.T) {
	for _, c := range []struct {
		answers []string
		want    []string
	}{
		{nil, nil},
		{[]string{"64:ff9b::192.0.0.170", "64:ff9b::192.0.0.171"}, nil}, // Closed anyway.
		{[]string{"2a01:4f8:122:344::192.0.0.170", "2a01:4f8:122:344::192.0.0.171"}, []string{"2a01:4f8:122:344::/96"}},
		{[]string{"2a01:4f8:c000:aa::"}, []string{"2a01:4f8::/32"}},
		{[]string{"2a01:4f8:122:344:c0:0:ab00::"}, []string{"2a01:4f8:122:344::/64"}},
		{[]string{"2a01:4f8:c000:aa:c0:0:aa00:0"}, []string{"2a01:4f8::/32", "2a01:4f8:c000:aa::/64"}}, // Either.
		{[]string{"2a01:4f8::1", "192.0.0.170", "::ffff:192.0.0.170"}, nil},
	} {
		var addrs []netip.Addr
		for _, a := range c.answers {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		if got := NAT64Of(addrs); !slices.Equal(got, prefixes(c.want...)) {
			t.Errorf("%q: %v, want %q", c.answers, got, c.want)
		}
	}
	var many []netip.Addr
	for i := range 2 * MaxNAT64 {
		many = append(many, embed(netip.PrefixFrom(netip.AddrFrom16([16]byte{0x2a, byte(i)}), 96), netip.MustParseAddr("192.0.0.170"), 0, nil))
	}
	if got := NAT64Of(many); len(got) != MaxNAT64 {
		t.Errorf("%d of %d", len(got), len(many))
	}
}
