package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// beneath are the rules of every path walk: no way out, no link, no other file system.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// permissionBits of an entry that are kept: the sticky bit, but not set-user-id and set-group-id.
const permissionBits = 0o1777

// openDir opens a directory of the layer.
func (u *unpacker) openDir(name string) (*os.File, error) {
	fd, err := unix.Openat2(int(u.root.Fd()), name, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: beneath,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// open returns a directory of the layer, making it and its parents when missing. The handle is the unpacker's.
func (u *unpacker) open(name string) (*os.File, error) {
	if name == "." {
		return u.root, nil
	}
	if u.parent != nil && u.parentName == name {
		return u.parent, nil
	}
	f, err := u.openDir(name)
	if errors.Is(err, unix.ENOENT) {
		f, err = u.makeDirs(name)
	}
	if err != nil {
		return nil, pathError(name, err)
	}
	u.forget()
	u.parent, u.parentName = f, name
	return f, nil
}

// forget closes the directory that is kept open.
func (u *unpacker) forget() {
	if u.parent != nil {
		u.parent.Close()
		u.parent = nil
	}
}

// makeDirs makes the directories of a path that no entry described.
func (u *unpacker) makeDirs(name string) (*os.File, error) {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		dir, base := path.Split(name[:i])
		parent, err := u.openDir(path.Clean(dir))
		if err != nil {
			return nil, err
		}
		err = unix.Mkdirat(int(parent.Fd()), base, 0o755)
		parent.Close()
		if err == nil {
			err = u.count()
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
	}
	return u.openDir(name)
}

// pathError blames the archive when its own links or files are in the way, else the machine.
func pathError(name string, err error) error {
	var already *archiveError
	switch {
	case errors.As(err, &already):
		return err
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return bad("entry below %q: a symbolic link is on the way", name)
	case errors.Is(err, unix.ENOTDIR):
		return bad("entry below %q, which is no directory", name)
	case errors.Is(err, unix.ENAMETOOLONG):
		return bad("entry %.64q…: the name is too long", name)
	default:
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
}

// remove takes away what has the name: of an earlier entry of the same layer.
func (u *unpacker) remove(parent *os.File, dir, base string) error {
	err := unix.Unlinkat(int(parent.Fd()), base, 0)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EISDIR):
		return u.removeTree(dir, base)
	default:
		return pathError(path.Join(dir, base), err)
	}
}

// removeTree removes a directory that a later entry replaces. os.Root never leaves the directory it was opened on.
func (u *unpacker) removeTree(dir, base string) error {
	if u.parent != nil && strings.HasPrefix(u.parentName+"/", path.Join(dir, base)+"/") {
		u.forget()
	}
	root, err := os.OpenRoot(u.root.Name())
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return root.RemoveAll(path.Join(dir, base))
}

// directory makes a directory or keeps the one that is there. In place of a whiteout of the same layer it hides what the
// layers below have.
func (u *unpacker) directory(parent *os.File, dir, base string, h *tar.Header) error {
	name := path.Join(dir, base)
	before, err := kind(parent, base)
	if err != nil {
		return pathError(name, err)
	}
	if before != unix.S_IFDIR {
		if before != 0 {
			err = unix.Unlinkat(int(parent.Fd()), base, 0)
		}
		if err == nil {
			err = unix.Mkdirat(int(parent.Fd()), base, 0o700)
		}
		if err != nil {
			return pathError(name, err)
		}
	}
	f, err := u.openDir(name)
	if err != nil {
		return pathError(name, err)
	}
	defer f.Close()
	if before == unix.S_IFCHR {
		if err := u.opaque(f); err != nil {
			return err
		}
	}
	if u.named += len(name); u.named > MaxDirectoryNames {
		return bad("the paths of its directories have more than %d bytes together", MaxDirectoryNames)
	}
	u.dirs = append(u.dirs, dirTime{name, h.ModTime})
	return u.metadata(f, h)
}

// kind returns the file type bits of a name, 0 when there is nothing.
func kind(parent *os.File, base string) (uint32, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(parent.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	return st.Mode & unix.S_IFMT, err
}

func (u *unpacker) symlink(parent *os.File, base string, h *tar.Header) error {
	if h.Linkname == "" || len(h.Linkname) > MaxName || strings.ContainsRune(h.Linkname, 0) {
		return bad("entry %q: a symbolic link to %.64q", h.Name, h.Linkname)
	}
	// Where it points does not matter here: nothing on the machine follows it.
	if err := unix.Symlinkat(h.Linkname, int(parent.Fd()), base); err != nil {
		return pathError(h.Name, err)
	}
	if err := unix.Fchownat(int(parent.Fd()), base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError(h.Name, err)
	}
	return pathErrorOrNil(h.Name, unix.UtimesNanoAt(int(parent.Fd()), base, times(h.ModTime), unix.AT_SYMLINK_NOFOLLOW))
}

// hardlink links to a regular file of the same layer, reached without any link.
func (u *unpacker) hardlink(dir, base string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return bad("entry %q: a hard link to %.64q: %v", h.Name, h.Linkname, err)
	}
	from, err := u.openDir(path.Dir(target))
	if err != nil {
		return bad("entry %q: a hard link to %q, which this layer does not have", h.Name, h.Linkname)
	}
	defer from.Close()
	switch k, err := kind(from, path.Base(target)); {
	case err != nil || k == 0:
		return bad("entry %q: a hard link to %q, which this layer does not have", h.Name, h.Linkname)
	case k != unix.S_IFREG && k != unix.S_IFLNK: // Links to symbolic links occur; they name the link itself.
		return bad("entry %q: a hard link to %q, which is no file", h.Name, h.Linkname)
	}
	to, err := u.open(dir)
	if err != nil {
		return err
	}
	return pathErrorOrNil(h.Name, unix.Linkat(int(from.Fd()), path.Base(target), int(to.Fd()), base, 0))
}

func (u *unpacker) regular(parent *os.File, base string, h *tar.Header, content io.Reader) error {
	if h.Size < 0 || h.Size > u.budget-u.bytes {
		return bad("entry %q has %d bytes; an image may have %d", h.Name, h.Size, int64(MaxImageBytes))
	}
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return pathError(h.Name, err)
	}
	f := os.NewFile(uintptr(fd), h.Name)
	defer f.Close()
	w := &sparse{f: f, root: u.root, written: &u.written}
	n, err := io.Copy(w, content)
	u.bytes += n
	if err == nil {
		err = f.Truncate(n)
	}
	if err != nil {
		var disk *os.PathError
		if errors.As(err, &disk) {
			return err
		}
		return readError(err)
	}
	if n != h.Size {
		return bad("entry %q has %d bytes, its header says %d", h.Name, n, h.Size)
	}
	return u.metadata(f, h)
}

