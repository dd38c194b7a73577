package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// LiftCPU lifts the CPU limit of a group in which something is being killed, and returns what puts it back. A process dies on
// its own time, and a kernel makes a group pay later for what its processes did inside the kernel beyond the limit: thousands
// of them, held to a part of a processor, take minutes to die. A group without a limit, or that is gone, is a success.
func (g Group) LiftCPU() (putBack func() error, err error) { return g.liftCPU(Root) }

func (g Group) liftCPU(root string) (putBack func() error, err error) {
	file, none := filepath.Join(root, "cpu", g.Path, "cpu.cfs_quota_us"), "-1"
	if g.Mode == V2 {
		file, none = filepath.Join(root, g.Path, "cpu.max"), "max"
	}
	had, err := os.ReadFile(file)
	if err == nil {
		err = set(file, none)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, err
	}
	return func() error {
		if err := set(file, strings.TrimSpace(string(had))); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}, nil
}

// set writes a file of a control group, which must be there.
func set(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
