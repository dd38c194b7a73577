package egress

import (
	"encoding/binary"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"github.com/bermhq/berm/internal/core/fault"
)

// MaxTarget is the longest text of a destination, in bytes.
const MaxTarget = 2048

// Target is a destination as a person names it: a name or an address, and perhaps a port.
type Target struct {
	// Text is what was given.
	Text string
	// Name is canonical. Exactly one of Name and Addr is set.
	Name string
	Addr netip.Addr
	// Port is 0 where none was given.
	Port     uint16
	Protocol Protocol
	// Note says in words how the text was read, where that is not plain: "0xa9fea9fe is 169.254.169.254".
	Note string
}

// Destination is the target, or one of the addresses of its name, for Decide.
func (t *Target) Destination(a netip.Addr) Destination {
	return Destination{Addr: a, Port: t.Port, Protocol: t.Protocol}
}

// scheme is what a URL says of protocol and port.
type scheme struct {
	name     string
	protocol Protocol
	port     uint16
}

func schemes() []scheme {
	return []scheme{
		{"http", TCP, 80}, {"https", TCP, 443}, {"ws", TCP, 80}, {"wss", TCP, 443}, {"ftp", TCP, 21}, {"ssh", TCP, 22}, {"git", TCP, 9418},
		{"ldap", TCP, 389}, {"ldaps", TCP, 636}, {"smtp", TCP, 25}, {"postgres", TCP, 5432}, {"postgresql", TCP, 5432}, {"mysql", TCP, 3306},
		{"redis", TCP, 6379}, {"dns", UDP, PortDNS}, {"tcp", TCP, 0}, {"udp", UDP, 0}, {"icmp", Echo, 0},
	}
}

// ParseTarget reads NAME, an IPv4 or IPv6 address in any spelling that programs take, either with :PORT, or a URL. Errors are
// Invalid and say what is wrong.
func ParseTarget(text string) (Target, error) {
	t := Target{Text: text, Protocol: TCP}
	switch {
	case strings.TrimSpace(text) == "":
		return t, badTarget(text, "nothing is named")
	case len(text) > MaxTarget:
		return t, badTarget(text[:40]+"…", "it has %d bytes, more than %d", len(text), MaxTarget)
	}
	host, port, err := t.split(strings.TrimSpace(text))
	if err != nil {
		return t, err
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || t.Protocol == Echo {
			return t, badTarget(text, "%.20q is no port of it", port)
		}
		t.Port = uint16(n)
	}
	return t, t.read(host)
}

func badTarget(text, format string, args ...any) error {
	return fault.Invalidf(fault.ReasonFieldInvalid, "%.80q is no destination", text).WithField("destination", format, args...).
		WithHint("a name, an address or a URL: pypi.org, pypi.org:443, 10.0.0.1, [fd00::1]:8080, https://pypi.org/simple")
}

// split takes host and port apart, and what a URL says of them.
func (t *Target) split(text string) (host, port string, err error) {
	if strings.Contains(text, "://") {
		return t.splitURL(text)
	}
	if _, err := netip.ParseAddr(text); err == nil {
		return text, "", nil
	}
	if rest, ok := strings.CutPrefix(text, "["); ok {
		host, port, ok := strings.Cut(rest, "]")
		if !ok || port != "" && port[0] != ':' || port == ":" {
			return "", "", badTarget(t.Text, "brackets around an IPv6 address end before the port: [fd00::1]:8080")
		}
		if _, err := netip.ParseAddr(host); err != nil || !strings.Contains(host, ":") {
			return "", "", badTarget(t.Text, "%.60q in brackets is no IPv6 address", host)
		}
		return host, strings.TrimPrefix(port, ":"), nil
	}
	switch host, port, found := strings.Cut(text, ":"); {
	case !found:
		return host, "", nil
	case port == "":
		return "", "", badTarget(t.Text, "a port follows the colon")
	case strings.Contains(port, ":"):
		return "", "", badTarget(t.Text, "it is no IPv6 address; one with a port is written in brackets: [fd00::1]:8080")
	default:
		return host, port, nil
	}
}

