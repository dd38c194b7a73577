package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/backend/local"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/link/dial"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/shim"
	"github.com/bermhq/berm/internal/shim/host"
	"github.com/bermhq/berm/internal/tracing/otlp"
)

// The backends of a runner: its own machine, or a Kubernetes cluster.
const (
	BackendLocal = "local"
	BackendKube  = backend.KindKube
)

const (
	// enrolRetry is when an enrolment that could not reach the gateway is tried again, clusterRetry when a cluster is.
	enrolRetry   = 2 * time.Second
	clusterRetry = 5 * time.Second
	// gcPercent of a runner: most of what it has in memory is of sandboxes that do nothing, and lasts as long as they do.
	gcPercent = 50
	// machineIDFile is where the machine keeps its id; machineFile is where the state directory does, on machines without one.
	machineIDFile = "/etc/machine-id"
	machineFile   = "machine.id"
	// runnerLockFile is locked by the process that is the runner.
	runnerLockFile = "runner.lock"
)

// RunnerConfig is everything that `berm runner` can be told.
type RunnerConfig struct {
	// Config is what it shares with a server: state directory, images, runtimes, network. Of the rest nothing is looked at.
	Config
	// Gateway is where it dials; Token, when not empty, is an enrolment token.
	Gateway dial.Gateway
	Token   string
	// Guardrails are those of the cluster's owner, nil for none.
	Guardrails *resolve.Input
	// Backend runs the sandboxes: BackendLocal or BackendKube, which does on Cluster.
	Backend string
	Cluster KubeCluster
	// Self is the deployment of the process as its owner made it, nil when nobody said.
	Self *Self
	// Revision is that of the deployment that this process is, 0 when nobody said.
	Revision int32
	// Image is that of this process, "" when nobody said.
	Image string
	// Identity is what a runner that changed itself left of what that was, "" for nothing.
	Identity string
}

// RunnerFailpoints lists the places at which a runner's process can be killed on purpose.
func RunnerFailpoints() ([]string, error) {
	return failpoint.Register(dial.Failpoints(), local.Failpoints(), shim.Failpoints(), host.Failpoints())
}

