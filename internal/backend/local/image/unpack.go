package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Whiteouts, as image layers spell them.
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	// aufsPrefix marks bookkeeping of a file system that is gone.
	aufsPrefix = ".wh..wh."
)

// unpacker writes one layer below a directory. Every name is walked from that directory element by element, through
// handles opened with openat2 that neither follow a link nor leave the directory, so that the order and content of entries
// cannot make it write elsewhere. Whiteouts become overlayfs's own.
//
// Set-user-id and set-group-id bits, file capabilities and all other extended attributes are dropped: no sandbox could use
// them (no-new-privileges), on the machine's disk they are a liability, and overlayfs takes orders from attributes.
type unpacker struct {
	root *os.File
	// parent is the directory of the last entry, kept open since entries come in directory order.
	parent     *os.File
	parentName string

	budget  int64
	bytes   int64
	entries int
	// written is how much was written to the disk since its room was looked at.
	written int64
	// dirs are directories whose times are set at the end, when nothing is written into them any more.
	dirs []dirTime
	// named is how long the names of those are together, in bytes.
	named int
}

type dirTime struct {
	name string
	at   time.Time
}

func newUnpacker(dir string, budget int64) (*unpacker, error) {
	root, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return &unpacker{root: root, budget: budget}, nil
}

func (u *unpacker) close() {
	u.forget()
	u.root.Close()
}

// run unpacks an archive up to its end mark.
func (u *unpacker) run(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return readError(err)
		}
		if err := u.count(); err != nil {
			return err
		}
		if err := u.entry(h, t); err != nil {
			return err
		}
	}
}

// count counts one entry more: of the archive, or a directory that it has not and that is made.
func (u *unpacker) count() error {
	if u.entries++; u.entries > MaxEntries {
		return bad("it has more than %d entries", MaxEntries)
	}
	if u.entries%roomEntries == 0 {
		return room(u.root)
	}
	return nil
}

// entry writes one entry.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if h.Uid < 0 || h.Gid < 0 || h.Uid > MaxID || h.Gid > MaxID {
		return bad("entry %q belongs to %d:%d; ids go up to %d", h.Name, h.Uid, h.Gid, MaxID)
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return bad("entry %q: the root is a directory", h.Name)
		}
		return u.metadata(u.root, h)
	}
	dir, base := path.Split(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(path.Clean(dir), base)
	}
	return u.create(path.Clean(dir), base, h, content)
}

// cleanName returns the relative path of an entry, "." for the root, or refuses it.
func cleanName(name string) (string, error) {
	switch {
	case name == "":
		return "", bad("an entry has no name")
	case strings.ContainsRune(name, 0):
		return "", bad("entry %q: a zero byte in the name", name)
	case len(name) > MaxName:
		return "", bad("entry %.64q…: a name of %d bytes, at most %d are possible", name, len(name), MaxName)
	case name[0] == '/':
		return "", bad("entry %q: an absolute path", name)
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", bad("entry %q: a path with ..", name)
		}
		if len(part) > MaxComponent {
			return "", bad("entry %.64q…: an element of %d bytes, at most %d are possible", name, len(part), MaxComponent)
		}
		if part != "" && part != "." {
			depth++
		}
	}
	if depth > MaxDepth {
		return "", bad("entry %.64q…: %d directories deep, at most %d are possible", name, depth, MaxDepth)
	}
	return path.Clean(name), nil
}

// create replaces whatever has the name by the entry. Only a directory is kept when the entry is one too.
func (u *unpacker) create(dir, base string, h *tar.Header, content io.Reader) error {
	if wellKnownDevice(dir, base, h) {
		return nil
	}
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeReg, tar.TypeSymlink, tar.TypeLink, tar.TypeGNUSparse:
	case tar.TypeChar, tar.TypeBlock:
		return bad("entry %q is a device", h.Name)
	case tar.TypeFifo:
		return bad("entry %q is a named pipe", h.Name)
	default:
		return bad("entry %q has the unknown type %q", h.Name, h.Typeflag)
	}
	parent, err := u.open(dir)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return u.directory(parent, dir, base, h)
	}
	if h.Typeflag == tar.TypeLink && path.Clean(h.Linkname) == path.Join(dir, base) {
		return bad("entry %q is a hard link to itself", h.Name)
	}
	if err := u.remove(parent, dir, base); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		return u.symlink(parent, base, h)
	case tar.TypeLink:
		return u.hardlink(dir, base, h)
	default:
		return u.regular(parent, base, h, content)
	}
}

// wellKnownDevice reports entries that old base images have in /dev. They are left out: /dev is always a file system of
// ours, so nothing is missed.
func wellKnownDevice(dir, base string, h *tar.Header) bool {
	if h.Typeflag != tar.TypeChar || dir != "dev" {
		return false
	}
	n, ok := map[string][2]int64{
		"null": {1, 3}, "zero": {1, 5}, "full": {1, 7}, "random": {1, 8}, "urandom": {1, 9}, "tty": {5, 0}, "console": {5, 1}, "ptmx": {5, 2},
	}[base]
	return ok && n == [2]int64{h.Devmajor, h.Devminor}
}

// whiteout hides a name, or everything, of the layers below.
func (u *unpacker) whiteout(dir, base string) error {
	if base == opaqueMarker {
		d, err := u.open(dir)
		if err != nil {
			return err
		}
		return u.opaque(d)
	}
	if strings.HasPrefix(base, aufsPrefix) {
		return nil
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return bad("entry %q hides nothing that has a name", path.Join(dir, base))
	}
	parent, err := u.open(dir)
	if err != nil {
		return err
	}
	return u.hide(parent, dir, hidden)
}

// finish sets the times of directories, last first: setting a child's changes nothing of its parent's.
func (u *unpacker) finish() error {
	for _, d := range u.dirs {
		f, err := u.openDir(d.name)
		if err != nil {
			continue // Replaced by a later entry.
		}
		err = unix.UtimesNanoAt(int(f.Fd()), ".", times(d.at), 0)
		f.Close()
		if err != nil {
			return &os.PathError{Op: "utimensat", Path: d.name, Err: err}
		}
	}
	return nil
}

func times(t time.Time) []unix.Timespec {
	if t.Before(time.Unix(0, 0)) || t.Year() > maxYear {
		t = time.Unix(0, 0)
	}
	ts := unix.NsecToTimespec(t.UnixNano())
	return []unix.Timespec{ts, ts}
}

// maxYear is the last year whose times are kept: the format can say more than file systems and int64 nanoseconds can.
const maxYear = 2200
