package initd

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/shim/wire"
)

// writeFrom writes a file whose beginning stays when the stream breaks off, or goes on with such a beginning.
func (d *daemon) writeFrom(s *stream, req wire.Request) {
	if werr := checkOffset(req); werr != nil {
		s.fail(werr)
		return
	}
	u := &upload{daemon: d, req: req, dir: -1, fd: -1}
	werr := u.run(s)
	d.files.call(u.close) // Before the answer: who has it finds the place free.
	if werr != nil {
		s.fail(werr)
	} else if u.done {
		_ = wire.Write(s, wire.TypeOK, nil)
	}
}

// run takes the file. Without an error and without u.done there is nobody to tell.
func (u *upload) run(s *stream) *wire.Error {
	var werr *wire.Error
	u.daemon.files.call(func() { werr = u.open() })
	if werr == nil && u.req.Offset > 0 {
		werr = u.verify()
	}
	if werr != nil {
		return werr
	}
	if err := wire.Write(s, wire.TypeOK, nil); err != nil {
		return nil //nolint:nilerr // Its caller is gone.
	}
	return u.receive(s)
}

// upload is a file that is being written beside the one that it will replace.
type upload struct {
	daemon *daemon
	req    wire.Request
	dir    int
	name   string
	fd     int
	key    partialKey
	part   *partial
	// kept: the place is ours, and what is written stays when it breaks off.
	kept bool
	// worthless: what is written is nothing to go on with.
	worthless bool
	done      bool
}

// open finds the place.
func (u *upload) open() *wire.Error {
	at, name, err := placeOf(u.req.Path, u.req.Name)
	if err != nil {
		return archiveError(u.req.Path, err)
	}
	if name == "" {
		return fileError(u.req.Path, wire.CodeIsDirectory, "it is a directory")
	}
	u.name = name
	if u.dir, err = openDir(at); err != nil {
		u.dir = -1
		return uploadError(u.req.Path, err)
	}
	return u.begin(at)
}

