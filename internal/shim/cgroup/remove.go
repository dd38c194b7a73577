package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// removePoll is how often Remove looks whether killed processes are gone.
const removePoll = 2 * time.Millisecond

// hierarchies lists where a group may be: on v1 the directory of each hierarchy.
func hierarchies(root string, m Mode) ([]string, error) {
	if m == V2 {
		return []string{root}, nil
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() { // Links (cpu -> cpu,cpuacct) name hierarchies that are listed anyway.
			dirs = append(dirs, filepath.Join(root, e.Name()))
		}
	}
	return dirs, nil
}

// Remove kills every process in the group, waits until they are gone, and removes the group and its empty ancestors up to
// Base in every hierarchy. A group that does not exist is a success.
func (g Group) Remove(ctx context.Context) error { return g.remove(ctx, Root) }

func (g Group) remove(ctx context.Context, root string) error {
	if err := g.Check(); err != nil {
		return err
	}
	_, _ = g.liftCPU(root) // Without it the removal takes longer.
	all, err := hierarchies(root, g.Mode)
	if err != nil {
		return err
	}
	for _, h := range all {
		for {
			err := removeTree(filepath.Join(h, g.Path))
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EBUSY) {
				return err
			}
			_ = g.thaw(root) // What was killed while it was frozen dies only now. One that cannot be thawed shows as a timeout.
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s: processes are still there: %w", filepath.Join(h, g.Path), context.Cause(ctx))
			case <-time.After(removePoll):
			}
		}
		g.removeParents(h)
	}
	return nil
}

// removeTree kills what is in a group and below, and removes the directories, deepest first.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := killAll(dir); err != nil {
		return err
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// removeParents removes empty ancestors below Base; one that others use stays.
func (g Group) removeParents(hierarchy string) {
	for p := path.Dir(g.Path); p != g.Base && p != "/"; p = path.Dir(p) {
		if unix.Rmdir(filepath.Join(hierarchy, p)) != nil {
			return
		}
	}
}

// killAll sends SIGKILL to every process of one group.
func killAll(dir string) error {
	if kill, err := os.OpenFile(filepath.Join(dir, "cgroup.kill"), os.O_WRONLY, 0); err == nil {
		_, err = kill.WriteString("1")
		return errors.Join(err, kill.Close())
	}
	return kill(func() ([]int, error) { return procs(dir) })
}

// procs lists the processes of one group. Process 0 stands for one outside this pid namespace and cannot be reached.
func procs(dir string) ([]int, error) {
	f, err := os.Open(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var pids []int
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if pid, err := strconv.Atoi(lines.Text()); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	if errors.Is(lines.Err(), unix.ENODEV) { // The group was removed meanwhile.
		return nil, nil
	}
	return pids, lines.Err()
}

// Procs lists the processes of the group and the groups below it, in every hierarchy, each once.
func (g Group) Procs() ([]int, error) { return g.allProcs(Root) }

func (g Group) allProcs(root string) ([]int, error) {
	all, err := hierarchies(root, g.Mode)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, h := range all {
		walk := func(p string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return nil //nolint:nilerr // A group that went away meanwhile has no processes.
			}
			more, err := procs(p)
			pids = append(pids, more...)
			return err
		}
		if err := filepath.WalkDir(filepath.Join(h, g.Path), walk); err != nil {
			return nil, err
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}
