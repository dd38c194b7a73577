package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/shim/userns"
)

// Rootfs is a mounted root. Its directory holds, besides the mount point "root", the file system that takes what the
// sandbox writes.
//
// Layers are stored with the owners that the image says and mounted through an id-mapped mount, so that one copy serves
// sandboxes with different ids; changing owners when unpacking would need a copy of each layer for each range of ids, or
// one range for all. Kernel 5.19 and ext4, xfs, btrfs or (6.3) tmpfs can do that; where it cannot be done, Mount says so.
//
// What a sandbox writes goes to a file system of limited size that the caller has mounted, or to a tmpfs and counts as its
// memory.
type Rootfs struct {
	dir string
}

// Root returns the mount point.
func (r Rootfs) Root() string { return filepath.Join(r.dir, "root") }

// ScratchDir is where, in the directory of a Rootfs, the file system is mounted that takes what the sandbox writes. Unmount
// takes it away, whoever mounted it.
func ScratchDir(dir string) string { return filepath.Join(dir, scratchName) }

// names inside the directory of a Rootfs.
const (
	rootName    = "root"
	scratchName = "scratch"
	lowerName   = "lower"
	linksName   = "links"
)

// Mount mounts an image's layers for the ids from base on, below dir, which must be empty and on a file system with the
// permission to execute. scratch is how much may be written, in bytes, to memory; 0: ScratchDir(dir) is a file system of the
// caller's that takes it. After an error nothing is mounted.
func (s *Store) Mount(img *Image, dir string, base uint32, scratch int64) (r Rootfs, err error) {
	r = Rootfs{dir: dir}
	ns, err := s.ids.get(base)
	if err != nil {
		return r, err
	}
	defer ns.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, Unmount(dir))
		}
	}()
	for _, d := range []string{rootName, scratchName, lowerName, linksName} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil && (d != scratchName || !errors.Is(err, fs.ErrExist)) {
			return r, err
		}
	}
	if err := r.mountScratch(base, scratch); err != nil {
		return r, err
	}
	lower := filepath.Join(dir, lowerName)
	if err := idMapped(s.dir, lower, ns); err != nil {
		return r, err
	}
	// Overlayfs keeps mounts of its own of the layers: the path to them is no longer needed, and inside the sandbox's
	// namespaces it would be a way to see every layer.
	err = r.mountOverlay(img, lower)
	if detach := unix.Unmount(lower, unix.MNT_DETACH); err == nil && detach != nil {
		err = &os.PathError{Op: "umount", Path: lower, Err: detach}
	}
	failpoint.Hit(failMounted)
	return r, err
}

func (r Rootfs) mountScratch(base uint32, size int64) error {
	scratch := ScratchDir(r.dir)
	if size > 0 {
		options := fmt.Sprintf("mode=0755,size=%d,nr_inodes=%d", size, MaxEntries)
		if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
			return &os.PathError{Op: "mount tmpfs", Path: scratch, Err: err}
		}
	}
	for _, d := range []string{"upper", "work"} {
		p := filepath.Join(scratch, d)
		err := os.Mkdir(p, 0o755)
		if errors.Is(err, fs.ErrExist) && size == 0 { // The copy of another sandbox's.
			continue
		}
		if err := errors.Join(err, os.Chown(p, int(base), int(base))); err != nil {
			return err
		}
	}
	return nil
}

// mountOverlay names each layer by a short link: all names together must fit into one page.
func (r Rootfs) mountOverlay(img *Image, lower string) error {
	links, err := os.Open(filepath.Join(r.dir, linksName))
	if err != nil {
		return err
	}
	defer links.Close()
	prefix := "/proc/self/fd/" + strconv.Itoa(int(links.Fd())) + "/"
	var layers []string
	for i := range img.Layers {
		// Overlayfs lists the uppermost first.
		l := img.Layers[len(img.Layers)-1-i]
		if err := os.Symlink(filepath.Join(lower, l.DiffID.Hex), filepath.Join(links.Name(), strconv.Itoa(i))); err != nil {
			return err
		}
		layers = append(layers, prefix+strconv.Itoa(i))
	}
	scratch := filepath.Join(r.dir, scratchName)
	options := "lowerdir=" + strings.Join(layers, ":") + ",upperdir=" + scratch + "/upper,workdir=" + scratch + "/work"
	if err := unix.Mount("overlay", r.Root(), "overlay", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return &os.PathError{Op: "mount overlay", Path: r.Root(), Err: err}
	}
	return nil
}

// idMapped mounts source at target, read-only, so that its owner n is the machine's id of n in the user namespace.
func idMapped(source, target string, ns *os.File) error {
	tree, err := mappedTree(source, unix.MOUNT_ATTR_RDONLY, ns)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	return placeTree(tree, target)
}

// mappedTree returns a mount of source that is nowhere yet, with the ids of a user namespace.
func mappedTree(source string, flags uint64, ns *os.File) (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return 0, &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | flags, Userns_fd: uint64(ns.Fd())}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		_ = unix.Close(tree)
		return 0, fmt.Errorf("this kernel or file system has no id-mapped mounts (kernel 5.19 with ext4, xfs or btrfs has): %w", &os.PathError{Op: "mount_setattr", Path: source, Err: err})
	}
	return tree, nil
}

func placeTree(tree int, target string) error {
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// Remap replaces the mount at target by one of the same file system, in which files of the ids from a base on belong to those from
// another on, and what is written is stored with the former.
func (s *Store) Remap(target string, from, to uint32) error {
	// Root stays what it is: overlayfs makes files of its own as root, and what belongs to it is nobody's inside in any case.
	ns, err := userns.New(os.Geteuid(), syscall.SysProcIDMap{Size: 1}, syscall.SysProcIDMap{ContainerID: int(from), HostID: int(to), Size: idsMapped})
	if err != nil {
		return err
	}
	defer ns.Close()
	tree, err := mappedTree(target, 0, ns)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return &os.PathError{Op: "umount", Path: target, Err: err}
	}
	return placeTree(tree, target)
}

// Unmount takes away whatever Mount left below dir, as often as it is called.
func Unmount(dir string) error {
	var errs []error
	for _, d := range []string{rootName, lowerName, scratchName} {
		p := filepath.Join(dir, d)
		err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		// EINVAL: not a mount point.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, &os.PathError{Op: "umount", Path: p, Err: err})
		}
	}
	return errors.Join(errs...)
}

// Supported tries to mount an image in dir, which it makes and removes, for the ids from base on, and says why that does not
// work.
func (s *Store) Supported(dir string, base uint32) (err error) {
	layer, err := os.MkdirTemp(s.dir, tempPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(layer)) }()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, Unmount(dir), os.RemoveAll(dir)) }()
	if err := os.WriteFile(filepath.Join(layer, "file"), nil, 0o644); err != nil {
		return err
	}
	img := &Image{Layers: []Layer{{DiffID: v1.Hash{Algorithm: "sha256", Hex: filepath.Base(layer)}}}}
	r, err := s.Mount(img, dir, base, int64(os.Getpagesize()*16))
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(r.Root(), "file"), &st); err != nil {
		return err
	}
	if st.Uid != base {
		return fmt.Errorf("a file of id 0 shows as id %d, not %d", st.Uid, base)
	}
	return nil
}