// begin finds the beginning that is there, or makes one. The directory is open; at is its path.
func (u *upload) begin(at string) *wire.Error {
	if err := u.replaceable(); err != nil {
		return uploadError(u.req.Path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(u.dir, &st); err != nil {
		return systemError(u.req.Path, err)
	}
	u.key = partialKey{dir: idOf(&st), name: u.name}
	if u.req.Offset > 0 {
		return u.reopen()
	}
	if u.part = u.daemon.partials.begin(u.key, at); u.part != nil {
		if err := u.create(); err == nil {
			u.kept = true
			return nil
		}
		u.daemon.partials.forget(u.key, u.part)
	}
	// Somebody else writes it too, or something stands in the way: this one goes its own way, and the last to end counts.
	temp, err := tempName()
	if err == nil {
		u.part = &partial{path: at, temp: temp}
		err = u.create()
	}
	if err != nil {
		return uploadError(u.req.Path, err)
	}
	return nil
}

func (u *upload) create() error {
	fd, is, err := u.part.create(u.dir)
	if err != nil {
		return err
	}
	u.fd = fd
	u.daemon.partials.made(u.part, is)
	return nil
}

// reopen opens the beginning that is there.
func (u *upload) reopen() *wire.Error {
	part, busy := u.daemon.partials.again(u.key)
	switch {
	case busy:
		return fileError(u.req.Path, wire.CodeBusy, "another copy to it is under way")
	case part == nil:
		return changed(u.req.Path, "nothing is left of an earlier copy")
	}
	u.part, u.kept, u.worthless = part, true, true // Until it is verified.
	fd, err := part.open(u.dir)
	if err != nil {
		return changed(u.req.Path, err.Error())
	}
	u.fd = fd
	return nil
}

// verify makes sure that the beginning is what the caller has, and cuts off what follows.
func (u *upload) verify() *wire.Error {
	if werr := u.daemon.checkPrefix(u.fd, u.req.Path, u.req.Offset, u.req.Prefix, nil); werr != nil {
		return werr
	}
	var err error
	u.daemon.files.call(func() {
		if err = unix.Ftruncate(u.fd, u.req.Offset); err == nil {
			_, err = unix.Seek(u.fd, u.req.Offset, unix.SEEK_SET)
		}
	})
	if err != nil {
		return uploadError(u.req.Path, err)
	}
	u.worthless = false
	return nil
}

// replaceable refuses what no file may take the place of. A link is replaced, not followed.
func (u *upload) replaceable() error {
	var st unix.Stat_t
	err := unix.Fstatat(u.dir, u.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFLNK:
		return nil
	case unix.S_IFDIR:
		return unix.EISDIR
	}
	return errors.New("there is " + kindOf(st.Mode) + " where a file is to be")
}

// receive writes until End and then puts the file in place. It returns nil without doing so when the sender goes away.
func (u *upload) receive(s *stream) *wire.Error {
	total := u.req.Offset
	for {
		f, err := s.frames.Read()
		if err != nil {
			return nil //nolint:nilerr // There is nobody left to tell.
		}
		switch f.Type {
		case wire.TypeData:
			if total += int64(len(f.Payload)); total > u.req.Size {
				u.worthless = true
				return fileError(u.req.Path, wire.CodeInvalid, fmt.Sprintf("more came than the %d bytes that it was to have", u.req.Size))
			}
			if werr := u.write(f.Payload); werr != nil {
				return werr
			}
		case wire.TypeEnd:
			if total != u.req.Size {
				u.worthless = true
				return fileError(u.req.Path, wire.CodeInvalid, fmt.Sprintf("%d bytes came of the %d that it was to have", total, u.req.Size))
			}
			var werr *wire.Error
			u.daemon.files.call(func() { werr = u.commit() })
			return werr
		default:
			return fileError(u.req.Path, wire.CodeInvalid, fmt.Sprintf("frame of type %d while a file is written", f.Type))
		}
	}
}

// write adds to the file.
func (u *upload) write(p []byte) *wire.Error {
	var err error
	u.daemon.files.call(func() { err = writeAll(u.fd, p) })
	if err != nil {
		u.worthless = true // A full disk is not to stay full.
		return uploadError(u.req.Path, err)
	}
	return nil
}

// commit gives the file its mode, time and name.
func (u *upload) commit() *wire.Error {
	u.worthless = true // Nothing of what fails here is better the next time.
	err := unix.Fchmod(u.fd, u.req.Mode&0o7777)
	if err == nil && !u.req.ModTime.IsZero() {
		at := unix.NsecToTimespec(u.req.ModTime.UnixNano())
		err = unix.UtimesNanoAt(u.dir, u.part.temp, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil && !u.part.isAt(u.dir) {
		return changed(u.req.Path, errExchanged.Error())
	}
	if err == nil { // A late error of the file system (some report a full disk at the end) still prevents it.
		err = unix.Close(u.fd)
		u.fd = -1
	}
	if err == nil {
		err = u.replaceable()
	}
	if err == nil {
		err = unix.Renameat(u.dir, u.part.temp, u.dir, u.name)
	}
	if err != nil {
		return uploadError(u.req.Path, err)
	}
	u.done = true
	return nil
}

// close keeps what is worth to go on with, and removes what is not.
func (u *upload) close() {
	if u.fd >= 0 {
		closeFD(u.fd)
	}
	switch {
	case u.part == nil:
	case u.kept && !u.done && !u.worthless:
		u.daemon.partials.keep(u.key, u.part, func() { u.daemon.files.call(u.part.remove) })
	default:
		if !u.done && u.part.isAt(u.dir) {
			_ = unix.Unlinkat(u.dir, u.part.temp, 0)
		}
		if u.kept {
			u.daemon.partials.forget(u.key, u.part)
		}
	}
	if u.dir >= 0 {
		closeFD(u.dir)
	}
}

// uploadError is writeError, with the refusal of pseudo file systems.
func uploadError(p string, err error) *wire.Error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return fileError(p, wire.CodeIOFailed, err.Error())
	}
	return writeError(p, err)
}
