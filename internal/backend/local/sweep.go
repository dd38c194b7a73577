package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/backend/local/disk"
	"github.com/bermhq/berm/internal/shim/cgroup"
	"github.com/bermhq/berm/internal/shim/oci"
)

// sweep removes what belongs to no sandbox that is known: processes and control groups, mounts, boxes, bundles, what the
// runtimes keep. It looks only below names of our own.
func (b *Backend) sweep(all []*found) error {
	known := map[string]bool{}
	for _, f := range all {
		known[f.slot] = true
	}
	stale := func(id string) bool { return !known[id] }
	return errors.Join(b.sweepCgroups(stale), b.sweepBoxes(stale), b.sweepRuntimes(stale))
}

// sweepCgroups ends processes in control groups of nobody, and removes those.
func (b *Backend) sweepCgroups(stale func(string) bool) error {
	roots := []string{cgroup.Root}
	if b.machine.cgroup != cgroup.V2 {
		entries, err := os.ReadDir(cgroup.Root)
		if err != nil {
			return err
		}
		roots = nil
		for _, e := range entries {
			roots = append(roots, filepath.Join(cgroup.Root, e.Name()))
		}
	}
	var ids []string
	for _, r := range roots {
		entries, err := os.ReadDir(filepath.Join(r, b.place.cgroupBase()))
		if err != nil {
			continue // Not every hierarchy has the group.
		}
		for _, e := range entries {
			if e.IsDir() && stale(e.Name()) && !slices.Contains(ids, e.Name()) {
				ids = append(ids, e.Name())
			}
		}
	}
	var errs []error
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(b.ctx, cleanTimeout)
		g := cgroup.Group{Mode: b.machine.cgroup, Path: b.place.cgroup(id), Base: b.place.cgroupBase()}
		errs = append(errs, g.Remove(ctx))
		cancel()
	}
	return errors.Join(errs...)
}

// sweepBoxes unmounts and removes boxes and bundles of nobody.
func (b *Backend) sweepBoxes(stale func(string) bool) error {
	ids, err := stales(stale, b.place.boxes(), b.place.bundles())
	for _, id := range ids {
		err = errors.Join(err, b.clearBox(id))
	}
	return err
}

// sweepRuntimes removes what a runtime keeps of containers of nobody. Their processes are gone with their control groups.
func (b *Backend) sweepRuntimes(stale func(string) bool) error {
	dir := filepath.Join(b.place.run, "runtime")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		root := filepath.Join(dir, e.Name())
		left, e := stales(func(entry string) bool { return stale(oci.IDOf(entry)) }, root)
		err = errors.Join(err, e)
		for _, entry := range left {
			if strings.HasPrefix(entry, ".") {
				continue // A cache of the runtime's own.
			}
			err = errors.Join(err, os.RemoveAll(filepath.Join(root, entry)))
		}
	}
	return err
}

// sweepProbes ends and removes what a probe left whose server died: a sandbox, or mounts wherever they are below it.
func (b *Backend) sweepProbes(ctx context.Context) error {
	left, err := filepath.Glob(filepath.Join(b.place.run, probeID+"*"))
	for _, p := range left {
		if e := errors.Join(endProbe(ctx, p), unmountAll(p)); e != nil {
			err = errors.Join(err, e)
			continue
		}
		err = errors.Join(err, os.RemoveAll(p))
	}
	return err
}

// unmountAll takes away what is mounted at a path and below it, the last mounted first.
func unmountAll(path string) error {
	points, err := mountPoints(path)
	for _, p := range slices.Backward(points) {
		err = errors.Join(err, disk.Unmount(p))
	}
	return err
}

// stales lists the entries of directories that belong to nobody.
func stales(stale func(string) bool, dirs ...string) ([]string, error) {
	var ids []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if stale(e.Name()) && !slices.Contains(ids, e.Name()) {
				ids = append(ids, e.Name())
			}
		}
	}
	return ids, nil
}

// tidy takes away what a backend has on the machine outside its state directory, when nothing lives that needs it: the run
// directory and the control group. The backend is closed, and has the lock still.
func (b *Backend) tidy() error {
	if b.lock == nil || !b.idle() {
		return nil
	}
	points, err := mountPoints(b.place.boxes())
	if err != nil {
		return err
	}
	slices.Reverse(points)
	var errs []error
	for _, p := range points {
		errs = append(errs, unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
	}
	errs = append(errs, b.place.unmountRun(), removeGroups(b.place.cgroupBase()))
	return errors.Join(errs...)
}

// idle reports whether every sandbox has ended and was freed.
func (b *Backend) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sandboxes {
		select {
		case <-s.released:
			if !s.clean {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// removeGroups removes the group that held all sandboxes, from every hierarchy that has it. It is empty.
func removeGroups(base string) error {
	dirs, err := filepath.Glob(filepath.Join(cgroup.Root, "*", base))
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range append(dirs, filepath.Join(cgroup.Root, base)) {
		if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
