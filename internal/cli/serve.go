package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bermhq/berm/internal/app"
	"github.com/bermhq/berm/internal/config"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
)

func (s *session) serveCmd() *cobra.Command {
	var cfg app.Config
	var runners, releases []string
	var failpoints, noRunner bool
	var machine machineFlags
	var logs logFlags
	var clusters clusterFlags
	var limits limitFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run a server: the whole product on one machine",
		Long: `Run a server. With no flags it listens on 127.0.0.1:7070, keeps its data in the XDG state directory, and runs sandboxes on this
machine through an embedded runner named "local" in zone "local". On first start a profile "default" (image host, no network) is
bound as its default, and the token of the administrator is written to DIR/admin.token.

--runner is repeatable and replaces "local": each is a managed runner of its own, on this machine, or with --kube on a Kubernetes
cluster.`,
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if failpoints {
				return s.printFailpoints()
			}
			if cfg.DataDir == "" {
				cfg.DataDir = config.StateDir(s.Getenv)
			}
			var err error
			if cfg.Runners, err = runnerFlags(runners, noRunner); err != nil {
				return err
			}
			if cfg.Releases, err = app.ParseReleases(releases, version); err != nil {
				return err
			}
			if cfg.Kube, err = clusters.read(); err != nil {
				return err
			}
			if err := machine.read(s, &cfg); err != nil {
				return err
			}
			if cfg.Limits, err = limits.read(); err != nil {
				return err
			}
			if cfg.Logger, err = logs.logger(s); err != nil {
				return err
			}
			cfg.RunningDir = config.RunningDir(s.Getenv)
			cfg.Out = s.Out
			cfg.Version = version
			return notTransient(app.Run(cmd.Context(), cfg))
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.DataDir, "data", "", "data directory (default: the XDG state directory)")
	f.StringVar(&cfg.Listen, "listen", config.DefaultListen, "HOST:PORT for REST and gRPC; port 0 takes a free one")
	f.StringVar(&cfg.GRPCListen, "grpc-listen", "", "HOST:PORT of a second, native gRPC listener, for heavy clients")
	f.StringVar(&cfg.PortsURL, "ports-url", "", "http[s]://DOMAIN[:PORT] below which each port of a sandbox has a host, PORT-SANDBOX.DOMAIN (default: localhost, on a loopback address)")
	f.StringVar(&cfg.TLSCert, "tls-cert", "", "PEM certificate; with --tls-key the port speaks TLS; both files are read again when they change")
	f.StringVar(&cfg.TLSKey, "tls-key", "", "PEM key of the certificate")
	f.StringVar(&cfg.Database, "db", "", "postgres://… URL (default: SQLite in the data directory)")
	f.StringVar(&cfg.SecretsKey, "secrets-key", "", "file of the keys of secret stores, one of 32 bytes in base64 a line, the first wraps (default: DIR/secrets.key, made on first start; none with --db)")
	f.StringVar(&cfg.SecretsKMS, "secrets-kms", "", "Unix socket of a Kubernetes KMS v2 plug-in that has the key, in place of --secrets-key")
	f.StringVar(&cfg.Advertise, "advertise", "", "HOST:PORT where runners reach this server and no other of those on the same --db; they keep connections to each")
	f.StringArrayVar(&runners, "runner", nil, "embedded runner NAME[=ZONE], repeatable (default local=local)")
	f.BoolVar(&noRunner, "no-runner", false, "run no sandboxes here: they run on the machines and clusters of berm runner; needs no root")
	f.DurationVar(&cfg.RetainAudit, "retain-audit", control.DefaultAuditRetention, "how long rows of the audit are kept, at least 24h")
	f.DurationVar(&cfg.RetainEnded, "retain-ended", control.DefaultRetention, "how long sandboxes that have ended are kept, at least 24h")
	f.StringArrayVar(&releases, "release", nil, "what a release channel offers to runners, CHANNEL=VERSION[,IMAGE] with stable or rapid, repeatable (default: this version, no image)")
	machine.bind(f, &cfg)
	outputFlags(f, &cfg)
	clusters.bind(f)
	limits.bind(f)
	f.DurationVar(&cfg.RunnerCredentialTTL, "runner-credential-ttl", control.DefaultCredentialTTL, "how long the credential of a runner on another machine is valid; it is replaced while the runner is connected")
	logs.bind(f)
	f.BoolVar(&failpoints, "print-failpoints", false, "list the places where BERM_FAILPOINT can kill a process, and stop")
	_ = f.MarkHidden("print-failpoints") // for the crash tests
	return c
}

// imagesFile reads the file of --images, and shows what is wrong where it stands.
func (s *session) imagesFile(name string) (*app.Images, error) {
	if name == "" {
		return nil, nil
	}
	f, err := s.readFile(name)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return nil, fault.Invalidf("USAGE", "cannot use %s", name).WithCause(err)
	}
	images, err := app.DecodeImages(f.root, dir)
	return images, f.show(err)
}

// notTransient drops the advice to try again: a server that does not start is started again by whoever has removed the cause.
func notTransient(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) || f.RetryAfter == 0 {
		return err
	}
	f = f.Clone()
	f.RetryAfter = 0
	return f
}

func (s *session) printFailpoints() error {
	names, err := app.Failpoints()
	for _, name := range names {
		fmt.Fprintln(s.Out, name)
	}
	return err
}

func runnerFlags(values []string, none bool) ([]app.Runner, error) {
	if none {
		if len(values) > 0 {
			return nil, fault.Invalidf("USAGE", "--runner and --no-runner exclude each other")
		}
		return nil, nil
	}
	if len(values) == 0 {
		return []app.Runner{{Name: "local", Zone: "local"}}, nil
	}
	out := make([]app.Runner, 0, len(values))
	seen := map[string]bool{}
	for _, v := range values {
		name, zone, ok := strings.Cut(v, "=")
		if !ok {
			zone = "local"
		}
		if name == "" || zone == "" {
			return nil, fault.Invalidf("USAGE", "--runner %q is not NAME or NAME=ZONE", v)
		}
		if seen[name] {
			return nil, fault.Invalidf("USAGE", "--runner %s is given twice", name)
		}
		seen[name] = true
		out = append(out, app.Runner{Name: name, Zone: zone})
	}
	return out, nil
}
