package shim

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim/oci"
)

// cleanupTimeout bounds the wait for a dead shim's runtime to let go, and then for its processes to be gone.
const cleanupTimeout = 30 * time.Second

// Failpoints of Cleanup.
const (
	failBeforeDelete = "shim-cleanup.before-delete"
	failAfterDelete  = "shim-cleanup.after-delete"
)

// Cleanup kills and removes whatever a dead shim left: the container, its processes, its control groups, the socket. The
// records stay. It returns the recorded end, or one with ReasonLost and no exit code. It can be called again after a crash
// in the middle, and for a directory where nothing is left. While a shim is in charge it fails with Precondition, after
// having waited for it within ctx.
func Cleanup(ctx context.Context, dir string) (Exit, error) {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	if !hasConfig(dir) {
		return Exit{}, nil
	}
	lock, err := acquireWithin(ctx, dir)
	if errors.Is(err, errLocked) {
		return Exit{}, fault.Preconditionf(fault.ReasonRunnerHasSandboxes, "%s: %v", dir, err)
	}
	if err != nil {
		return Exit{}, err
	}
	defer lock.Close()
	cfg, err := LoadConfig(dir)
	if errors.Is(err, errTorn) {
		return recordedEnd(dir)
	}
	if err != nil {
		return Exit{}, err
	}
	if err := Remove(ctx, cfg, &oci.Direct{}); err != nil {
		return Exit{}, err
	}
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !os.IsNotExist(err) {
		return Exit{}, err
	}
	return recordedEnd(dir)
}

// recordedEnd returns exit.json or, without one, a loss.
func recordedEnd(dir string) (Exit, error) {
	e, err := ReadExit(dir)
	if err != nil {
		return Exit{}, err
	}
	if e != nil {
		return *e, nil
	}
	return lost(dir), nil
}

func lost(dir string) Exit {
	e := Exit{Version: ConfigVersion, Reason: ReasonLost, Message: ErrLost.Error()}
	if r, err := ReadRecord(dir); err == nil && r != nil {
		e.ID, e.StartedAt = r.ID, r.StartedAt
	}
	return e
}

// selfPath is the running berm-shim: only a shim starts containers.
const selfPath = "/proc/self/exe"

// Container returns what the runtime needs to know of the sandbox.
func (c *Config) Container(spawn oci.Spawner) *oci.Container {
	return &oci.Container{
		Runtime: c.Runtime, Program: c.Program, Root: c.RuntimeRoot, Bundle: c.Bundle, ID: c.ID, Log: c.runtimeLog(),
		Kind: c.RuntimeKind, Flags: c.RuntimeFlags, Holder: selfPath, HideUnified: c.HideUnified, HideSettings: c.HideSettings, Spawn: spawn,
	}
}

// Remove deletes the container and its control groups, whether it runs or not. The caller holds the lock.
func Remove(ctx context.Context, c *Config, spawn oci.Spawner) error {
	failpoint.Hit(failBeforeDelete)
	container := c.Container(spawn)
	// Processes that are frozen do not die, and runtimes wait for them.
	if err := c.Cgroup.KillFrozen(); err != nil {
		return err
	}
	var deleted error
	if container.Known() && !container.Kind.FilesOnly() {
		deleted = container.Delete()
	}
	failpoint.Hit(failAfterDelete)
	// Whatever the runtime said, what counts is that nobody lives in the group and that it can be removed.
	if err := c.Cgroup.Remove(ctx); err != nil {
		return errors.Join(err, deleted)
	}
	if container.Kind.FilesOnly() {
		return container.Clear()
	}
	if container.Known() {
		return deleted
	}
	return nil
}
