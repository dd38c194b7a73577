package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/local/bundle"
	"github.com/bermhq/berm/internal/backend/local/disk"
	"github.com/bermhq/berm/internal/backend/local/hostroot"
	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// openDisks finds out whether sandboxes can have file systems on disk. Where they cannot, what they write is in memory.
func (b *Backend) openDisks(ctx context.Context) {
	var err error
	var names []string
	for target := range hostroot.WritableDirs() {
		names = append(names, scratchName(target))
	}
	if b.disks, err = disk.Open(b.place.disks(), names...); err == nil {
		err = b.disks.Supported(ctx, filepath.Join(b.place.run, probeID+"disk"))
	}
	if b.machine.disk = err == nil; err != nil {
		b.machine.lack(featureDisk, "they are in memory, and count as that: %v", err)
	}
}

// mountDisk gives a sandbox its file system on disk, where its image puts what is written. It reports false where that is to
// be in memory.
func (b *Backend) mountDisk(s *sandbox, o *order, dir string) (bool, error) {
	if o.diskBytes == 0 {
		return false, nil
	}
	if err := b.diskRoom(); err != nil {
		return false, err
	}
	file, target, forked := b.place.disk(s.slot), image.ScratchDir(dir), b.forkedDisk(s)
	var err error
	if forked != "" {
		err = takeDisk(forked, file)
	} else {
		err = b.disks.Make(b.ctx, file, o.diskBytes)
	}
	if err != nil {
		return false, fmt.Errorf("file system on disk: %w", err)
	}
	failpoint.Hit(failDiskMade)
	if err := os.Mkdir(target, 0o755); err != nil {
		return false, err
	}
	if err := disk.Mount(file, target); err != nil {
		return false, fmt.Errorf("file system on disk: %w", err)
	}
	failpoint.Hit(failDiskMounted)
	if forked != "" {
		return true, b.ownDisk(target, base(s.ids))
	}
	id := int(base(s.ids))
	return true, os.Chown(target, id, id)
}

// diskRoom refuses to start on a disk that is nearly full: sandboxes take of it as they write, and those that run, and the
// server itself, need the rest.
func (b *Backend) diskRoom() error { return b.roomFor(0) }

// roomFor is diskRoom for who takes so much at once.
func (b *Backend) roomFor(bytes int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(b.place.dir, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: b.place.dir, Err: err}
	}
	all, free := int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
	if free-bytes >= min(all/diskReserve, maxDiskReserve) {
		return nil
	}
	return fault.New(fault.Exhausted, fault.ReasonStoreUnavailable, "the disk of runner %s is nearly full: %d MiB are free", b.cfg.RunnerName, free>>20).
		WithHint("free space on the file system of the server's data directory")
}

// limitsDisk reports whether a work asks for a limit of what it writes on disk.
func limitsDisk(w *backend.Work) bool {
	return w.Spec.GetResourceDefaults().GetEphemeralStorageLimit() != ""
}

// hostScratch gives the image "host" its private directories: on disk, or each a file system in memory.
func (b *Backend) hostScratch(x *boxed, s *sandbox, o *order, dir string) error {
	onDisk, err := false, error(nil)
	// In gVisor memory is where they are, unless a limit is asked for: so they are saved with the sandbox, and a fork has them.
	if !x.bundle.OwnKernel || limitsDisk(s.work) {
		onDisk, err = b.mountDisk(s, o, dir)
	}
	if err != nil {
		return err
	}
	for target, mode := range hostroot.WritableDirs() {
		if !onDisk || x.removable(s.work, target) {
			x.bundle.Tmpfs = append(x.bundle.Tmpfs, bundle.Tmpfs{Target: target, Mode: mode, Bytes: b.machine.tmpfsBytes(o.limits.MemoryBytes), Exec: true})
			continue
		}
		source, id := filepath.Join(image.ScratchDir(dir), scratchName(target)), int(base(s.ids))
		if b.forkedDisk(s) == "" { // Else it is as the other sandbox left it.
			if err := errors.Join(os.Chown(source, id, id), unix.Chmod(source, mode)); err != nil {
				return err
			}
		}
		x.bundle.Scratch = append(x.bundle.Scratch, bundle.Scratch{Source: source, Target: target})
	}
	slices.SortFunc(x.bundle.Scratch, func(a, b bundle.Scratch) int { return strings.Compare(a.Target, b.Target) })
	return nil
}

// scratchName is the name of a directory of the image "host" on a sandbox's file system, which begins with all of them.
func scratchName(target string) string {
	return strings.ReplaceAll(strings.Trim(target, "/"), "/", "-")
}

// removable reports whether a sandbox could remove files that are mounted below a directory of its own: gVisor takes the name of
// a mount point away with the directory's consent, except in its own file systems in memory.
func (x *boxed) removable(w *backend.Work, dir string) bool {
	return x.bundle.OwnKernel && slices.ContainsFunc(w.Launch.GetMountedFiles(), func(f *specpb.MountedFile) bool { return strings.HasPrefix(f.GetPath(), dir+"/") })
}

// diskUsed returns what a sandbox has on disk, 0 where that cannot be told.
func (b *Backend) diskUsed(slot string) int64 {
	if _, err := os.Lstat(b.place.disk(slot)); err != nil {
		return 0
	}
	used, err := disk.Used(image.ScratchDir(b.place.box(slot)))
	if err != nil {
		return 0
	}
	return used
}

// removeFile removes a file that may be gone already.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
