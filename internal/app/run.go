package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/backend/local"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/keyring/kms"
	"github.com/bermhq/berm/internal/link/hub"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/server"
	"github.com/bermhq/berm/internal/store/sqlstore"
	"github.com/bermhq/berm/internal/telemetry"
	"github.com/bermhq/berm/internal/tracing/otlp"
)

const (
	// shutdownTimeout is how long calls under way may take to end when the server stops.
	shutdownTimeout = 10 * time.Second
	// attachTimeout is how long a runner may take to say what it runs.
	attachTimeout = 60 * time.Second
	// tokenFile is the admin token's name in the data directory.
	tokenFile = "admin.token"
	// placeFile names the data directory in a database that it may share with others.
	placeFile = "place.id"
)

// Run serves until ctx ends, and returns nil then. Whatever it started is ended in the reverse order; sandboxes go on.
func Run(ctx context.Context, cfg Config) error {
	known, err := Failpoints()
	if err != nil {
		return err
	}
	if err := failpoint.Check(known); err != nil {
		return fault.Invalidf("FAILPOINT", "%v", err)
	}
	if err := cfg.check(); err != nil {
		return err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &app{cfg: cfg, log: cfg.Logger}
	stopTracing, err := otlp.Start(ctx, "berm", cfg.Version, a.log)
	if err != nil {
		return err
	}
	defer stopTracing()
	err = a.start(ctx)
	if err == nil {
		err = a.serve(ctx)
	}
	return errors.Join(err, a.stop())
}

// app is one running server.
type app struct {
	cfg Config
	log *slog.Logger

	listeners *listeners
	store     *sqlstore.Store
	control   *control.Service
	backends  []backend.Backend
	late      sync.WaitGroup // runners whose clusters are not there yet
	hub       *hub.Hub
	server    *server.Server
	kms       *kms.KMS // nil without a plug-in for keys
	// running is the file that says so, locked while it is true.
	running     string
	runningLock *os.File
}

// start opens everything. The port comes first: when it is taken, nothing else has been touched.
func (a *app) start(ctx context.Context) (err error) {
	if a.cfg.DataDir, err = filepath.Abs(a.cfg.DataDir); err != nil {
		return fault.Invalidf("DATA_DIR", "cannot use the data directory %s", a.cfg.DataDir).WithCause(err)
	}
	if a.listeners, err = listenAll(ctx, a.cfg); err != nil {
		return err
	}
	if err := os.MkdirAll(a.cfg.DataDir, 0o700); err != nil {
		return fault.Invalidf("DATA_DIR", "cannot make the data directory: %v", err).WithHint("Choose another with --data.")
	}
	if a.store, err = sqlstore.Open(ctx, sqlstore.Config{DSN: a.cfg.dsn(), Logger: a.log}); err != nil {
		return err
	}
	ports, err := a.listeners.ports(a.cfg.PortsURL)
	if err != nil {
		return err
	}
	keys, err := a.openKeys(ctx)
	if err != nil {
		return err
	}
	metrics := telemetry.New()
	a.control = control.New(context.WithoutCancel(ctx), control.Config{
		Store: a.store, Logger: a.log, Retention: a.cfg.RetainEnded, AuditRetention: a.cfg.RetainAudit, CheckSpec: checkSpec, CheckCarried: kube.CheckCarried, Meter: metrics,
		CredentialTTL: a.cfg.RunnerCredentialTTL, PortHost: ports.Hosts(), PortLink: ports.Link,
		Advertise: a.cfg.Advertise, Releases: a.cfg.Releases, Keys: keys,
	})
	runners, err := a.bootstrap(ctx)
	if err != nil {
		return err
	}
	// What an earlier server was responsible for is known before a runner says what it has: else nobody would miss what it has not.
	if err := a.control.Recover(ctx); err != nil {
		return err
	}
	for i, r := range runners {
		if err := a.attach(ctx, r, i == 0); err != nil {
			return err
		}
	}
	a.hub = hub.New(context.WithoutCancel(ctx), hub.Config{Control: a.control, Logger: a.log})
	a.server, err = server.New(server.Config{Control: a.control, Link: a.hub, Ports: ports, Logger: a.log, TLS: a.listeners.tls, Limits: a.limits(), Version: a.cfg.Version, Metrics: metrics, Pod: a.podOf})
	return err
}

// checkSpec asks every kind of backend what no runner of it could make sense of.
func checkSpec(s *specpb.ProfileSpec) error {
	if err := kube.CheckSpec(s); err != nil {
		return err
	}
	return local.CheckSpec(s)
}

// bootstrap makes what a server needs to be there, and keeps the admin token in the data directory.
func (a *app) bootstrap(ctx context.Context) ([]*core.Runner, error) {
	path := filepath.Join(a.cfg.DataDir, tokenFile)
	secret, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	in := control.Bootstrap{AdminSecret: secret}
	if a.cfg.Database != "" {
		if in.Place, err = placeID(filepath.Join(a.cfg.DataDir, placeFile)); err != nil {
			return nil, err
		}
	}
	for _, r := range a.cfg.Runners {
		in.Runners = append(in.Runners, control.LocalRunner{Name: r.Name, Zone: r.Zone})
	}
	out, err := a.control.Bootstrap(ctx, in)
	if err != nil {
		return nil, err
	}
	if out.AdminSecret != "" {
		if err := writeFile(path, []byte(out.AdminSecret+"\n"), 0o600); err != nil {
			return nil, fault.Internalf(err, "write the admin token")
		}
	}
	return out.Runners, nil
}

// attach starts the backend of one embedded runner and gives the runner its process. The first prints what works here.
func (a *app) attach(ctx context.Context, r *core.Runner, first bool) error {
	b, err := a.backend(ctx, r, first)
	if err != nil {
		return err
	}
	a.backends = append(a.backends, b)
	if k, ok := b.(*kube.Backend); ok {
		return a.attachKube(ctx, r, k)
	}
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	return a.control.Attach(ctx, r.ID, a.agent(b))
}

// agent is the runner of a backend, as part of this server.
func (a *app) agent(b backend.Backend) *runner.Agent {
	return runner.NewAgent(b, nil).DeployedAs(runner.Deployed(rollout.State{Kind: rollout.KindServer, Version: a.cfg.Version}))
}

// attachKube gives a runner its process, at once or when its cluster says what is on it: the server does not wait for one that is away.
func (a *app) attachKube(ctx context.Context, r *core.Runner, b *kube.Backend) error {
	attach := func(ctx context.Context) error { return a.control.Attach(ctx, r.ID, a.agent(b)) }
	select {
	case <-b.Ready():
		ctx, cancel := context.WithTimeout(ctx, attachTimeout)
		defer cancel()
		return attach(ctx)
	default:
	}
	a.late.Go(func() {
		if err := attach(ctx); err != nil && ctx.Err() == nil {
			a.log.ErrorContext(ctx, "a runner could not be given its process", "runner", r.RunnerID, "error", err)
		}
	})
	return nil
}

// backend starts what runs the sandboxes of a runner.
func (a *app) backend(ctx context.Context, r *core.Runner, first bool) (backend.Backend, error) {
	dir := filepath.Join(a.cfg.DataDir, "runners", r.RunnerID)
	if c, ok := a.cfg.Kube.Clusters[r.RunnerID]; ok {
		return a.cfg.openKube(ctx, a.cfg.kube(dir, r.RunnerID, c, a.log))
	}
	b, err := local.New(ctx, a.cfg.local(dir, r.RunnerID, a.log))
	if err != nil {
		return nil, err
	}
	if first {
		fmt.Fprintln(a.cfg.Out, "What works on this machine:")
		for _, c := range b.Capabilities() {
			fmt.Fprintln(a.cfg.Out, "  "+c.String())
		}
	}
	return b, nil
}

// local is the configuration of a backend of this machine.
func (c *Config) local(dir, runnerID string, log *slog.Logger) local.Config {
	return local.Config{
		Dir: dir, RunnerName: runnerID, Runtimes: c.runtimes(), NodeLabels: c.NodeLabels, Images: c.ImageAliases, ImageFile: c.Images,
		Network: c.Network.config(), NameServers: c.Network.NameServers, Logger: log.With("runner", runnerID),
		OutputLimit: c.OutputLimit, OutputRetention: c.OutputRetention,
	}
}

// serve answers calls until ctx ends.
func (a *app) serve(ctx context.Context) error {
	if err := a.announce(); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- a.listeners.serve(a.server) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	a.log.Info("stopping; sandboxes go on")
	a.control.StopWaiting()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := a.server.Shutdown(end); err != nil {
		a.log.Warn("calls were cut", "error", err)
	}
	return <-failed
}

// stop ends what start began, in the reverse order.
func (a *app) stop() error {
	if a.running != "" {
		os.Remove(a.running)
		a.runningLock.Close()
	}
	if a.listeners != nil {
		a.listeners.close()
	}
	if a.hub != nil {
		a.hub.Close()
	}
	if a.control != nil {
		a.control.Close()
	}
	a.late.Wait()
	var errs []error
	for _, b := range a.backends {
		errs = append(errs, b.Close())
	}
	if a.kms != nil {
		errs = append(errs, a.kms.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}
