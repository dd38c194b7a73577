package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/hostroot"
	"github.com/bermhq/berm/internal/backend/overshim"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/shim"
)

// New finds out what this machine can do, takes over the sandboxes of an earlier server, and removes what nobody owns.
//
// A machine that can run nothing is no error: Info says why, and every launch is refused with that. Errors are a
// configuration that makes no sense, a state directory in use or not writable.
func New(ctx context.Context, cfg Config) (*Backend, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Runtimes == nil {
		cfg.Runtimes = DefaultRuntimes()
	}
	if cfg.OutputRetention == 0 {
		cfg.OutputRetention = DefaultOutputRetention
	}
	if cfg.BootID == "" {
		var err error
		if cfg.BootID, err = shim.BootID(); err != nil {
			return nil, fmt.Errorf("which boot of the machine this is cannot be told, and so not what of its sandboxes may still run: %w", err)
		}
	}
	b := &Backend{
		cfg: cfg, log: cfg.Logger, machine: look(), sandboxes: map[string]*sandbox{}, creating: map[string]chan struct{}{}, pools: newPools(), cannotBind: shim.CanBind(),
		starts: make(chan struct{}, startsPerCPU*runtime.NumCPU()),
	}
	b.kept = &keptOutputs{}
	b.Execs = overshim.Execs{Client: b.await, Explain: b.explain}
	var err error
	if b.configured, err = parseRuntimes(cfg.Runtimes); err != nil {
		return nil, err
	}
	if b.imageConfig, err = cfg.ImageFile.For(cfg.RunnerName, cfg.Images); err != nil {
		return nil, err
	}
	b.ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	b.releases, b.endReleases = context.WithCancel(context.WithoutCancel(ctx))
	capacity := overlay(b.machine.capacity(), cfg.Capacity)
	var left []*found
	if b.machine.refusal == "" {
		if left, err = b.open(ctx, capacity); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	b.hidePaths()
	b.describe(capacity)
	b.tryAliases()
	b.recover(left)
	if b.library != nil {
		b.library.Start()
	}
	if b.machine.refusal == "" {
		for range refillers() {
			b.spawn(b.refill)
		}
	}
	b.spawn(b.expire)
	return b, nil
}

// open makes everything ready that needs root, and returns the sandboxes of an earlier server.
func (b *Backend) open(ctx context.Context, capacity core.Amounts) (left []*found, err error) {
	if err := b.openPlaces(ctx); err != nil {
		return nil, err
	}
	if b.machine.refusal = b.prepare(capacity); b.machine.refusal != "" {
		return nil, nil
	}
	if err := b.sweepProbes(ctx); err != nil {
		b.log.Warn("not everything that a probe of an earlier server left could be removed", "error", err)
	}
	if err := b.library.Layers().Supported(filepath.Join(b.place.run, probeID+"image"), base(0)); err != nil {
		b.machine.lack(featureLayout, "%v", err)
	}
	b.openDisks(ctx)
	b.host = hostroot.New(b.place.hosts())
	b.ids = newIDPool(b.place.name)
	if err := b.openNetwork(); err != nil {
		return nil, err
	}
	if left, err = b.load(); err != nil {
		return nil, err
	}
	b.holdAgain(left)
	if len(left) == 0 {
		err = b.host.Sweep()
	}
	if err := errors.Join(err, b.sweep(left), b.adoptNetworks(left), b.sweepKept(b.holds)); err != nil {
		b.log.Warn("not everything that an earlier server left could be removed", "error", err)
	}
	b.runtimes = b.probe(ctx, b.configured)
	return left, nil
}

// openPlaces takes the state directory and makes what belongs there.
func (b *Backend) openPlaces(ctx context.Context) (err error) {
	if b.place, err = newPlaces(b.cfg.Dir, b.cfg.RunDir); err != nil {
		return err
	}
	if b.lock, err = b.place.lockDir(); err != nil {
		return err
	}
	if err := b.place.prepare(); err != nil {
		return err
	}
	if err := b.openKept(); err != nil {
		return err
	}
	return b.openLibrary(ctx)
}

// prepare installs the shim and makes the control groups. It returns why no sandbox can run, "" when they can.
func (b *Backend) prepare(capacity core.Amounts) string {
	data, err := shimBinary(b.cfg.Shim)
	if err == nil {
		b.shim, err = installShim(filepath.Join(b.place.run, "bin"), data, shim.BinaryMode)
	}
	if err == nil {
		b.openShim, err = installShim(filepath.Join(b.place.run, "bin", "open"), data, openMode)
	}
	if err == nil {
		err = b.machine.cgroups(b.place.cgroupBase(), capacity)
	}
	if err != nil {
		return message(err)
	}
	return ""
}

// describe fills in what Info and Capabilities say.
func (b *Backend) describe(capacity core.Amounts) {
	var names []string
	for _, r := range b.configured {
		names = append(names, r.name)
	}
	if b.machine.refusal == "" && len(b.runtimes) == 0 {
		b.machine.refusal = b.noRuntime(names)
	}
	b.caps = capabilities(b.machine, names)
	b.info = backend.Info{
		Kind: Kind, Architecture: runtime.GOARCH, Isolation: sharedKernel, Capacity: capacity, NodeLabels: maps.Clone(b.cfg.NodeLabels),
		Features: features(b.caps), Refusal: b.hide.Replace(b.machine.refusal),
	}
	if !b.machine.cpu {
		b.info.Unenforced = map[string]string{"resource_defaults.cpu_request": "this machine has no CPU controller"}
	}
	for _, name := range names {
		if _, ok := b.runtimes[name]; ok && !slices.Contains(b.info.RuntimeClasses, name) {
			b.info.RuntimeClasses = append(b.info.RuntimeClasses, name)
		}
	}
	for _, name := range b.info.RuntimeClasses {
		b.info.Runtimes = append(b.info.Runtimes, b.published(b.runtimes[name]))
	}
	if len(b.info.RuntimeClasses) > 0 {
		b.info.DefaultRuntimeClass = b.info.RuntimeClasses[0]
		b.info.Isolation = b.info.Runtimes[0].Isolation
	}
}

// noRuntime says what was tried.
func (b *Backend) noRuntime(names []string) string {
	var tried []string
	for _, name := range names {
		tried = append(tried, name+": "+b.machine.lacks["runtime:"+name])
	}
	return "no OCI runtime works here (" + strings.Join(tried, "; ") + ")"
}

// overlay returns a with what b sets.
func overlay(a, b core.Amounts) core.Amounts {
	if b.CPUMillis > 0 {
		a.CPUMillis = b.CPUMillis
	}
	if b.MemoryBytes > 0 {
		a.MemoryBytes = b.MemoryBytes
	}
	if b.Sandboxes > 0 {
		a.Sandboxes = b.Sandboxes
	}
	a.GPUs = 0
	return a
}
