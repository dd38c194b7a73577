package guard

import (
	"strings"
	"testing"
)

const digest = "@sha256:0123456789012345678901234567890123456789012345678901234567890123"

func TestNormalizeImage(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"host":                       "host",
		"python":                     "docker.io/library/python:latest",
		"python:3.11":                "docker.io/library/python:3.11",
		"org/app":                    "docker.io/org/app:latest",
		"docker.io/python":           "docker.io/library/python:latest",
		"docker.io/org/app:1":        "docker.io/org/app:1",
		"index.docker.io/python:3":   "docker.io/library/python:3",
		"localhost/app:1":            "localhost/app:1",
		"localhost:5000/app":         "localhost:5000/app:latest",
		"registry.example/a/b/c:tag": "registry.example/a/b/c:tag",
		"app" + digest:               "docker.io/library/app" + digest,
		"r.example/app:1" + digest:   "r.example/app:1" + digest,
	} {
		if got := NormalizeImage(in); got != want {
			t.Errorf("NormalizeImage(%q) = %q, want %q", in, got, want)
		}
		if again := NormalizeImage(NormalizeImage(in)); again != NormalizeImage(in) {
			t.Errorf("NormalizeImage is not idempotent for %q: %q", in, again)
		}
	}
}

func TestPatterns(t *testing.T) {
	tests := []struct {
		pattern, yes, no string
	}{
		{"**", "python:3 host r.example/a/b" + digest, ""},
		{"host", "host", "host:1 docker.io/library/host"},
		{"python:3.*", "python:3.11 docker.io/library/python:3.12-slim", "python python:2 evil.example/python:3.1 org/python:3.1"},
		{"python", "python python:3 python" + digest, "python3 org/python"},
		{"registry.example/agents/**", "registry.example/agents/a:1 registry.example/agents/a/b" + digest, "registry.example/agents registry.example/other/a registry.example.evil/agents/a evil.example/registry.example/agents/a"},
		{"registry.example/agents/*", "registry.example/agents/a:1 registry.example/agents/a" + digest, "registry.example/agents/a/b:1"},
		{"registry.example/app:1", "registry.example/app:1", "registry.example/app:2 registry.example/app registry.example/app:1" + digest},
		{"registry.example/app:*", "registry.example/app:1 registry.example/app registry.example/app:1" + digest, "registry.example/app" + digest},
		{"registry.example/*/app:v*", "registry.example/x/app:v1", "registry.example/x/y/app:v1 registry.example/x/app:1"},
		{"*.example/app", "r.example/app:1", "r.example.com/app a/b.example/app"},
		{"registry.example:5000/app", "registry.example:5000/app:2", "registry.example/app"},
		{"a.b/c", "a.b/c", "aXb/c"},
		{"**/app" + digest, "r.example/x/app" + digest, "r.example/x/app:1"},
	}
	for _, tt := range tests {
		p, ok := compilePattern(tt.pattern)
		if !ok {
			t.Errorf("%q does not compile", tt.pattern)
			continue
		}
		one := patterns{all: []pattern{p}}
		for _, ref := range strings.Fields(tt.yes) {
			if !one.matches(NormalizeImage(ref)) {
				t.Errorf("%q does not match %q", tt.pattern, ref)
			}
		}
		for _, ref := range strings.Fields(tt.no) {
			if one.matches(NormalizeImage(ref)) {
				t.Errorf("%q matches %q", tt.pattern, ref)
			}
		}
	}
}

func TestReserved(t *testing.T) {
	for key, want := range map[string]bool{
		"team":                 false,
		"example.com/team":     false,
		"prometheus.io/scrape": false,
		"notkubernetes.io/x":   false,
		"kubernetes.io/x":      true,
		"a.b.kubernetes.io/x":  true,
		"container.apparmor.security.beta.kubernetes.io/main": true,
		"k8s.v1.cni.cncf.io/networks":                         true,
		"berm.dev/sandbox":                                    true,
		"sandbox.coreweave.com/x":                             true,
		"compute.coreweave.com/x":                             true,
		"io.kubernetes.cri-o.userns-mode":                     true,
		"io.katacontainers.config.hypervisor.path":            true,
		"run.oci.hooks.stdout":                                true,
		"org.systemd.property.CPUQuota":                       true,
		"KUBERNETES.IO/x":                                     true,
	} {
		if got := Reserved(key) != ""; got != want {
			t.Errorf("reserved(%q) = %v, want %v", key, got, want)
		}
	}
}