// metadata sets owner, permissions and, but for directories, times.
func (u *unpacker) metadata(f *os.File, h *tar.Header) error {
	if err := f.Chown(h.Uid, h.Gid); err != nil {
		return err
	}
	if err := unix.Fchmod(int(f.Fd()), uint32(h.Mode)&permissionBits); err != nil {
		return &os.PathError{Op: "fchmod", Path: h.Name, Err: err}
	}
	if h.Typeflag == tar.TypeDir {
		return nil
	}
	ts := times(h.ModTime)
	tv := []unix.Timeval{unix.NsecToTimeval(ts[0].Nano()), unix.NsecToTimeval(ts[1].Nano())}
	return pathErrorOrNil(h.Name, unix.Futimes(int(f.Fd()), tv))
}

// opaque makes overlayfs hide what layers below have in the directory.
func (u *unpacker) opaque(dir *os.File) error {
	return pathErrorOrNil(dir.Name(), unix.Fsetxattr(int(dir.Fd()), "trusted.overlay.opaque", []byte("y"), 0))
}

// hide makes overlayfs's whiteout, a character device 0/0. An entry of the same layer with the name is newer and stays; a
// directory of it then hides the content of the one below.
func (u *unpacker) hide(parent *os.File, dir, name string) error {
	err := unix.Mknodat(int(parent.Fd()), name, unix.S_IFCHR, 0)
	if !errors.Is(err, unix.EEXIST) {
		return pathErrorOrNil(path.Join(dir, name), err)
	}
	if k, err := kind(parent, name); err != nil || k != unix.S_IFDIR {
		return pathErrorOrNil(path.Join(dir, name), err)
	}
	f, err := u.openDir(path.Join(dir, name))
	if err != nil {
		return pathError(path.Join(dir, name), err)
	}
	defer f.Close()
	return u.opaque(f)
}

func pathErrorOrNil(name string, err error) error {
	if err == nil {
		return nil
	}
	return pathError(name, err)
}