func (t *Target) splitURL(text string) (host, port string, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return "", "", badTarget(t.Text, "it is no URL with a host")
	}
	all := schemes()
	i := slices.IndexFunc(all, func(s scheme) bool { return s.name == strings.ToLower(u.Scheme) })
	if i >= 0 {
		t.Protocol, t.Port = all[i].protocol, all[i].port
	}
	if u.User != nil {
		t.Note = "what is before the @ is a user's name, not the host"
	}
	return u.Hostname(), u.Port(), nil
}

// read reads the host.
func (t *Target) read(host string) error {
	plain := host
	if !ascii(host) {
		mapped, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return badTarget(t.Text, "%.60q is no name of a host", host)
		}
		t.note(host + " is " + mapped)
		plain = mapped
	}
	if a, err := netip.ParseAddr(plain); err == nil {
		t.Addr = a.WithZone("")
		t.noteAddr(plain, a.WithZone(""))
		return nil
	}
	if a, is := looseIPv4(plain); is {
		if !a.IsValid() {
			return badTarget(t.Text, "%.60q is neither a name nor an address: names do not end in a number", host)
		}
		t.Addr = a
		t.note(plain + " is " + a.String())
		return nil
	}
	name, ok := CanonicalName(plain)
	if !ok {
		return badTarget(t.Text, "%.60q is no name of a host", host)
	}
	t.Name = name
	return nil
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

func (t *Target) note(text string) {
	if t.Note != "" {
		t.Note += "; "
	}
	t.Note += text
}

// noteAddr says which IPv4 address an IPv6 address carries.
func (t *Target) noteAddr(text string, a netip.Addr) {
	if a.Is4() {
		return
	}
	wide := a.As16()
	at := func(i int) string { return netip.AddrFrom4([4]byte(wide[i : i+4])).String() }
	six := netip.MustParsePrefix("2002::/16")
	switch {
	case a.Is4In6():
		t.Addr = a.Unmap()
		t.note(text + " is the IPv4 address " + t.Addr.String())
	case wellKnown64().Contains(a):
		t.note(text + " is " + at(12) + " through a NAT64")
	case six.Contains(a):
		t.note(text + " is a network of " + at(2) + " through 6to4")
	case slices.Equal(wide[:12], make([]byte, 12)) && binary.BigEndian.Uint32(wide[12:]) > 1:
		t.note(text + " has " + at(12) + " in a form that is not used any more")
	}
}

// looseIPv4 reads an IPv4 address as C libraries and browsers do: one to four numbers, decimal, octal or hexadecimal, of which the
// last fills what is left. It reports whether the text is one, or meant to be: no name ends in a number. Such a one that is
// none is not valid.
func looseIPv4(text string) (netip.Addr, bool) {
	parts := strings.Split(strings.TrimSuffix(text, "."), ".")
	last := parts[len(parts)-1]
	if _, ok := number(last); !ok && strings.Trim(last, "0123456789") != "" {
		return netip.Addr{}, false
	}
	if last == "" || len(parts) > 4 {
		return netip.Addr{}, last != ""
	}
	var all uint64
	for i, p := range parts {
		n, ok := number(p)
		if !ok {
			return netip.Addr{}, true
		}
		left := 1 // bytes that this number fills
		if i == len(parts)-1 {
			left = 4 - i
		}
		if n >= 1<<(8*left) {
			return netip.Addr{}, true
		}
		all = all<<(8*left) | n
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(all)) //nolint:gosec // four bytes, by the loop
	return netip.AddrFrom4(b), true
}

// number reads a number with the prefixes of C. Underscores are none of them.
func number(s string) (uint64, bool) {
	base := 10
	switch lower := strings.ToLower(s); {
	case strings.HasPrefix(lower, "0x"):
		s, base = s[2:], 16
		if s == "" {
			return 0, true
		}
	case len(s) > 1 && s[0] == '0':
		s, base = s[1:], 8
	}
	if s == "" || s[0] == '+' || s[0] == '-' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, base, 40)
	return n, err == nil
}
