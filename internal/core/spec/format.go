package spec

import (
	"fmt"
	"net/netip"
	"strings"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

// checkFormat says why text does not have a format, "" when it has. Empty text has a format only where empty means
// something: no mode, no prefix, a label without value.
func checkFormat(f specpb.Format, text string) string {
	switch f {
	case specpb.Format_FORMAT_MODE_NAME, specpb.Format_FORMAT_DNS_LABEL_PREFIX, specpb.Format_FORMAT_LABEL_VALUE,
		specpb.Format_FORMAT_UNSPECIFIED:
		if text == "" {
			return ""
		}
	default:
		if text == "" {
			return "is empty; leave the field out to inherit, or give null to clear it"
		}
	}
	switch f {
	case specpb.Format_FORMAT_IMAGE:
		return checkImage(text)
	case specpb.Format_FORMAT_IMAGE_PATTERN:
		return checkImagePattern(text)
	case specpb.Format_FORMAT_DNS_LABEL:
		return checkLabel(text, `at most 63 of a-z, 0-9 and -, the first and the last no -`, isLabel)
	case specpb.Format_FORMAT_DNS_LABEL_PREFIX:
		return checkLabel(text, `a-z, 0-9 and -, the first no -`, func(s string) bool { return isLabel(s + "0") })
	case specpb.Format_FORMAT_CIDR:
		return checkCIDR(text)
	case specpb.Format_FORMAT_DNS_NAME:
		return checkDNSName(text)
	case specpb.Format_FORMAT_HOST_TEMPLATE:
		return checkHostTemplate(text)
	case specpb.Format_FORMAT_QUALIFIED_KEY:
		return checkQualifiedKey(text)
	case specpb.Format_FORMAT_LABEL_VALUE:
		if !isWord(text) {
			return fmt.Sprintf("%q is no label value: at most 63 of A-Z, a-z, 0-9, -, _ and ., the first and the last alphanumeric", clip(text))
		}
	case specpb.Format_FORMAT_MODE_NAME:
		if len(text) > 63 || !only(text, alnum+"._-") {
			return fmt.Sprintf("%q is no mode name: 1 to 63 of A-Z, a-z, 0-9, ., _ and -", clip(text))
		}
	case specpb.Format_FORMAT_UNSPECIFIED, specpb.Format_FORMAT_CPU, specpb.Format_FORMAT_MEMORY,
		specpb.Format_FORMAT_FIELD_PATH:
	}
	return ""
}

const (
	lower = "abcdefghijklmnopqrstuvwxyz0123456789"
	alnum = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + lower
)

func only(text, set string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return !strings.ContainsRune(set, c) })
}

// isLabel reports a DNS-1123 label.
func isLabel(s string) bool {
	return s != "" && len(s) <= 63 && only(s, lower+"-") && s[0] != '-' && s[len(s)-1] != '-'
}

// isDomain reports a DNS-1123 subdomain.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

// isWord reports a label value, or the name part of a key.
func isWord(s string) bool {
	return s != "" && len(s) <= 63 && only(s, alnum+"-_.") && strings.IndexByte(alnum, s[0]) >= 0 &&
		strings.IndexByte(alnum, s[len(s)-1]) >= 0
}

func checkLabel(text, form string, ok func(string) bool) string {
	if ok(text) {
		return ""
	}
	why := fmt.Sprintf("%q is not made of %s", clip(text), form)
	if l := strings.ReplaceAll(strings.ToLower(text), "_", "-"); l != text && ok(l) {
		why += fmt.Sprintf("; did you mean %q?", l)
	}
	return why
}

func checkCIDR(text string) string {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
			return fmt.Sprintf("%q is an address, not a range; did you mean %q?", text, netip.PrefixFrom(a, a.BitLen()))
		}
		return fmt.Sprintf("%q is no CIDR range such as \"198.51.100.0/24\"", clip(text))
	}
	if p.Addr().Is4In6() {
		return fmt.Sprintf("%q is an IPv4 range in IPv6 form; write it as IPv4", text)
	}
	if m := p.Masked(); m != p {
		return fmt.Sprintf("%q has bits set behind its prefix; did you mean %q?", text, m)
	}
	return ""
}

func checkDNSName(text string) string {
	name := strings.TrimPrefix(text, "*.")
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Sprintf("%q is an address; give a host name, or the address as a range where ranges go", text)
	}
	if isDomain(name) {
		return ""
	}
	why := fmt.Sprintf("%q is no host name such as \"pypi.org\" or \"*.example.com\"", clip(text))
	if l := strings.TrimSuffix(strings.ToLower(name), "."); l != name && isDomain(l) {
		why += fmt.Sprintf("; did you mean %q?", strings.TrimSuffix(strings.ToLower(text), "."))
	}
	return why
}

func checkQualifiedKey(text string) string {
	prefix, name, qualified := strings.Cut(text, "/")
	if !qualified {
		prefix, name = "", text
	}
	if !isWord(name) || qualified && !isDomain(prefix) {
		return fmt.Sprintf("%q is no label or annotation key: a name of at most 63 of A-Z, a-z, 0-9, -, _ and ., optionally behind a domain and a /", clip(text))
	}
	return ""
}
