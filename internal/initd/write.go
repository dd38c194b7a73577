package initd

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// defaultFileMode and parentMode are for what did not exist before.
	defaultFileMode = 0o644
	parentMode      = 0o755
	// maxLinks is how many symbolic links at the end of a path are followed; the kernel's own limit.
	maxLinks = 40
)

// writeFile replaces a file by what the stream brings, in one step at the end, or leaves everything as it was.
func (d *daemon) writeFile(s *stream, req wire.Request) {
	var t *target
	var werr *wire.Error
	d.files.call(func() { t, werr = openTarget(req) })
	if werr != nil {
		s.fail(werr)
		return
	}
	t.files = d.files
	defer d.files.call(t.discard)
	if err := wire.Write(s, wire.TypeOK, nil); err != nil {
		return
	}
	if werr := t.receive(s, req.Limit); werr != nil {
		s.fail(werr)
		return
	}
	if t.temp != "" { // Not committed: the sender went away.
		return
	}
	_ = wire.Write(s, wire.TypeOK, nil)
}

// target is a file that is being written beside the one that it will replace.
type target struct {
	files files
	path  string // as requested, for messages
	dir   int    // the directory that it is in
	name  string
	temp  string // its temporary name, "" once it has its own
	fd    int
}

// openTarget finds the directory, following links at the end of the path as a shell's redirection would, and makes the
// temporary file with the permission that the file will have.
func openTarget(req wire.Request) (*target, *wire.Error) {
	if err := checkPath(req.Path); err != nil {
		return nil, err
	}
	dir, name, err := locate(req.Path)
	if errors.Is(err, errPseudo) {
		return nil, fileError(req.Path, wire.CodeIOFailed, err.Error())
	}
	if err != nil {
		return nil, writeError(req.Path, err)
	}
	t := &target{path: req.Path, dir: dir, name: name, fd: -1}
	old, werr := t.existing()
	if werr != nil {
		t.discard()
		return nil, werr
	}
	if err := t.create(req.Mode, old); err != nil {
		t.discard()
		return nil, writeError(req.Path, err)
	}
	return t, nil
}

// locate returns the directory, made if missing, and the last name of p.
func locate(p string) (dir int, name string, err error) {
	for range maxLinks {
		slash := strings.LastIndexByte(p, '/')
		parent, name := p[:slash+1], p[slash+1:]
		if name == "" || name == "." || name == ".." {
			return 0, "", unix.EISDIR
		}
		dir, err := openDir(parent)
		if err != nil {
			return 0, "", err
		}
		link, err := readLink(dir, name)
		if err != nil {
			closeFD(dir)
			return 0, "", err
		}
		if link == "" {
			return dir, name, nil
		}
		closeFD(dir)
		if p = link; !strings.HasPrefix(link, "/") {
			p = parent + link // Not cleaned: the kernel must resolve .. after links, not we before.
		}
	}
	return 0, "", unix.ELOOP
}

// errPseudo says that a path ends on a file system where files are no data. What a link says there is no path either.
var errPseudo = errors.New("it is on a pseudo file system, where no files can be made")

// openDir opens a directory of a real file system, and makes it first if it is missing.
func openDir(p string) (int, error) {
	fd, err := openOrMakeDir(p)
	if err != nil {
		return 0, err
	}
	var fsys unix.Statfs_t
	err = unix.Fstatfs(fd, &fsys)
	if _, isPseudo := pseudo[fsys.Type]; err == nil && isPseudo {
		err = errPseudo
	}
	if err != nil {
		closeFD(fd)
		return 0, err
	}
	return fd, nil
}

func openOrMakeDir(p string) (int, error) {
	fd, err := openAt(unix.AT_FDCWD, p, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) {
		if err := os.MkdirAll(p, parentMode); err != nil {
			return 0, reason(err)
		}
		fd, err = openAt(unix.AT_FDCWD, p, unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	return fd, err
}

// readLink returns what a link says; "" for anything that is no link or not there.
func readLink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	switch {
	case err == nil:
		return string(buf[:n]), nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return "", nil
	default:
		return "", err
	}
}

// existing looks at the file that is to be replaced, if there is one: it must be one that could be written as it is.
func (t *target) existing() (*unix.Stat_t, *wire.Error) {
	fd, err := openAt(t.dir, t.name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, writeError(t.path, err)
	}
	defer closeFD(fd)
	st, werr := checkRegular(fd, t.path)
	if werr != nil {
		return nil, werr
	}
	if err := unix.Faccessat(t.dir, t.name, unix.W_OK, 0); err != nil {
		return nil, writeError(t.path, err)
	}
	return st, nil
}

// create makes the temporary file.
func (t *target) create(mode uint32, old *unix.Stat_t) error {
	temp, err := tempName()
	if err != nil {
		return err
	}
	if mode == 0 {
		mode = defaultFileMode
	}
	if old != nil {
		mode = old.Mode
	}
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW
	if t.fd, err = openAt(t.dir, temp, flags, 0o600); err != nil {
		return err
	}
	t.temp = temp
	if old != nil {
		_ = unix.Fchown(t.fd, int(old.Uid), int(old.Gid)) // Only as far as rights go; the content matters more.
	}
	return unix.Fchmod(t.fd, mode&0o7777)
}

func tempName() (string, error) {
	var r [8]byte
	if _, err := unix.Getrandom(r[:], 0); err != nil {
		return "", fmt.Errorf("random name: %w", err)
	}
	return ".berm-" + hex.EncodeToString(r[:]), nil
}

// receive writes until End and then puts the file in place. It returns nil without doing so when the sender goes away.
func (t *target) receive(s *stream, limit int64) *wire.Error {
	var total int64
	for {
		f, err := s.frames.Read()
		if err != nil {
			return nil //nolint:nilerr // There is nobody left to tell.
		}
		switch f.Type {
		case wire.TypeData:
			total += int64(len(f.Payload))
			if limit > 0 && total > limit {
				return tooLarge(t.path, total, limit)
			}
			t.files.call(func() { err = writeAll(t.fd, f.Payload) })
			if err != nil {
				return writeError(t.path, err)
			}
		case wire.TypeEnd:
			var werr *wire.Error
			t.files.call(func() { werr = t.commit() })
			return werr
		default:
			return fileError(t.path, wire.CodeInvalid, fmt.Sprintf("frame of type %d while a file is written", f.Type))
		}
	}
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		p = p[max(n, 0):]
	}
	return nil
}

// commit gives the file its name. A late error of the file system (some report a full disk at the end) still prevents it.
func (t *target) commit() *wire.Error {
	err := unix.Close(t.fd)
	t.fd = -1
	if err == nil {
		err = unix.Renameat(t.dir, t.temp, t.dir, t.name)
	}
	if err != nil {
		return writeError(t.path, err)
	}
	t.temp = ""
	return nil
}

// discard removes what was not committed.
func (t *target) discard() {
	if t.fd >= 0 {
		closeFD(t.fd)
	}
	if t.temp != "" {
		_ = unix.Unlinkat(t.dir, t.temp, 0)
	}
	closeFD(t.dir)
}

// writeError is systemError for writing, where a missing parent means that it could not be made.
func writeError(p string, err error) *wire.Error {
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return fileError(p, wire.CodeIOFailed, "a parent of it is not a directory")
	case errors.Is(err, unix.EBUSY):
		return fileError(p, wire.CodeIOFailed, "it is a mount point and cannot be replaced")
	}
	return systemError(p, err)
}
