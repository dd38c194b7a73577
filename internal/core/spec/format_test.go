package spec

import (
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
)

func TestFormats(t *testing.T) {
	hash := strings.Repeat("0123456789abcdef", 4)
	for format, c := range map[specpb.Format]struct{ good, bad []string }{
		specpb.Format_FORMAT_IMAGE: {
			good: []string{
				"host", "python", "python:3.11", "a/b/c:x_y.Z-1", "localhost/a", "localhost:5000/a", "registry.example:443/a/b",
				"REGISTRY.example/a", "a__b/c-d--e.f", "python@sha256:" + hash, "python:3@sha256:" + hash,
			},
			bad: []string{
				"", ":", "a:", "a:.x", "a:-x", "a:" + strings.Repeat("x", 129), "A", "a/", "/a", "a//b", "a@", "a@sha256:12", "a@md5:" + hash,
				"a b", "a..b", "-a", "a-", "a___b", "a._b", "host:99999999/a", strings.Repeat("a", 256), "a:b:c", "ä",
			},
		},
		specpb.Format_FORMAT_IMAGE_PATTERN: {
			good: []string{"**", "python:*", "registry.example/a/**", "a*b/c@sha256:*"}, bad: []string{"", "/a", "a//b", "***", "a b", strings.Repeat("a", 511)},
		},
		specpb.Format_FORMAT_DNS_LABEL: {
			good: []string{"a", "0", "kata-qemu", strings.Repeat("a", 63)}, bad: []string{"", "-a", "a-", "A", "a.b", "a_b", strings.Repeat("a", 64)},
		},
		specpb.Format_FORMAT_DNS_LABEL_PREFIX: {good: []string{"", "a", "agents-"}, bad: []string{"-", "-a", "A", "a.b"}},
		specpb.Format_FORMAT_CIDR: {
			good: []string{"0.0.0.0/0", "198.51.100.0/24", "10.0.0.1/32", "::/0", "2001:db8::/32"},
			bad: []string{
				"", "10.0.0.1/8", "10.0.0.1", "10.0.0.0/33", "10.0/8", "fe80::1%eth0/64", "::ffff:10.0.0.0/104", "example.com/24", "2001:db8::1/32",
			},
		},
		specpb.Format_FORMAT_DNS_NAME: {
			good: []string{"a", "pypi.example", "*.a.example", "xn--bcher-kva.example"},
			bad:  []string{"", "*", "*.", "a.*.b", "A.example", "a..b", "10.0.0.1", "::1", "a.example.", "a b", strings.Repeat("a.", 130) + "a"},
		},
		specpb.Format_FORMAT_HOST_TEMPLATE: {
			good: []string{"{{.SandboxID}}", "{{.SandboxID}}.a.example", "box-{{.SandboxID}}.a.example", "a.{{.SandboxID}}.{{.SandboxID}}.example"},
			bad: []string{
				"", "a.example", "*.{{.SandboxID}}.example", "{{.SandboxID}}.{{.OrgID}}.example", "{{ .SandboxID }}.example", "{{.SandboxID}}.Example", "{{.SandboxID}}.example:80",
				strings.Repeat("a", 28) + "{{.SandboxID}}.example", "{{.SandboxID}}." + strings.Repeat("a.", 120) + "a",
			},
		},
		specpb.Format_FORMAT_QUALIFIED_KEY: {
			good: []string{"a", "A_b.c-d", "team.example/key"},
			bad:  []string{"", "/a", "a/", "a/b/c", "Team.Example/key", "-a", strings.Repeat("a", 64), "a b"},
		},
		specpb.Format_FORMAT_LABEL_VALUE: {
			good: []string{"", "a", "A_b.c-9", strings.Repeat("a", 63)}, bad: []string{"-a", "a-", "a b", strings.Repeat("a", 64), "a/b"},
		},
		specpb.Format_FORMAT_MODE_NAME: {good: []string{"", "a", "Deny.all_1-"}, bad: []string{"a b", "a/b", strings.Repeat("a", 64)}},
	} {
		for _, text := range c.good {
			if why := checkFormat(format, text); why != "" {
				t.Errorf("%s: %q is refused: %s", format, text, why)
			}
		}
		for _, text := range c.bad {
			if checkFormat(format, text) == "" {
				t.Errorf("%s: %q is accepted", format, text)
			}
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"agent", "Agent-v1.2_x", "0", strings.Repeat("a", MaxName)} {
		if err := CheckName("display_name", name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"":                                     "invalid name: display_name: must be given",
		"my agent":                             `invalid name: display_name: "my agent" may hold A-Z, a-z, 0-9, ., _ and -, and starts with a letter or digit; did you mean "my-agent"?`,
		"-":                                    `invalid name: display_name: "-" may hold A-Z, a-z, 0-9, ., _ and -, and starts with a letter or digit`,
		strings.Repeat("a", 64):                `invalid name: display_name: "` + strings.Repeat("a", 64) + `" has 64 bytes, the limit is 63`,
		"6F9619FF-8B86-D011-B42D-00c04fc964ff": `invalid name: display_name: "6F9619FF-8B86-D011-B42D-00c04fc964ff" has the shape of a UUID; a name must not, because launches take either`,
	} {
		if err := CheckName("display_name", name); err == nil || err.Error() != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}
