package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// What cgroup v1 calls its states, and how often a group that is being frozen is looked at.
const (
	v1Frozen, v1Thawed = "FROZEN", "THAWED"
	freezePoll         = time.Millisecond
	// freezeRepeat is after how many looks the group is thawed for a moment: on v1 a process that is just being born, or that
	// waits in the kernel for a frozen one, can keep the group from ever being frozen.
	freezeRepeat = 50
)

// CanFreeze reports whether groups can be frozen here.
func CanFreeze(m Mode, base string) bool { return canFreeze(Root, m, base) }

func canFreeze(root string, m Mode, base string) bool {
	if m == V2 {
		return exists(filepath.Join(root, base, "cgroup.freeze"))
	}
	return exists(filepath.Join(root, "freezer", "tasks"))
}

// Freeze stops every process of the group where it is, also those that are born meanwhile. It returns once all stand still.
// When it fails, or ctx ends first, the group runs on. On v1 a frozen process does not die of a signal either, see KillFrozen.
func (g Group) Freeze(ctx context.Context) error { return g.freeze(ctx, Root) }

func (g Group) freeze(ctx context.Context, root string) error {
	file, frozen, want := filepath.Join(root, "freezer", g.Path, "freezer.state"), filepath.Join(root, "freezer", g.Path, "freezer.state"), v1Frozen
	thaw := v1Thawed
	if g.Mode == V2 {
		file, frozen, want, thaw = filepath.Join(root, g.Path, "cgroup.freeze"), filepath.Join(root, g.Path, "cgroup.events"), "1", "0"
	}
	poll := time.NewTicker(freezePoll)
	defer poll.Stop()
	for n := 1; ; n++ {
		if err := set(file, want); err != nil {
			return err
		}
		done, err := g.isFrozen(frozen)
		if done {
			return nil
		}
		if err == nil {
			select {
			case <-ctx.Done():
				err = fmt.Errorf("processes do not stand still: %w", context.Cause(ctx))
			case <-poll.C:
			}
		}
		if err != nil {
			return errors.Join(err, set(file, thaw))
		}
		if g.Mode != V2 && n%freezeRepeat == 0 {
			if err := set(file, thaw); err != nil {
				return err
			}
		}
	}
}

// isFrozen reads whether all processes stand still.
func (g Group) isFrozen(file string) (bool, error) {
	if g.Mode == V2 {
		n, err := keyed(file, "frozen")
		return n == 1, err
	}
	b, err := os.ReadFile(file)
	return string(bytes.TrimSpace(b)) == v1Frozen, err
}

// Thaw lets a frozen group go on. One that is not frozen, or is gone, is a success.
func (g Group) Thaw() error { return g.thaw(Root) }

func (g Group) thaw(root string) error {
	file, value := filepath.Join(root, "freezer", g.Path, "freezer.state"), v1Thawed
	if g.Mode == V2 {
		file, value = filepath.Join(root, g.Path, "cgroup.freeze"), "0"
	}
	err := set(file, value)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// KillFrozen ends the processes of a group that may be frozen: each is sent SIGKILL first and let go then, so that none runs
// on. It does not wait for them.
func (g Group) KillFrozen() error { return g.killFrozen(Root) }

func (g Group) killFrozen(root string) error {
	if err := kill(func() ([]int, error) { return g.allProcs(root) }); err != nil {
		return err
	}
	return g.thaw(root)
}
