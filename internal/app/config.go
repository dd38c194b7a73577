// Package app is the composition root: configuration in, a running server out. It is the only package that sees every adapter, and it
// alone decides the order in which things start and stop.
package app

import (
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/backend/local"
	"github.com/bermhq/berm/internal/backend/local/library"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/link"
	"github.com/bermhq/berm/internal/server/ingress"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/spool"
)

// Config is everything that `berm serve` can be told.
type Config struct {
	// DataDir holds the database, the admin token and the sandboxes. Made with mode 0700 when missing.
	DataDir string
	// Listen is HOST:PORT of REST and gRPC; GRPCListen, when not empty, that of a native gRPC listener.
	Listen, GRPCListen string
	// PortsURL is the URL below whose host ports of sandboxes have hosts of their own; "" is localhost where the server listens on loopback,
	// else none.
	PortsURL string
	// TLSCert and TLSKey are PEM files; both or neither.
	TLSCert, TLSKey string
	// Database is a postgres:// URL; "" is SQLite in the data directory.
	Database string
	// SecretsKey is a file of the keys of secret stores, SecretsKMS the Unix socket of a plug-in that has them; at most one. "" is a file
	// in the data directory, and with Database nothing.
	SecretsKey, SecretsKMS string
	// Advertise is the HOST:PORT where runners reach this server and no other of those on the same database; "" is nowhere.
	Advertise string
	// Runners are embedded in this process, one managed runner each.
	Runners []Runner
	// ImageAliases maps an image reference to "host", to "oci:DIR[:NAME]", an OCI layout on this machine, or to another reference.
	ImageAliases map[string]string
	// Images has registries, mirrors, aliases and more, see docs/local.md; nil is none.
	Images *Images
	// NodeLabels, when not nil, make node selectors count.
	NodeLabels map[string]string
	// RetainAudit is how long rows of the audit are kept; 0 is control.DefaultAuditRetention.
	RetainAudit time.Duration
	// RetainEnded is how long sandboxes that have ended are kept; 0 is control.DefaultRetention.
	RetainEnded time.Duration
	// RunnerCredentialTTL is how long the credential of a runner on another machine is valid; 0 is control.DefaultCredentialTTL.
	RunnerCredentialTTL time.Duration
	// Runtime is the name of the default OCI runtime; "" picks one that works.
	Runtime string
	// OCIRuntimes are runtimes beside those that are looked for anyway, or in place of one with the same name: local.Config.Runtimes.
	OCIRuntimes []string
	// Kube says which runners run sandboxes on Kubernetes.
	Kube Kube
	// Network is how sandboxes are connected.
	Network Network
	// Releases are what the release channels offer to runners.
	Releases rollout.Releases
	// Limits bound what is open at a time of the API.
	Limits Limits
	// OutputRetention is how long output of main processes is kept after the end, OutputLimit how much of each, in bytes.
	OutputRetention time.Duration
	OutputLimit     int64
	// RunningDir is where the server tells the command line of the same user that it runs.
	RunningDir string
	Version    string
	Logger     *slog.Logger
	// Out gets what a person who starts a server wants to read.
	Out io.Writer
}

const (
	// DefaultOutputRetention holds when nothing else is said.
	DefaultOutputRetention = local.DefaultOutputRetention
	// DefaultOutputLimit does too.
	DefaultOutputLimit = shim.DefaultOutputLimit
	// MaxOutputLimit is the most output that can be kept of one main process, in bytes.
	MaxOutputLimit = 64 << 30
)

// Runner is one embedded runner.
type Runner struct {
	Name, Zone string
}

// dsn is the address of the database.
func (c *Config) dsn() string {
	if c.Database != "" {
		return c.Database
	}
	return "sqlite://" + filepath.Join(c.DataDir, "berm.db")
}

// checkAdvertise refuses what no runner could dial.
func (c *Config) checkAdvertise() error {
	if c.Advertise == "" {
		return nil
	}
	if host, port, err := net.SplitHostPort(c.Advertise); err != nil || host == "" || port == "" || port == "0" || len(c.Advertise) > link.MaxAddress {
		return fault.Invalidf("USAGE", "--advertise %q is not HOST:PORT", c.Advertise).
			WithHint("It is where runners reach this server and no other: the address of this machine or pod, not that of a load balancer.")
	}
	if c.Database == "" {
		return fault.Invalidf("USAGE", "--advertise goes with --db: a server with a database of its own is the only one")
	}
	return nil
}