// RunRunner is a runner until ctx ends, and returns nil then; or until its gateway refuses it for good. Sandboxes go on.
func RunRunner(ctx context.Context, cfg RunnerConfig) error {
	known, err := RunnerFailpoints()
	if err != nil {
		return err
	}
	if err := failpoint.Check(known); err != nil {
		return fault.Invalidf("FAILPOINT", "%v", err)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	r := &remoteRunner{cfg: cfg, log: cfg.Logger}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	stopTracing, err := otlp.Start(ctx, "berm-runner", cfg.Version, r.log)
	if err != nil {
		return err
	}
	defer stopTracing()
	if err := r.prepare(); err != nil {
		return err
	}
	defer r.lock.Close()
	if err := r.identify(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if err := r.credential(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	b, err := r.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(r.serve(ctx, b), b.Close())
}

// remoteRunner is one process of `berm runner`.
type remoteRunner struct {
	cfg  RunnerConfig
	log  *slog.Logger
	lock *os.File
	cred *dial.Credential
	told sync.Once
}

// prepare finds what is wrong before the network is touched, and takes the state directory.
func (r *remoteRunner) prepare() (err error) {
	if err := r.cfg.check(); err != nil {
		return err
	}
	switch r.cfg.Backend {
	case BackendLocal:
	case BackendKube:
		if err := r.cfg.Kube.needsInit("--backend kube"); err != nil {
			return err
		}
	default:
		return fault.Invalidf("USAGE", "unknown backend %q", r.cfg.Backend).WithHint("Use %s or %s.", BackendLocal, BackendKube)
	}
	if err := r.cfg.Gateway.Check(); err != nil {
		return err
	}
	if r.cfg.DataDir, err = filepath.Abs(r.cfg.DataDir); err != nil {
		return fault.Invalidf("DATA_DIR", "cannot use the data directory %s", r.cfg.DataDir).WithCause(err)
	}
	if err := os.MkdirAll(r.cfg.DataDir, 0o700); err != nil {
		return fault.Invalidf("DATA_DIR", "cannot make the data directory: %v", err).WithHint("Choose another with --data.")
	}
	if r.lock, err = os.OpenFile(filepath.Join(r.cfg.DataDir, runnerLockFile), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return fault.Invalidf("DATA_DIR", "cannot use the data directory: %v", err)
	}
	if err := unix.Flock(int(r.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		r.lock.Close()
		return fault.Preconditionf("DATA_DIR", "another berm runner uses %s", r.cfg.DataDir).
			WithHint("A second runner on this machine needs a directory of its own: --data DIR.")
	}
	instance := make([]byte, 16)
	randomBytes(instance)
	r.cfg.Gateway.Instance, r.cfg.Gateway.Software = hex.EncodeToString(instance), r.cfg.Version
	r.cred, err = dial.Load(r.cfg.DataDir)
	return err
}

// identify finds out which machine or cluster this is. A cluster is asked until it answers.
func (r *remoteRunner) identify(ctx context.Context) (err error) {
	if r.cfg.Backend == BackendLocal {
		r.cfg.Gateway.Identity, err = machineIdentity(r.cfg.DataDir)
		return err
	}
	return r.untilReached(ctx, func() error {
		uid, err := kube.ClusterUID(ctx, r.kube())
		switch known := r.cred != nil && strings.HasPrefix(r.cred.Identity, control.ClusterIdentity); {
		case err == nil:
			r.cfg.Gateway.Identity = control.ClusterIdentity + uid
		case fault.Is(err, fault.Unavailable) && known: // The backend makes sure of it as soon as it can.
			r.cfg.Gateway.Identity, err = r.cred.Identity, nil
		}
		return err
	})
}

// untilReached tries something until the cluster answers, or ctx ends.
func (r *remoteRunner) untilReached(ctx context.Context, try func() error) error {
	for {
		err := try()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to end
		}
		if !fault.Is(err, fault.Unavailable) {
			return err
		}
		r.log.Warn("the cluster cannot be used yet", "error", err, "cause", errors.Unwrap(err), "retry", clusterRetry)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(clusterRetry):
		}
	}
}

// kube is the configuration of the backend on a cluster.
func (r *remoteRunner) kube() kube.Config {
	name := "new"
	if r.cred != nil {
		name = r.cred.RunnerID
	}
	cfg := r.cfg.kube(filepath.Join(r.cfg.DataDir, "sandboxes"), name, r.cfg.Cluster, r.log)
	cfg.ClusterUID = strings.TrimPrefix(r.cfg.Gateway.Identity, control.ClusterIdentity)
	return cfg
}

// machineIdentity names this machine and the directory: there may be several runners on a machine, each with sandboxes of its own.
func machineIdentity(dir string) (string, error) {
	raw, err := os.ReadFile(machineIDFile)
	id := strings.TrimSpace(string(raw))
	if err != nil || id == "" {
		if id, err = placeID(filepath.Join(dir, machineFile)); err != nil {
			return "", err
		}
	}
	// Hashed: the machine's id is not told to others, as machine-id(5) asks.
	sum := sha256.Sum256([]byte("berm runner\n" + id + "\n" + dir))
	return "machine:" + hex.EncodeToString(sum[:16]), nil
}

// credential makes sure that there is one. A token is used only when there is none, so that the command that a runner was first
// started with starts it again.
func (r *remoteRunner) credential(ctx context.Context) error {
	switch {
	case r.cred != nil && r.cred.Identity != r.cfg.Gateway.Identity:
		return fault.New(fault.Denied, fault.ReasonRunnerIdentity, "the credential in %s was given to another machine, directory or cluster", r.cfg.DataDir).
			WithHint("A credential is not copied. Start with an empty --data directory and a new token: berm runner join NAME.")
	case r.cred != nil && time.Now().Before(r.cred.ExpiresAt):
		if r.cfg.Token != "" {
			r.log.Info("the credential in the data directory is used, not the token", "runner", r.cred.RunnerID)
		}
		return nil
	case r.cfg.Token == "":
		return fault.New(fault.Unauthenticated, fault.ReasonRunnerCredential, "there is no valid credential in %s", r.cfg.DataDir).
			WithHint("Make a token on the gateway's side with berm runner join NAME, and give it with --token.")
	}
	return r.enrol(ctx)
}

// enrol exchanges the token, as soon as the gateway can be reached.
func (r *remoteRunner) enrol(ctx context.Context) error {
	for {
		c, err := r.cfg.Gateway.Enrol(ctx, r.cfg.Token)
		if err == nil {
			if err := c.Save(r.cfg.DataDir); err != nil {
				return err
			}
			r.cred, r.cfg.Token = c, ""
			r.log.Info("enrolled", "runner", c.RunnerID, "gateway", c.Gateway, "until", c.ExpiresAt)
			return nil
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to end
		}
		if !fault.Is(err, fault.Unavailable) {
			return err
		}
		r.log.Warn("cannot enrol yet", "error", err, "retry", enrolRetry)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(enrolRetry):
		}
	}
}

// open starts the backend.
func (r *remoteRunner) open(ctx context.Context) (backend.Backend, error) {
	if r.cfg.Backend == BackendKube {
		return r.cfg.openKube(ctx, r.kube())
	}
	b, err := local.New(ctx, r.cfg.local(filepath.Join(r.cfg.DataDir, "sandboxes"), r.cred.RunnerID, r.log))
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(r.cfg.Out, "What works on this machine:")
	for _, c := range b.Capabilities() {
		fmt.Fprintln(r.cfg.Out, "  "+c.String())
	}
	return b, nil
}

// serve keeps the line to the gateway. A credential that is refused is replaced where there is a token for that.
func (r *remoteRunner) serve(ctx context.Context, b backend.Backend) error {
	deployment, stop, err := r.deployment(ctx)
	if err != nil {
		return err
	}
	defer stop()
	agent := runner.NewAgent(b, r.cfg.Guardrails).DeployedAs(deployment)
	for {
		err := dial.Run(ctx, dial.Config{
			Gateway: &r.cfg.Gateway, Dir: r.cfg.DataDir, Credential: r.cred, Link: agent, Logger: r.log,
			Up: func() {
				r.told.Do(func() { fmt.Fprintf(r.cfg.Out, "Runner %s is connected to %s\n", r.cred.RunnerID, r.cfg.Gateway.URL) })
			},
		})
		if r.cfg.Token == "" || !fault.HasReason(err, fault.ReasonRunnerCredential) {
			return err
		}
		r.log.Warn("the credential is refused, the token is tried", "error", err)
		was := r.cred.RunnerUUID
		if err := r.enrol(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		if r.cred.RunnerUUID != was {
			return fault.Preconditionf("RUNNER_ELSEWHERE", "the token is for runner %s, and what is in %s belongs to another", r.cred.RunnerID, r.cfg.DataDir).
				WithHint("Start again: the directory is that of runner %s from now on. Sandboxes of the one before are ended when it connects.", r.cred.RunnerID)
		}
	}
}
