// Package fake is a backend in memory: stateful, fast, with injectable failures. It keeps the promises of the port that
// backendtest checks, so that use cases and fronts are tested against something that behaves, not against expectations.
//
// It runs a handful of built-in programs (programs.go) instead of processes. Nothing it reports is made up: an exit code
// is what a built-in program returned or what a test injected.
package fake

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/overshim"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// Kind is the name that field enforcement is declared under.
const Kind = "fake"

// Capacity of a backend whose Config states none.
const (
	defaultCPUMillis   = 1_000_000_000
	defaultMemoryBytes = 1 << 50
	defaultSandboxes   = 1_000_000
)

// Config shapes a Backend. The zero value works.
type Config struct {
	// Now is the clock of observations; time.Now when nil.
	Now func() time.Time
	// StartDelay is how long a sandbox is CREATING. 0: it runs before Create returns.
	StartDelay time.Duration
	// Info replaces what the backend says of itself where a field is not zero.
	Info backend.Info
	// UnknownImages fail to start, as images that cannot be found do.
	UnknownImages []string
	// LogLimit is how much output of a main program is kept, in bytes; 0 is 1 MiB.
	LogLimit int64
	// Saves says that sandboxes can be suspended and forked: a fork is a sandbox like any other here.
	Saves bool
	// Refuse reports the fields of a work that this backend refuses, for Check. Nil: none.
	Refuse func(*backend.Work) []fault.Field
}

// Backend is a backend.Backend in memory.
type Backend struct {
	overshim.Execs
	cfg  Config
	told backend.Told

	mu        sync.Mutex
	sandboxes map[string]*sandbox
	keptLogs  map[string]*mainLog
	observers backend.Observers
	networks  map[string]*backend.Network
	drifts    map[string]*backend.Drift
	inject    injections
	creates   int
	pools     map[poolKey]*pool
	setPools  int
	closed    bool
}

var _ backend.Backend = (*Backend)(nil)

// New returns an empty backend.
func New(cfg Config) *Backend {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.LogLimit == 0 {
		cfg.LogLimit = 1 << 20
	}
	b := &Backend{keptLogs: map[string]*mainLog{}, cfg: cfg, sandboxes: map[string]*sandbox{}}
	b.Execs = overshim.Execs{Client: b.keptClient, Explain: func(_ string, err error) error { return err }}
	b.told.Tell(infoFrom(cfg.Info))
	return b
}

func infoFrom(i backend.Info) backend.Info {
	i.Kind = Kind
	if i.Architecture == "" {
		i.Architecture = runtime.GOARCH
	}
	if i.RuntimeClasses == nil {
		i.RuntimeClasses = []string{"fake"}
	}
	if i.DefaultRuntimeClass == "" {
		i.DefaultRuntimeClass = i.RuntimeClasses[0]
	}
	if i.Isolation == "" {
		i.Isolation = "none: nothing runs, built-in programs stand in for processes"
	}
	if i.Capacity == (core.Amounts{}) {
		i.Capacity = core.Amounts{CPUMillis: defaultCPUMillis, MemoryBytes: defaultMemoryBytes, Sandboxes: defaultSandboxes}
	}
	if i.Features == nil {
		i.Features = []string{"egress:none", "image:host", "pause", backend.FeatureSecrets, backend.FeaturePorts}
	}
	return i
}

// Info returns what the configuration says, or SetInfo said since.
func (b *Backend) Info() backend.Info { return b.told.Info() }

// InfoChanged tells of SetInfo.
func (b *Backend) InfoChanged() <-chan struct{} { return b.told.InfoChanged() }

// Check reports what Config.Refuse refuses.
func (b *Backend) Check(w *backend.Work) error {
	if w.Launch.GetForkOf() != "" && !b.cfg.Saves {
		return errNoCheckpoint()
	}
	if b.cfg.Refuse == nil {
		return nil
	}
	fields := b.cfg.Refuse(w)
	if len(fields) == 0 {
		return nil
	}
	err := fault.Preconditionf(fault.ReasonBackendUnsupported, "the fake backend refuses the sandbox")
	err.Fields = fields
	return err
}

// Create makes the sandbox, or does nothing when it exists.
func (b *Backend) Create(_ context.Context, w *backend.Work) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.reachable(); err != nil {
		return err
	}
	if _, ok := b.sandboxes[w.SandboxID]; ok {
		return nil
	}
	if err := b.inject.takeCreate(); err != nil {
		return err
	}
	b.creates++
	s := newSandbox(w, b.cfg.Now(), b.cfg.LogLimit)
	b.sandboxes[w.SandboxID] = s
	events := []core.Event{{Name: "created", At: b.cfg.Now()}}
	if v := b.take(w); v != nil {
		events = append(events, v.Event(b.cfg.Now()))
	}
	b.publish(s, backend.Observation{Phase: backend.PhaseCreating, Events: events})
	switch {
	case b.inject.hold:
		s.held = true
	case b.cfg.StartDelay > 0:
		s.timer = time.AfterFunc(b.cfg.StartDelay, func() { b.locked(func() { b.start(s) }) })
	default:
		b.start(s)
	}
	return nil
}

// Delete forgets an ended sandbox.
func (b *Backend) Delete(_ context.Context, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.reachable(); err != nil {
		return err
	}
	s, ok := b.sandboxes[id]
	if !ok {
		return nil
	}
	if s.last.Phase != backend.PhaseEnded {
		return fault.Preconditionf(fault.ReasonFieldInvalid, "sandbox %s is %s: stop it before deleting it", id, s.last.Phase)
	}
	b.keep(id, s)
	delete(b.sandboxes, id)
	b.observers.Forget(id)
	return nil
}

// Usage returns made-up but constant amounts for a running sandbox, so that tests can tell that they arrived, and how many
// commands run. SetTraffic changes the rest.
func (b *Backend) Usage(_ context.Context, id string) (core.Usage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.alive(id)
	if err != nil {
		return core.Usage{}, err
	}
	return core.Usage{CPUMillis: 7, MemoryBytes: 3 << 20, PIDs: int64(len(s.procs)), DiskBytes: 5 << 10, NetworkBytes: s.traffic}, nil
}

// Close ends the observers. Sandboxes stay, as under a backend whose sandboxes survive the server.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.observers.Close()
	return nil
}

func (b *Backend) locked(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
}

// running returns the sandbox if it runs.
func (b *Backend) running(id string) (*sandbox, error) {
	s, err := b.alive(id)
	if err == nil && s.last.Phase == backend.PhasePaused {
		return nil, notRunning(s)
	}
	return s, err
}

// alive returns the sandbox if it runs or is paused.
func (b *Backend) alive(id string) (*sandbox, error) {
	if err := b.reachable(); err != nil {
		return nil, err
	}
	s, ok := b.sandboxes[id]
	if !ok {
		return nil, fault.NotFoundf(fault.ReasonSandboxNotFound, "sandbox %s is not known here", id)
	}
	if s.last.Phase != backend.PhaseRunning && s.last.Phase != backend.PhasePaused {
		return nil, notRunning(s)
	}
	return s, nil
}

func notRunning(s *sandbox) error {
	if s.last.Phase == backend.PhasePaused {
		return backend.ErrPaused(s.work.SandboxID)
	}
	return fault.Preconditionf(fault.ReasonSandboxNotRunning, "sandbox %s is %s", s.work.SandboxID, s.last.Phase)
}
