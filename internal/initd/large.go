package initd

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/shim/wire"
)

// large is what archive.Options.Large is for an archive that goes to top, an absolute path: a large file of it is written as writeFrom
// writes one, so that either can go on with what the other left.
func (d *daemon) large(top string) func(*os.Root, string, archive.Piece) (archive.Part, error) {
	return func(dir *os.Root, name string, p archive.Piece) (archive.Part, error) {
		at := top
		if p.Name != "." {
			at = path.Join(top, p.Name)
		}
		u := &upload{daemon: d, req: wire.Request{Path: at, Size: p.Size, Offset: p.Offset, Prefix: p.Prefix}, name: name, dir: -1, fd: -1}
		var werr *wire.Error
		d.files.call(func() { werr = u.openIn(dir) })
		if werr == nil && p.Offset > 0 {
			werr = u.verify()
		}
		if werr != nil {
			d.files.call(u.close)
			return nil, werr
		}
		return largePart{u}, nil
	}
}

// openIn is open in a directory that is held open.
func (u *upload) openIn(dir *os.Root) *wire.Error {
	f, err := dir.OpenFile(".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		u.dir, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		_ = f.Close()
	}
	if err != nil {
		u.dir = -1
		return archiveError(u.req.Path, err)
	}
	return u.begin(path.Dir(u.req.Path))
}

// largePart is an upload that comes in an archive.
type largePart struct{ *upload }

// Write implements archive.Part.
func (p largePart) Write(b []byte) (int, error) {
	if werr := p.write(b); werr != nil {
		return 0, werr
	}
	return len(b), nil
}

// Finish implements archive.Part.
func (p largePart) Finish(mode fs.FileMode, at time.Time) error {
	p.req.Mode, p.req.ModTime = archive.Bits(mode), at
	var werr *wire.Error
	p.daemon.files.call(func() { werr = p.commit() })
	if werr != nil {
		return werr
	}
	return nil
}

// Close implements archive.Part: what came stays when the sender went away, and not when it sent nonsense.
func (p largePart) Close(broken error) {
	if !errors.Is(broken, errSenderGone) {
		p.worthless = true
	}
	p.daemon.files.call(p.close)
}

// partOf is archive.Options.PartOf for what is in the sandbox.
func (d *daemon) partOf(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return d.partials.nameOf(fileID{dev: st.Dev, ino: st.Ino})
}

// begun is archive.Options.From for files of which the other side has the beginning. Those that begin otherwise by now are packed whole.
func (d *daemon) begun(s *stream, req wire.Request) func(string, *os.File, int64) (int64, []byte, error) {
	if len(req.Begun) == 0 {
		return nil
	}
	list := make(map[string]archive.Begun, len(req.Begun))
	for _, b := range req.Begun {
		list[b.Name] = b
	}
	return func(name string, f *os.File, size int64) (int64, []byte, error) {
		b := list[name]
		if b.Offset <= 0 || b.Offset > size {
			return 0, nil, nil
		}
		werr := d.checkPrefix(int(f.Fd()), path.Join(req.Path, name), b.Offset, b.Prefix, s.gone)
		switch {
		case werr == nil:
			return b.Offset, b.Prefix, nil
		case werr.Code == wire.CodeChanged:
			return 0, nil, nil
		}
		return 0, nil, werr
	}
}
