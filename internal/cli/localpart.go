package cli

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/core/fault"
)

// localPart is a file that is being copied here, beside the one that it will become. It is locked while somebody writes it, and
// stays when its writer dies, until the next copy to the same name.
type localPart struct {
	dir  *os.Root
	name string
	file *os.File
	temp string
	// own: it has a name that nobody looks for again.
	own  bool
	done bool
}

// partTries is how often the file is looked for again after it went away in between.
const partTries = 5

// open opens what is there of the file, or makes it. Without resume it is empty, and where somebody else writes it a file of its own.
func (p *localPart) open(resume bool) error {
	if p.file != nil {
		return nil
	}
	p.temp = partName(p.name)
	for range partTries {
		f, err := p.take()
		switch {
		case errors.Is(err, errPartGone):
			continue
		case errors.Is(err, unix.EWOULDBLOCK) && resume:
			return fault.New(fault.Conflict, fault.ReasonFileBusy, "another copy to %s is under way", p.name).
				WithHint("Without --resume this one begins anew, and the last to end counts.")
		case err == nil:
			p.file = f
			return nil
		}
		break
	}
	var r [8]byte
	if _, err := rand.Read(r[:]); err != nil {
		return err
	}
	p.temp, p.own = ".berm-"+hex.EncodeToString(r[:]), true
	f, err := p.dir.OpenFile(p.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, partMode)
	if p.file = f; err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) // As long as it is written nobody sweeps it away.
	}
	return err
}

// partName is what a file is called until it is whole.
func partName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return ".berm-part-" + hex.EncodeToString(sum[:8])
}

var errPartGone = errors.New("the file went away")

// take opens and locks the file. Others may write to the directory: what is no file of this user, or has another name, is removed and
// never opened; what others may have written to is emptied.
func (p *localPart) take() (*os.File, error) {
	seen, err := p.dir.Lstat(p.temp)
	if err == nil && !ours(seen) {
		if err := p.dir.Remove(p.temp); err != nil {
			return nil, err
		}
		err = fs.ErrNotExist
	}
	flags := os.O_RDWR | unix.O_NONBLOCK
	switch {
	case errors.Is(err, fs.ErrNotExist):
		flags |= os.O_CREATE | os.O_EXCL
	case err != nil:
		return nil, err
	}
	f, err := p.dir.OpenFile(p.temp, flags, partMode)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil, errPartGone
	}
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		// Whoever had it may have given it its name, or removed it, in between.
		is, serr := f.Stat()
		now, lerr := p.dir.Lstat(p.temp)
		switch {
		case serr != nil || lerr != nil || !ours(is) || !os.SameFile(is, now):
			err = errPartGone
		case is.Mode() != partMode:
			err = errors.Join(f.Truncate(0), f.Chmod(partMode))
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// partMode is the mode of the file until it is whole.
const partMode = 0o600

func ours(i fs.FileInfo) bool {
	st, ok := i.Sys().(*syscall.Stat_t)
	return ok && i.Mode().IsRegular() && int(st.Uid) == os.Geteuid() && st.Nlink == 1
}

func (p *localPart) size() (int64, error) {
	info, err := p.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// cut leaves the first n bytes.
func (p *localPart) cut(n int64) error { return p.file.Truncate(n) }

// finish gives the file its mode, time and name. Only another file goes for it.
func (p *localPart) finish(mode fs.FileMode, at time.Time) error {
	err := p.file.Chmod(mode)
	if err == nil {
		err = p.dir.Chtimes(p.temp, at, at)
	}
	if err == nil {
		var was fs.FileInfo
		was, err = p.dir.Lstat(p.name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = nil
		case err == nil && !was.Mode().IsRegular() && was.Mode()&fs.ModeSymlink == 0:
			err = errors.New("there is something else where a file is to be")
		}
	}
	if err == nil {
		err = p.dir.Rename(p.temp, p.name)
	}
	if err == nil {
		err = p.file.Close() // Late errors of file systems come now, when it is too late for more than to tell them.
		p.file, p.done = nil, true
	}
	return err
}

// close removes what is not kept, and reports whether something is.
func (p *localPart) close(keep bool) (kept bool) {
	if p.file == nil {
		return false
	}
	n, err := p.size()
	kept = keep && !p.own && err == nil && n > 0
	if !kept && !p.done {
		_ = p.dir.Remove(p.temp)
	}
	_ = p.file.Close()
	p.file = nil
	return kept
}
