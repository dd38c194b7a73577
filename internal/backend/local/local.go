// Package local runs sandboxes on this machine, with the OCI runtimes that it has: crun by default, runc, runsc and others where
// asked for.
//
// It needs Linux and root. What isolates a sandbox is the kernel: namespaces with ids of their own, control groups, a
// system call filter, no capability over anything outside. The kernel is shared, unless the runtime brings one of its own
// (gVisor), and Info says so.
//
// # Where things are
//
//	Dir/lock                    one server at a time
//	Dir/images/…                what was pulled and unpacked, see packages library and image
//	Dir/sandboxes/<id>/         mode 0700, exists from Create to Delete:
//	    work.json               what to run; flushed before Create returns and before anything else happens
//	    files/N                 contents of mounted files
//	    image.json              the image that it uses, whose layers are kept for it
//	    disk.ext4               what it writes to its own file systems, until it has ended, see package disk
//	    stop.json               why it is being stopped, written before the stop
//	    end.json                how it ended, where the shim has nothing to say: it never ran, or was lost
//	    shim/                   the shim's state directory, see package shim
//	Dir/output/<id>/, <id>.json what an ended sandbox's main process printed, from Delete until its time is over
//	RunDir/                     a file system in memory, mode 0711, gone after a reboot, as the sandboxes are:
//	    bin/, host/             the shim, and skeletons of the image "host"
//	    runtime/<name>/         the runtimes' own state
//	    bundle/<id>/config.json
//	    box/<id>/               what a sandbox's processes may look into: it belongs to their root, mode 0700
//
// A runtime mounts with the ids of the sandbox, so every path that it is given must be open to them: a state directory
// below /root is not, which is why RunDir exists. It is mounted shared, so that what is unmounted in it is unmounted in
// the shims' mount namespaces too.
//
// # One sandbox
//
// Create writes work.json. The start then prepares root, bundle and control group and hands over to a shim, which runs the
// runtime, waits for the sandbox and records its end. The server only watches. After a restart it finds the shims again;
// what was accepted and never handed to a shim is started then, and what nobody saw the end of is lost, without an exit code. After a
// restart of the machine nothing is started: what has no recorded end may have run, and is lost.
package local

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/disk"
	"github.com/bermhq/berm/internal/backend/local/hostroot"
	"github.com/bermhq/berm/internal/backend/local/library"
	"github.com/bermhq/berm/internal/backend/local/network"
	"github.com/bermhq/berm/internal/backend/local/resolver"
	"github.com/bermhq/berm/internal/backend/overshim"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// Kind is the name that field enforcement is declared under.
const Kind = "local"

// Config shapes a Backend.
type Config struct {
	// Dir is the state directory, absolute; made if need be. One server at a time has it.
	Dir string
	// RunDir is where the file system in memory is mounted; "" is a directory in /run named after Dir.
	RunDir string
	// RunnerName is for messages.
	RunnerName string
	// Runtimes are runtimes to probe, the default first: NAME[=PATH][,kind=KIND][,flag=FLAG]... Nil: DefaultRuntimes.
	Runtimes []string
	// NodeLabels are matched with node selectors; nil: selectors are recorded only.
	NodeLabels map[string]string
	// Images maps references to what they stand for: "host", "oci:DIR[:NAME]" or another reference. ImageFile has these and more; nil
	// is an empty one.
	Images    map[string]string
	ImageFile *library.File
	// Network shapes the networks of sandboxes; the backend fills in name, directory, logger and resolver. NameServers are asked
	// for names instead of those of the machine.
	Network     network.Config
	NameServers []netip.AddrPort
	// Shim is the path of a berm-shim to use instead of the one in this binary, for development.
	Shim string
	// Capacity overrides what the machine is found to have, where not zero.
	Capacity core.Amounts
	Logger   *slog.Logger
	// OutputLimit is how much main process output of a sandbox is kept, in bytes; older output is discarded. 0 is the shim's
	// default. OutputRetention is how long it is kept after the end; 0 is DefaultOutputRetention.
	OutputLimit     int64
	OutputRetention time.Duration
	// BootID names this boot of the machine in records; "" asks the kernel.
	BootID string
	// Now is the clock of observations; nil is time.Now.
	Now func() time.Time
}