// check finds what is wrong by itself, before anything is touched.
func (c *Config) check() error {
	for _, r := range c.Runners {
		for _, name := range []string{r.Name, r.Zone} {
			if err := spec.CheckName("--runner", name); err != nil {
				return err
			}
		}
	}
	if err := c.checkAdvertise(); err != nil {
		return err
	}
	if err := c.checkKeys(); err != nil {
		return err
	}
	if c.PortsURL != "" {
		if _, err := ingress.ParseBase(c.PortsURL); err != nil {
			return err
		}
	}
	if err := c.Kube.check(c.Runners); err != nil {
		return err
	}
	if err := local.ParseRuntimes(c.runtimes()); err != nil {
		return err
	}
	if c.Runtime != "" && !slices.ContainsFunc(c.runtimes(), func(text string) bool { return runtimeName(text) == c.Runtime }) {
		return fault.Invalidf("USAGE", "unknown runtime %q", c.Runtime).
			WithHint("Use %s, or say where it is with --oci-runtime %s=PATH.", strings.Join(local.DefaultRuntimes(), ", "), c.Runtime)
	}
	if c.RetainAudit != 0 && c.RetainAudit < control.MinAuditRetention {
		return fault.Invalidf("USAGE", "--retain-audit %s is less than %s", c.RetainAudit, control.MinAuditRetention)
	}
	if c.RetainEnded != 0 && c.RetainEnded < control.MinRetention {
		return fault.Invalidf("USAGE", "--retain-ended %s is less than %s: usage guardrails count what ended in that time", c.RetainEnded, control.MinRetention)
	}
	if c.RunnerCredentialTTL != 0 && c.RunnerCredentialTTL < control.MinCredentialTTL {
		return fault.Invalidf("USAGE", "--runner-credential-ttl %s is less than %s", c.RunnerCredentialTTL, control.MinCredentialTTL)
	}
	if c.OutputRetention < 0 {
		return fault.Invalidf("USAGE", "--output-retention %s is negative", c.OutputRetention)
	}
	if c.OutputLimit != 0 && (c.OutputLimit < spool.MinLimit || c.OutputLimit > MaxOutputLimit) {
		return fault.Invalidf("USAGE", "--output-limit %d is not between %d and %d", c.OutputLimit, spool.MinLimit, int64(MaxOutputLimit))
	}
	names := make([]string, len(c.Runners))
	for i, r := range c.Runners {
		names[i] = r.Name
		if _, err := c.Images.For(r.Name, c.ImageAliases); err != nil {
			return err
		}
	}
	return c.Images.Unknown(names)
}

// Images is what a file of images says.
type Images = library.File

// DecodeImages reads such a file. dir is what names in it are relative to.
func DecodeImages(n *tree.Node, dir string) (*Images, error) { return library.Decode(n, dir) }

// runtimes lists the runtimes to look for, the default first.
func (c *Config) runtimes() []string {
	all := slices.Clone(c.OCIRuntimes)
	for _, name := range local.DefaultRuntimes() {
		if !slices.ContainsFunc(c.OCIRuntimes, func(text string) bool { return runtimeName(text) == name }) {
			all = append(all, name)
		}
	}
	// Those that were configured come last, unless one is asked for: where nothing is said, the default stays what it is.
	slices.SortStableFunc(all, func(a, b string) int { return c.rank(a) - c.rank(b) })
	return all
}

func (c *Config) rank(text string) int {
	if name := runtimeName(text); name == c.Runtime {
		return -1
	} else if i := slices.Index(local.DefaultRuntimes(), name); i >= 0 {
		return i
	}
	return len(local.DefaultRuntimes())
}

// runtimeName is the name that a runtime is configured under.
func runtimeName(text string) string {
	head, _, _ := strings.Cut(text, ",")
	name, _, given := strings.Cut(head, "=")
	if !given {
		name = filepath.Base(name)
	}
	return name
}
