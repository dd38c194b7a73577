package initd

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

// pseudo are the file systems whose regular files are no data: reading them may have effects, end never, or tell about the
// init itself.
var pseudo = map[int64]string{
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.CGROUP_SUPER_MAGIC: "cgroup",
	unix.CGROUP2_SUPER_MAGIC: "cgroup2", unix.DEBUGFS_MAGIC: "debugfs", unix.TRACEFS_MAGIC: "tracefs",
	unix.SECURITYFS_MAGIC: "securityfs", unix.BPF_FS_MAGIC: "bpf", unix.NSFS_MAGIC: "nsfs", unix.DEVPTS_SUPER_MAGIC: "devpts",
}

// openAt opens relative to dir without ever following one of the links in /proc that lead to open files, to other roots, or
// into the init itself. Plain symbolic links are followed: they lead nowhere that the sandbox's processes could not go.
func openAt(dir int, name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(mode), Resolve: unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case errors.Is(err, unix.ENOSYS): // An old gVisor. What is opened is checked in any case.
			return unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		default:
			return fd, err
		}
	}
}

// closeFD closes a descriptor whose late errors mean nothing.
func closeFD(fd int) { _ = unix.Close(fd) }

// checkPath refuses what cannot name a file.
func checkPath(p string) *wire.Error {
	switch {
	case !path.IsAbs(p):
		return fileError(p, wire.CodeInvalid, "the path must be absolute")
	case strings.ContainsRune(p, 0):
		return fileError(p, wire.CodeInvalid, "the path contains a zero byte")
	}
	return nil
}

// checkRegular refuses an open file that is no regular file with data.
func checkRegular(fd int, p string) (*unix.Stat_t, *wire.Error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, systemError(p, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return nil, fileError(p, wire.CodeIsDirectory, "it is a directory")
	default:
		return nil, fileError(p, wire.CodeIOFailed, "it is "+kindOf(st.Mode)+", not a regular file")
	}
	var fsys unix.Statfs_t
	if err := unix.Fstatfs(fd, &fsys); err != nil {
		return nil, systemError(p, err)
	}
	if name, ok := pseudo[fsys.Type]; ok {
		return nil, fileError(p, wire.CodeIOFailed, "it is on the pseudo file system "+name+" and has no content of its own")
	}
	return &st, nil
}

func kindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return "a named pipe"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	case unix.S_IFLNK:
		return "a symbolic link"
	default:
		return "something else"
	}
}

// fileError names the file and what is wrong with it.
func fileError(p string, code wire.Code, what string) *wire.Error {
	e := wire.Errorf(code, "%s: %s", p, what)
	e.Path = p
	return e
}

// tooLarge carries the two numbers that callers decide by.
func tooLarge(p string, size, limit int64) *wire.Error {
	e := wire.Errorf(wire.CodeTooLarge, "%s: %d bytes exceed the limit of %d", p, size, limit)
	e.Path, e.Size, e.Limit = p, size, limit
	return e
}

// systemError classifies the kernel's refusal.
func systemError(p string, err error) *wire.Error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return fileError(p, wire.CodeIOFailed, err.Error())
	}
	switch errno {
	case unix.ENOENT, unix.ENOTDIR:
		return fileError(p, wire.CodeNotFound, "no such file or directory")
	case unix.EACCES, unix.EPERM, unix.EROFS:
		return fileError(p, wire.CodePermissionDenied, errno.Error())
	case unix.EISDIR:
		return fileError(p, wire.CodeIsDirectory, "it is a directory")
	case unix.ENAMETOOLONG, unix.EINVAL:
		return fileError(p, wire.CodeInvalid, errno.Error())
	case unix.ELOOP:
		return fileError(p, wire.CodeIOFailed, "too many symbolic links, or one of the links in /proc that lead out of the file system")
	default:
		return fileError(p, wire.CodeIOFailed, errno.Error())
	}
}
