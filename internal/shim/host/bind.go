package host

import (
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim"
)

// bind mounts files of the host in a sandbox that was prepared without them, as its runtime would have: read-only, without
// set-user-id and devices. No program of a caller has run in the sandbox, and the init cannot do it: it has no right to mount, and
// shall have none. A thread of this process enters the sandbox's mount namespace for it, and ends there.
func (s *sandbox) bind(binds []shim.Bind) error {
	if len(binds) == 0 {
		return nil
	}
	return s.fromWithin(func(pid int, start uint64) error { return bindIn(pid, start, binds) })
}

func bindIn(pid int, start uint64, binds []shim.Bind) error {
	ns, err := namespaceOf(pid, start, "mnt")
	if err != nil {
		return err
	}
	defer ns.Close()
	var mounts []int
	defer func() {
		for _, fd := range mounts {
			_ = unix.Close(fd)
		}
	}()
	for _, b := range binds {
		fd, err := detached(b.Source)
		if err != nil {
			return err
		}
		mounts = append(mounts, fd)
	}
	// Threads share root and working directory, and whoever shares them may not enter.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("setns", err)
	}
	for i, b := range binds {
		if err := place(mounts[i], b); err != nil {
			return fmt.Errorf("%s: %w", b.Target, err)
		}
	}
	return nil
}

// detached returns a mount of one file that is nowhere yet.
func detached(source string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return 0, &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		_ = unix.Close(fd)
		return 0, &os.PathError{Op: "mount_setattr", Path: source, Err: err}
	}
	return fd, nil
}

// place makes the file that a mount is to cover, and the directories above it, as the sandbox's root, and puts the mount there. Links
// lead nowhere but to within the sandbox's own root.
func place(mount int, b shim.Bind) error {
	// The ids of the thread alone; the rest of the process goes on as it was.
	if err := setFileIDs(b.Owner); err != nil {
		return err
	}
	defer func() { _ = setFileIDs(0) }()
	dir, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	if err := makeDirs(dir, path.Dir(b.Target)); err != nil {
		return err
	}
	how := unix.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK, Mode: 0o644, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if fd, err := unix.Openat2(dir, b.Target, &how); err == nil {
		_ = unix.Close(fd)
	} else if err != unix.EACCES && err != unix.EROFS && err != unix.ETXTBSY { // It is there, which is all that is needed.
		return err
	}
	target, err := unix.Openat2(dir, b.Target, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: how.Resolve})
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(target) }()
	if err := unix.MoveMount(mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	return nil
}

// makeDirs makes a directory and those above it.
func makeDirs(root int, dir string) error {
	if dir == "/" || dir == "." {
		return nil
	}
	if err := makeDirs(root, path.Dir(dir)); err != nil {
		return err
	}
	resolve := uint64(unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS)
	parent, err := unix.Openat2(root, path.Dir(dir), &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolve})
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(parent) }()
	err = unix.Mkdirat(parent, path.Base(dir), 0o755)
	if err == unix.EEXIST || err == unix.EROFS || err == unix.EACCES {
		// There, or whatever is there instead is found by whoever goes on with it.
		return nil
	}
	return err
}

// setFileIDs makes a thread act on files as an id of the host.
func setFileIDs(id int) error {
	for _, call := range []uintptr{unix.SYS_SETFSGID, unix.SYS_SETFSUID} {
		_, _, _ = unix.RawSyscall(call, uintptr(id), 0, 0) // It returns the id before, whatever happens.
		if now, _, _ := unix.RawSyscall(call, ^uintptr(0), 0, 0); int(now) != id {
			return fmt.Errorf("act as user %d: refused", id)
		}
	}
	return nil
}

// namespaceOf opens a namespace of the sandbox's process 1. The process may be gone, and its number another's: never is it the
// machine's own.
func namespaceOf(pid int, start uint64, kind string) (*os.File, error) {
	ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/" + kind)
	if err != nil {
		return nil, err
	}
	own, err := os.Stat("/proc/thread-self/ns/" + kind)
	if err == nil {
		var now uint64
		var theirs os.FileInfo
		if now, err = shim.StartTime(pid); err == nil {
			theirs, err = ns.Stat()
		}
		if err == nil && (now != start || os.SameFile(own, theirs)) {
			err = fmt.Errorf("process %d is not the sandbox's any more", pid)
		}
	}
	if err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}
