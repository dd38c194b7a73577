package kube

import (
	"context"
	"crypto/ed25519"
	"errors"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/overshim"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim/podwire"
)

// Kind is the kind of this backend, which field enforcement is declared under.
const Kind = backend.KindKube

// MaxSandboxes is how many sandboxes of one runner are known at once.
const MaxSandboxes = 50_000

// Backend runs sandboxes as pods of one cluster. It keeps nothing that it could not find there again, but its key and the output.
type Backend struct {
	overshim.Execs
	cfg     Config
	log     *slog.Logger
	cluster *cluster
	key     ed25519.PrivateKey
	events  *podEvents
	hub     backend.Observers
	told    backend.Told
	// nodes, classes and pods are what is followed of the cluster; lookAgain says that Info may be another.
	nodes, classes, pods *watched
	lookAgain            chan struct{}
	// exposed are the Services, routes the Ingresses, httpRoutes and gateways what they are at Gateways; nil until a sandbox has one.
	exposed, routes, httpRoutes, gateways *watched
	// addressing is held while it is found out where a sandbox is reached.
	addressing sync.Mutex
	// gatewayAPI says whether the cluster has that.
	gatewayAPI gatewayAPI
	// rota has sandboxes attended to.
	rota *rota
	// likenesses are what was submitted of pods.
	likenesses likenesses
	// ready is closed once what is on the cluster is known.
	ready  chan struct{}
	ctx    context.Context //nolint:containedctx // of everything that goes on in the background
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu        sync.Mutex
	sandboxes map[string]*sandbox
	creating  map[string]chan struct{}
	// deleted are pods, by id, that were deleted and may still be told of, and whether the cluster has told of them before.
	deleted map[string]bool
	// namespaces are those that were made, or found.
	namespaces map[string]placed
	closed     bool
	troubles   troubles
	// tried is what a trial found of networks, nil before.
	tried *verdict
}

var _ backend.Backend = (*Backend)(nil)

// New connects to a cluster, looks at it, and finds again what earlier runners of the same name left on it. A cluster that does not answer
// is no error: Info says so, and Ready when that is over.
func New(ctx context.Context, cfg Config) (*Backend, error) {
	cfg.defaults()
	quiet()
	key, err := ensureKey(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "output"), 0o700); err != nil {
		return nil, fault.Invalidf("DATA_DIR", "cannot make %s: %v", cfg.Dir, err)
	}
	rc, err := cfg.restConfig()
	if err != nil {
		return nil, err
	}
	c, err := newCluster(rc)
	if err != nil {
		return nil, unusable(cfg.RunnerName, err)
	}
	b := &Backend{
		cfg: cfg, log: cfg.Logger, cluster: c, key: key,
		sandboxes: map[string]*sandbox{}, creating: map[string]chan struct{}{}, deleted: map[string]bool{}, namespaces: map[string]placed{},
		troubles: troubles{attempts: map[string]attempt{}}, lookAgain: make(chan struct{}, 1), ready: make(chan struct{}),
	}
	b.rota = newRota(b.attend)
	b.Execs = overshim.Execs{Client: b.await, Explain: b.explain}
	b.cfg.Options.RunnerKey = podwire.EncodeKey(key.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // by definition
	b.ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	b.events = newPodEvents(c)
	b.start(ctx)
	return b, nil
}

// quiet silences the client library's own log, which is of the whole process: a connection that was cut is told where it matters.
var quiet = sync.OnceFunc(func() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) }) //nolint:gochecknoglobals // as the log that it silences

func (c *Config) defaults() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.ScheduleTimeout == 0 {
		c.ScheduleTimeout = DefaultScheduleTimeout
	}
	if c.StuckTimeout == 0 {
		c.StuckTimeout = DefaultStuckTimeout
	}
	if c.OutputLimit == 0 {
		c.OutputLimit = defaultOutputLimit
	}
	if c.OutputRetention == 0 {
		c.OutputRetention = DefaultOutputRetention
	}
}

