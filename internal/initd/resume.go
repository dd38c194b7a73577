package initd

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

// maxDigests is how many digests are made at once; more wait their turn.
const maxDigests = 2

// readFrom sends a file from an offset on, if it begins as the request says, as much as it has now.
func (d *daemon) readFrom(s *stream, req wire.Request) {
	if werr := checkOffset(req); werr != nil {
		s.fail(werr)
		return
	}
	var fd int
	var st *unix.Stat_t
	var werr *wire.Error
	d.files.call(func() { fd, st, werr = openForReading(req.Path) })
	if werr != nil {
		s.fail(werr)
		return
	}
	defer closeFD(fd)
	if req.Offset > st.Size {
		s.fail(changed(req.Path, fmt.Sprintf("it has %d bytes, fewer than the %d that were copied", st.Size, req.Offset)))
		return
	}
	if req.Offset > 0 {
		if werr := d.checkPrefix(fd, req.Path, req.Offset, req.Prefix, s.gone); werr != nil {
			s.fail(werr)
			return
		}
	}
	if err := wire.WriteJSON(s, wire.TypeOK, infoOf(st)); err != nil {
		return
	}
	d.sendRange(s, fd, req.Path, req.Offset, st.Size)
}

func infoOf(st *unix.Stat_t) wire.FileInfo {
	return wire.FileInfo{Size: st.Size, Mode: st.Mode & 0o7777, ModTime: time.Unix(st.Mtim.Unix())}
}

// untilHungUp makes a request one that ends when the other side hangs up, for one in which it has nothing more to say: gone is closed then,
// and nothing more is written, or waited for to be taken. By itself a stream would wait for minutes, with what the request holds.
func (s *stream) untilHungUp() {
	gone := make(chan struct{})
	s.gone = gone
	go func() {
		for {
			if _, err := s.frames.Read(); err != nil {
				break
			}
		}
		close(gone)
		_ = s.SetWriteDeadline(time.Now())
	}()
}

// sendRange sends Data frames and then End, or Error.
func (d *daemon) sendRange(s *stream, fd int, p string, at, end int64) {
	buf := make([]byte, wire.HeaderSize+wire.MaxData)
	for at < end {
		var n int
		var err error
		d.files.call(func() { n, err = unix.Pread(fd, buf[wire.HeaderSize:][:min(wire.MaxData, end-at)], at) })
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			s.fail(systemError(p, err))
			return
		case n == 0:
			s.fail(changed(p, fmt.Sprintf("it had %d bytes when it was opened, and ends after %d", end, at)))
			return
		}
		wire.PutHeader(buf, wire.TypeData, n)
		if _, err := s.Write(buf[:wire.HeaderSize+n]); err != nil {
			return
		}
		at += int64(n)
	}
	_ = wire.Write(s, wire.TypeEnd, nil)
}

// fileState tells how far writing a file came.
func (d *daemon) fileState(s *stream, req wire.Request) {
	var state wire.FileState
	var err error
	d.files.call(func() { state, err = d.stateOf(req) })
	if err != nil {
		s.fail(archiveError(req.Path, err))
		return
	}
	_ = wire.WriteJSON(s, wire.TypeOK, state)
}

func (d *daemon) stateOf(req wire.Request) (state wire.FileState, err error) {
	at, name, err := placeOf(req.Path, req.Name)
	if err != nil || name == "" {
		return state, err
	}
	dir, err := openAt(unix.AT_FDCWD, at, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) {
		return state, nil
	}
	if err != nil {
		return state, err
	}
	defer closeFD(dir)
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
		info := infoOf(&st)
		state.File = &info
	}
	if err := unix.Fstat(dir, &st); err != nil {
		return state, err
	}
	p, known := d.partials.look(partialKey{dir: idOf(&st), name: name})
	state.Busy = known && p.busy
	if known && !p.busy && unix.Fstatat(dir, p.temp, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && p.is(&st) {
		state.Partial = st.Size
	}
	return state, nil
}
