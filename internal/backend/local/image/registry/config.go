package registry

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/bermhq/berm/internal/core/fault"
)

// Config says which registries may be pulled from, and how each is reached.
type Config struct {
	// Allow are the hosts that references may name: "registry.example", "registry.example:5000", or "*.example" for every host
	// below. Nil: any.
	Allow []string
	// Hosts are registries with settings of their own, by host, or host:port.
	Hosts map[string]Host
	// AuthFile has credentials by host, in the form of Docker's config.json; "" for none.
	AuthFile string
	Limits   Limits
}

// Host is how one registry is reached. The zero value is a public registry with a certificate that the machine trusts.
type Host struct {
	// Private: the host may have a loopback or private address.
	Private bool
	// Insecure: the host may be spoken to without encryption.
	Insecure bool
	// CAFile has certificates, in PEM, that are trusted besides the machine's.
	CAFile string
	// AuthFile takes the place of the general one.
	AuthFile string
	// MaxDownloads is how many layers are downloaded at a time; 0: DefaultMaxDownloads.
	MaxDownloads int
	// BytesPerSecond bounds the bandwidth of all downloads together; 0: no bound.
	BytesPerSecond int64
	// PullsPerMinute bounds how many manifests are asked for; 0: no bound.
	PullsPerMinute int
}

// Canonical returns the host of a registry as it stands in normalised references: docker.io is index.docker.io.
func Canonical(host string) (string, error) {
	r, err := name.NewRegistry(strings.ToLower(host), name.StrictValidation)
	if err != nil || strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789.-_:[]") != "" {
		return "", fmt.Errorf("%q is no host, or host:port", host)
	}
	return r.RegistryStr(), nil
}

// check returns a copy with canonical hosts, or what is wrong.
func (c Config) check() (Config, error) {
	wrong := func(format string, args ...any) (Config, error) {
		return Config{}, fault.Invalidf(fault.ReasonFieldInvalid, format, args...)
	}
	out := c
	out.Allow, out.Hosts, out.Limits = nil, make(map[string]Host, len(c.Hosts)), c.Limits.withDefaults()
	if c.Allow != nil {
		out.Allow = []string{} // Not nil, which would allow all.
	}
	for _, p := range c.Allow {
		host, wild := strings.CutPrefix(p, "*.")
		host, err := Canonical(host)
		if err != nil {
			return wrong("allowed registry %q: want a host, host:port or *.domain", p)
		}
		if wild {
			host = "*." + host
		}
		out.Allow = append(out.Allow, host)
	}
	for given, h := range c.Hosts {
		host, err := Canonical(given)
		if err != nil {
			return wrong("registry %q: want a host, or host:port", given)
		}
		if _, twice := out.Hosts[host]; twice {
			return wrong("registry %q is given twice", given)
		}
		if h.MaxDownloads < 0 || h.MaxDownloads > MaxDownloads {
			return wrong("registry %s: max_downloads is %d, want 1 to %d", given, h.MaxDownloads, MaxDownloads)
		}
		if h.BytesPerSecond != 0 && h.BytesPerSecond < MinBytesPerSecond {
			return wrong("registry %s: max_bytes_per_second is %d, want at least %d", given, h.BytesPerSecond, MinBytesPerSecond)
		}
		if h.PullsPerMinute < 0 || h.PullsPerMinute > MaxPullsPerMinute {
			return wrong("registry %s: max_pulls_per_minute is %d, want 1 to %d", given, h.PullsPerMinute, MaxPullsPerMinute)
		}
		if _, err := roots(h.CAFile); err != nil {
			return wrong("registry %s: %v", given, err)
		}
		out.Hosts[host] = h
	}
	return out, nil
}

// roots returns the machine's certificates with those of a file, nil for the machine's alone.
func roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s holds no PEM certificate", file)
	}
	return pool, nil
}

// allowed reports whether references may name a host.
func (c Config) allowed(host string) bool {
	if c.Allow == nil {
		return true
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for _, p := range c.Allow {
		domain, wild := strings.CutPrefix(p, "*")
		if wild && strings.HasSuffix(host, domain) || p == host {
			return true
		}
	}
	return false
}

// AuthFiles lists the files with credentials.
func (c Config) AuthFiles() []string {
	out := []string{}
	if c.AuthFile != "" {
		out = append(out, c.AuthFile)
	}
	for _, h := range c.Hosts {
		if h.AuthFile != "" {
			out = append(out, h.AuthFile)
		}
	}
	return out
}

// authFile returns the file with the credentials for a host, "" for none.
func (c Config) authFile(host string) string {
	if h := c.Hosts[host]; h.AuthFile != "" {
		return h.AuthFile
	}
	return c.AuthFile
}