// Backend is a backend.Backend on this machine.
type Backend struct {
	overshim.Execs
	cfg     Config
	log     *slog.Logger
	info    backend.Info
	caps    []Capability
	place   places
	machine machine
	hide    *strings.Replacer

	configured []ociRuntime
	runtimes   map[string]ociRuntime
	// imageConfig is what library was opened with, but for paths.
	imageConfig library.Config
	library     *library.Library
	disks       *disk.Store
	host        *hostroot.Builder
	// shim is the installed berm-shim, openShim a copy that can be read.
	shim, openShim string
	lock           *os.File
	// net is nil on a machine that runs no sandboxes; resolver, guarded by mu, until the first sandbox has a network.
	net      *network.Network
	resolver *resolver.Resolver

	kept *keptOutputs

	// starts bounds how many sandboxes are prepared at once.
	starts chan struct{}
	hub    backend.Observers
	ids    *idPool
	pools  *pools
	// cannotBind is why prepared sandboxes cannot be given files, "" when they can.
	cannotBind string

	mu        sync.Mutex
	sandboxes map[string]*sandbox
	// creating has a channel for each id whose Create is under way.
	creating map[string]chan struct{}
	closed   bool

	// ctx ends with Close, releases a while after it; running counts the goroutines that watch sandboxes.
	ctx, releases       context.Context //nolint:containedctx // the lifetime of the backend itself
	cancel, endReleases context.CancelFunc
	running             sync.WaitGroup
}

var _ backend.Backend = (*Backend)(nil)

// Info returns what was probed at start.
func (b *Backend) Info() backend.Info { return b.info }

// InfoChanged says that it never does: the machine is looked at when the runner starts.
func (b *Backend) InfoChanged() <-chan struct{} { return nil }

// refused returns the fault of a backend that can run nothing.
func (b *Backend) refused() error {
	if b.info.Refusal == "" {
		return nil
	}
	return fault.Preconditionf(fault.ReasonBackendUnsupported, "this machine runs no sandboxes: %s", b.info.Refusal)
}

// get returns a sandbox by id.
func (b *Backend) get(id string) (*sandbox, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s, ok := b.sandboxes[id]; ok {
		return s, nil
	}
	return nil, unknown(id)
}

func unknown(id string) *fault.Error {
	return fault.NotFoundf(fault.ReasonSandboxNotFound, "sandbox %s is not known here", id)
}

// Observe yields what the port promises.
func (b *Backend) Observe(ctx context.Context) iter.Seq[*backend.Observation] {
	return b.hub.Observe(ctx)
}

// Close lets go of everything and waits for what it watched. Sandboxes go on; without any, nothing is left on the machine
// but the state directory.
func (b *Backend) Close() error {
	b.mu.Lock()
	already := b.closed
	b.closed = true
	b.mu.Unlock()
	if already {
		return nil
	}
	b.cancel()
	b.hub.Close()
	late := time.AfterFunc(closePatience, b.endReleases)
	b.running.Wait()
	b.discardAll(b.pools.empty())
	late.Stop()
	b.endReleases()
	err := b.unseal()
	if b.net != nil {
		err = errors.Join(err, b.net.Close())
	}
	if b.library != nil {
		b.library.Close()
	}
	if b.lock == nil {
		return err
	}
	return errors.Join(err, b.tidy(), b.lock.Close())
}

// spawn runs a goroutine that Close waits for. Once the backend is closed it does nothing: the next server takes it up.
func (b *Backend) spawn(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.running.Go(f)
	}
}