// start begins to follow the cluster, and gives it a while to say what is on it. One that does not is waited for in the background.
func (b *Backend) start(ctx context.Context) {
	b.watchAll()
	b.work.Go(func() { b.rota.run(b.ctx, &b.work) })
	b.told.Tell(b.describe())
	b.work.Go(b.keepInfo)
	b.work.Go(func() {
		if b.awaitReady() {
			b.review()
			b.begin()
		}
	})
	first := time.NewTimer(firstLook)
	defer first.Stop()
	for changed := b.told.InfoChanged(); ; changed = b.told.InfoChanged() {
		if why := b.Info().Refusal; why != "" && why != notYet {
			return
		}
		select {
		case <-changed:
		case <-b.ready:
			b.told.Tell(b.describe())
			return
		case <-first.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// begin does what can be done once it is known what is on the cluster.
func (b *Backend) begin() {
	failpoint.Hit(failRecovered)
	b.sweepOutput(true)
	close(b.ready)
	b.told.Tell(b.describe())
	if n := b.cfg.Options.Network; len(n.types()) > 0 && !b.cfg.untried && b.cfg.Options.InitImage != "" {
		b.work.Go(b.tryNetwork)
	}
	b.work.Go(func() {
		b.sweepBeside(b.ctx)
		for tick := time.NewTicker(sweepInterval); ; {
			select {
			case <-tick.C:
				b.sweepOutput(false)
				b.sweepBeside(b.ctx)
			case <-b.ctx.Done():
				tick.Stop()
				return
			}
		}
	})
}

// Info returns what can be run now.
func (b *Backend) Info() backend.Info { return b.told.Info() }

// InfoChanged tells when that is something else: nodes come and go.
func (b *Backend) InfoChanged() <-chan struct{} { return b.told.InfoChanged() }

// Observe follows the sandboxes, from when it is known which there are: what is not known is not gone.
func (b *Backend) Observe(ctx context.Context) iter.Seq[*backend.Observation] {
	return func(yield func(*backend.Observation) bool) {
		select {
		case <-b.ready:
			b.hub.Observe(ctx)(func(o *backend.Observation) bool {
				if o != nil {
					o.Submitted = b.submittedOf(o.SandboxID)
				}
				return yield(o)
			})
		case <-ctx.Done():
		case <-b.ctx.Done():
		}
	}
}

// Close ends all that goes on here. Sandboxes go on, and print until what their init holds is full.
func (b *Backend) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	b.hub.Close()
	b.work.Wait()
	b.events.close()
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, s := range b.sandboxes {
		if s.output != nil {
			errs = append(errs, s.output.writer.Close())
		}
	}
	return errors.Join(errs...)
}

// Pause is not possible: Kubernetes has no such thing.
func (b *Backend) Pause(_ context.Context, id string) error { return b.cannot(id, "pause sandboxes") }

// Suspend is not possible either.
func (b *Backend) Suspend(_ context.Context, id string) error {
	return b.cannot(id, "save sandboxes")
}

// Resume is fine for a sandbox that runs; none is paused.
func (b *Backend) Resume(_ context.Context, id string) error {
	s, err := b.get(id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended() {
		return notRunning(s.observed())
	}
	return nil
}

func (b *Backend) cannot(id, what string) error {
	if _, err := b.get(id); err != nil {
		return err
	}
	return fault.Preconditionf(fault.ReasonBackendUnsupported, "runner %s cannot %s: Kubernetes has no way to", b.cfg.RunnerName, what)
}

// SetPools takes the empty list alone: nothing is kept prepared.
func (b *Backend) SetPools(_ context.Context, pools []backend.Pool) error {
	if len(pools) == 0 {
		return nil
	}
	return fault.Preconditionf(fault.ReasonBackendUnsupported, "runner %s keeps no sandboxes prepared", b.cfg.RunnerName)
}

// Pools returns none.
func (b *Backend) Pools() []backend.PoolStatus { return nil }

// Network is not known: it is the cluster's.
func (b *Backend) Network(context.Context, string, egress.Target) (*backend.Network, error) {
	return nil, fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "runner %s does not know the network of its sandboxes: it is the cluster's", b.cfg.RunnerName)
}
