package initd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

const (
	// maxPartials is how many beginnings of files are kept; the oldest goes for a new one.
	maxPartials = 16
	// partialKept is how long the beginning of a file is kept that nobody goes on with.
	partialKept = time.Hour
	// partialPrefix begins the names of beginnings of files.
	partialPrefix = ".berm-part-"
)

// fileID is one file, under whatever names.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID { return fileID{dev: st.Dev, ino: st.Ino} }

// partials are the beginnings of files whose writing broke off. They are known by what they are and not by their names, which
// the sandbox's processes can give to anything. The zero value has none.
type partials struct {
	mu   sync.Mutex
	list map[partialKey]*partial
}

// partialKey is the place of the file that is being written.
type partialKey struct {
	dir  fileID
	name string
}

// partial is the beginning of a file.
type partial struct {
	path string // of the directory
	temp string
	file fileID
	// busy: it is being written. since is when that ended.
	busy  bool
	since time.Time
	end   *time.Timer
}

// begin takes a place for a new beginning. nil says that it is taken, or that there are too many: what is written then is not kept.
func (l *partials) begin(key partialKey, path string) *partial {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.list[key]; old != nil && old.busy {
		return nil
	} else if old != nil {
		l.drop(key, old)
	}
	if len(l.list) >= maxPartials && !l.dropOldest() {
		return nil
	}
	if l.list == nil {
		l.list = map[partialKey]*partial{}
	}
	sum := sha256.Sum256([]byte(key.name))
	p := &partial{path: path, temp: partialPrefix + hex.EncodeToString(sum[:8]), busy: true}
	l.list[key] = p
	return p
}

// again takes what was left at a place, nil if there is nothing.
func (l *partials) again(key partialKey) (p *partial, busy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p = l.list[key]
	if p == nil || p.busy {
		return nil, p != nil
	}
	p.busy = true
	p.end.Stop()
	return p, false
}

// look returns what is known of a place.
func (l *partials) look(key partialKey) (p partial, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := l.list[key]; found != nil {
		return *found, true
	}
	return partial{}, false
}

// made says which file a beginning is.
func (l *partials) made(p *partial, is fileID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.file = is
}

// nameOf returns the name of the file that a file is the beginning of, "" for what is none.
func (l *partials) nameOf(is fileID) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, p := range l.list {
		if p.file == is {
			return key.name
		}
	}
	return ""
}

// keep leaves what was written for another to go on with, for a while.
func (l *partials) keep(key partialKey, p *partial, remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := time.Now()
	p.busy, p.since = false, since
	p.end = time.AfterFunc(partialKept, func() {
		l.mu.Lock()
		over := l.list[key] == p && !p.busy && p.since.Equal(since)
		if over {
			delete(l.list, key)
		}
		l.mu.Unlock()
		if over {
			remove()
		}
	})
}

// forget is done with a place.
func (l *partials) forget(key partialKey, p *partial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list[key] == p {
		delete(l.list, key)
	}
}

// drop removes what nobody writes.
func (l *partials) drop(key partialKey, p *partial) {
	p.end.Stop()
	delete(l.list, key)
	p.remove()
}

func (l *partials) dropOldest() bool {
	var oldest partialKey
	var found *partial
	for key, p := range l.list {
		if !p.busy && (found == nil || p.since.Before(found.since)) {
			oldest, found = key, p
		}
	}
	if found != nil {
		l.drop(oldest, found)
	}
	return found != nil
}

// remove removes the file, if it is still what is there.
func (p *partial) remove() {
	dir, err := openAt(unix.AT_FDCWD, p.path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	defer closeFD(dir)
	if p.isAt(dir) {
		_ = unix.Unlinkat(dir, p.temp, 0)
	}
}

// isAt reports whether the name in a directory is still that of the file, and the file nobody else's.
func (p *partial) isAt(dir int) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, p.temp, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && p.is(&st)
}

// is says that a file is the one that was made here, under one name, and that nobody was given it.
func (p *partial) is(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG && idOf(st) == p.file && st.Nlink == 1 && int(st.Uid) == unix.Geteuid()
}

// create makes the file. What has its name is removed, unless it is a directory.
func (p *partial) create(dir int) (fd int, is fileID, err error) {
	if err := unix.Unlinkat(dir, p.temp, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return 0, is, err
	}
	if fd, err = openAt(dir, p.temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600); err != nil {
		return 0, is, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		closeFD(fd)
		return 0, is, err
	}
	return fd, idOf(&st), nil
}

// open opens the file again, and nothing that was put in its place.
func (p *partial) open(dir int) (int, error) {
	if !p.isAt(dir) { // Not even opened: it may be a pipe or a device.
		return 0, errExchanged
	}
	fd, err := openAt(dir, p.temp, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || !p.is(&st) {
		closeFD(fd)
		return 0, errExchanged
	}
	return fd, nil
}

var errExchanged = errors.New("what was left of it was exchanged")

// prefixChunk is how much is read at a time to make a digest, in bytes.
const prefixChunk = 256 << 10

// checkPrefix reads the first n bytes of a file and says whether they have a digest. It stops when stop is closed.
func (d *daemon) checkPrefix(fd int, p string, n int64, want []byte, stop <-chan struct{}) *wire.Error {
	d.digests <- struct{}{}
	defer func() { <-d.digests }()
	sum, buf := sha256.New(), make([]byte, prefixChunk)
	for at := int64(0); at < n; {
		if isClosed(stop) {
			return fileError(p, wire.CodeIOFailed, "nobody waits for it any more")
		}
		var got int
		var err error
		d.files.call(func() { got, err = unix.Pread(fd, buf[:min(int64(len(buf)), n-at)], at) })
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return systemError(p, err)
		case got == 0:
			return changed(p, fmt.Sprintf("it ends after %d bytes", at))
		default:
			sum.Write(buf[:got])
			at += int64(got)
		}
	}
	if string(sum.Sum(nil)) != string(want) {
		return changed(p, fmt.Sprintf("its first %d bytes are not those that were copied", n))
	}
	return nil
}

func changed(p, how string) *wire.Error {
	return fileError(p, wire.CodeChanged, "it has changed: "+how)
}

// checkOffset refuses an offset that makes no sense.
func checkOffset(req wire.Request) *wire.Error {
	switch {
	case req.Offset < 0 || req.Size < 0:
		return fileError(req.Path, wire.CodeInvalid, "offset and size cannot be negative")
	case req.Offset > 0 && len(req.Prefix) != sha256.Size:
		return fileError(req.Path, wire.CodeInvalid, fmt.Sprintf("an offset needs the SHA-256 digest of what is before it, %d bytes", sha256.Size))
	}
	return nil
}
