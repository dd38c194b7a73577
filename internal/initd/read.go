package initd

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

// readFile sends a file. What it sends never exceeds the limit, however the file grows meanwhile.
func (d *daemon) readFile(s *stream, req wire.Request) {
	var fd int
	var st *unix.Stat_t
	var werr *wire.Error
	d.files.call(func() { fd, st, werr = openForReading(req.Path) })
	if werr != nil {
		s.fail(werr)
		return
	}
	defer closeFD(fd)
	if req.Limit > 0 && st.Size > req.Limit {
		s.fail(tooLarge(req.Path, st.Size, req.Limit))
		return
	}
	info := wire.FileInfo{Size: st.Size, Mode: st.Mode & 0o7777, ModTime: time.Unix(st.Mtim.Unix())}
	if err := wire.WriteJSON(s, wire.TypeOK, info); err != nil {
		return
	}
	d.sendContent(s, fd, req)
}

// openForReading opens a regular file without waiting for anybody and without touching anything else.
func openForReading(p string) (int, *unix.Stat_t, *wire.Error) {
	if err := checkPath(p); err != nil {
		return 0, nil, err
	}
	// First without opening what it may be: opening a device or a pipe has effects.
	probe, err := openAt(unix.AT_FDCWD, p, unix.O_PATH, 0)
	if err != nil {
		return 0, nil, systemError(p, err)
	}
	_, werr := checkRegular(probe, p)
	closeFD(probe)
	if werr != nil {
		return 0, nil, werr
	}
	fd, err := openAt(unix.AT_FDCWD, p, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return 0, nil, systemError(p, err)
	}
	st, werr := checkRegular(fd, p) // It may be another file by now.
	if werr != nil {
		closeFD(fd)
		return 0, nil, werr
	}
	return fd, st, nil
}

// sendContent sends Data frames and then End, or Error.
func (d *daemon) sendContent(s *stream, fd int, req wire.Request) {
	buf := make([]byte, wire.HeaderSize+wire.MaxData)
	var sent int64
	for {
		var n int
		var err error
		d.files.call(func() { n, err = unix.Read(fd, buf[wire.HeaderSize:]) })
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			s.fail(systemError(req.Path, err))
			return
		case n == 0:
			_ = wire.Write(s, wire.TypeEnd, nil)
			return
		}
		sent += int64(n)
		if req.Limit > 0 && sent > req.Limit {
			s.fail(tooLarge(req.Path, sent, req.Limit))
			return
		}
		wire.PutHeader(buf, wire.TypeData, n)
		if _, err := s.Write(buf[:wire.HeaderSize+n]); err != nil {
			return
		}
	}
}
