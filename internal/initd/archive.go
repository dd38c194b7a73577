package initd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/shim/wire"
)

// maxArchives is how many archives are packed or unpacked at once; more wait their turn.
const maxArchives = 4

// readArchive sends a file or a directory as an archive. All of the sandbox's is in it, links and modes as they are: what of
// that is wanted elsewhere is decided there.
func (d *daemon) readArchive(s *stream, req wire.Request) {
	d.archives <- struct{}{}
	defer func() { <-d.archives }()
	var dir *os.Root
	var name string
	var info fs.FileInfo
	var err error
	d.files.call(func() { dir, name, info, err = openTree(req.Path) })
	if err != nil {
		s.fail(archiveError(req.Path, err))
		return
	}
	defer func() { _ = dir.Close() }()
	if err := wire.WriteJSON(s, wire.TypeOK, wire.FileInfo{Size: info.Size(), Mode: uint32(info.Mode().Perm()), ModTime: info.ModTime()}); err != nil {
		return
	}
	w := &dataWriter{to: s, buf: make([]byte, wire.HeaderSize+wire.MaxData), used: wire.HeaderSize}
	o := archive.Options{
		KeepSetuid: true, KeepLinks: true, Bare: req.Bare, Enter: noPseudo, Call: d.files.call, PartOf: d.partOf, From: d.begun(s, req),
	}
	if len(req.Skip) > 0 {
		skip := make(map[string]bool, len(req.Skip))
		for _, name := range req.Skip {
			skip[name] = true
		}
		o.Skip = func(name string, _ fs.FileInfo) bool { return skip[name] }
	}
	err = archive.Pack(w, dir, name, o)
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		s.fail(archiveError(req.Path, err))
		return
	}
	_ = wire.Write(s, wire.TypeEnd, nil)
}

// writeArchive makes what the stream brings: in the directory at the path, under the name of the request, or at the path
// where there is no directory.
func (d *daemon) writeArchive(s *stream, req wire.Request) {
	d.archives <- struct{}{}
	defer func() { <-d.archives }()
	var dir *os.Root
	var at, name string
	var err error
	d.files.call(func() { dir, at, name, err = openPlace(req.Path, req.Name) })
	if err != nil {
		s.fail(archiveError(req.Path, err))
		return
	}
	defer func() { _ = dir.Close() }()
	if err := wire.Write(s, wire.TypeOK, nil); err != nil {
		return
	}
	r := &dataReader{from: s.frames}
	err = archive.Unpack(r, dir, name, archive.Options{KeepSetuid: true, KeepLinks: true, Call: d.files.call, Large: d.large(path.Join(at, name))})
	if err == nil {
		_, err = io.Copy(io.Discard, r) // Padding; and it must end as it should.
	}
	if err != nil {
		s.fail(archiveError(req.Path, err))
		return
	}
	_ = wire.Write(s, wire.TypeOK, nil)
}

// openTree opens the directory that what is to be packed is in, and returns its name there. A link at the end is followed, as a
// shell does with what it is given.
func openTree(p string) (dir *os.Root, name string, info fs.FileInfo, err error) {
	if werr := checkPath(p); werr != nil {
		return nil, "", nil, werr
	}
	if p, err = followEnd(p); err != nil {
		return nil, "", nil, err
	}
	name = path.Base(p)
	parent := path.Dir(strings.TrimRight(p, "/"))
	if name == "/" || name == "." || name == ".." {
		parent, name = p, "."
	}
	if dir, err = openRoot(parent); err != nil {
		return nil, "", nil, err
	}
	if info, err = dir.Lstat(name); err == nil && !info.IsDir() && strings.HasSuffix(p, "/") {
		err = unix.ENOTDIR
	}
	if err == nil && !info.IsDir() {
		err = checkEntry(dir)
	}
	if err != nil {
		_ = dir.Close()
		return nil, "", nil, reason(err)
	}
	return dir, name, info, nil
}

// openPlace opens the directory that an archive goes to, making what is missing, and returns its path and the name that the archive
// gets there.
func openPlace(p, name string) (dir *os.Root, at, as string, err error) {
	if at, as, err = placeOf(p, name); err != nil {
		return nil, "", "", err
	}
	if as == "" {
		as = "."
	}
	fd, err := openDir(at) // It makes what is missing, and refuses pseudo file systems.
	if err != nil {
		return nil, "", "", err
	}
	closeFD(fd)
	dir, err = openRoot(at)
	return dir, at, as, err
}

// placeOf returns the directory that what is written to p goes to, and its name there: where p is a directory, the one given.
func placeOf(p, name string) (at, as string, err error) {
	if werr := checkPath(p); werr != nil {
		return "", "", werr
	}
	if strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
		return "", "", fileError(p, wire.CodeInvalid, fmt.Sprintf("%.80q is no name", name))
	}
	if p, err = followEnd(p); err != nil {
		return "", "", err
	}
	var st unix.Stat_t
	err = unix.Lstat(p, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR || err != nil && strings.HasSuffix(p, "/") {
		return p, name, nil
	}
	return path.Dir(p), path.Base(p), nil
}

// followEnd follows links at the end of a path; one that leads nowhere stays what it says.
func followEnd(p string) (string, error) {
	for range maxLinks {
		bare := strings.TrimRight(p, "/")
		if bare == "" {
			return "/", nil
		}
		link, err := readLink(unix.AT_FDCWD, bare)
		if err != nil || link == "" {
			return p, nil //nolint:nilerr // opening it will say what is wrong
		}
		if strings.HasPrefix(link, "/") {
			p = link
		} else {
			p = bare[:strings.LastIndexByte(bare, '/')+1] + link // Not cleaned: the kernel must resolve .. after links.
		}
	}
	return "", unix.ELOOP
}

// openRoot opens a directory that can be reached without the links in /proc.
func openRoot(p string) (*os.Root, error) {
	fd, err := openAt(unix.AT_FDCWD, p, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer closeFD(fd)
	var want unix.Stat_t
	if err := unix.Fstat(fd, &want); err != nil {
		return nil, err
	}
	dir, err := os.OpenRoot(p)
	if err != nil {
		return nil, reason(err)
	}
	info, err := dir.Stat(".")
	if err == nil {
		if got, ok := info.Sys().(*syscall.Stat_t); !ok || got.Dev != want.Dev || got.Ino != want.Ino {
			err = unix.ESTALE
		}
	}
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}

// noPseudo refuses directories of file systems whose files are no data.
func noPseudo(dir *os.File) error {
	var fsys unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fsys); err != nil {
		return err
	}
	if name, ok := pseudo[fsys.Type]; ok {
		return fmt.Errorf("it is on the pseudo file system %s", name)
	}
	return nil
}

func checkEntry(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return noPseudo(f)
}

// archiveError says what is wrong with which file.
func archiveError(p string, err error) *wire.Error {
	var werr *wire.Error
	var perr *fs.PathError
	switch {
	case errors.As(err, &werr):
		return werr
	case errors.Is(err, archive.ErrUnsafe):
		return fileError(p, wire.CodeInvalid, err.Error())
	case errors.As(err, &perr):
		if perr.Path != "" && perr.Path != "." && !path.IsAbs(perr.Path) {
			p = path.Join(p, perr.Path)
		}
		err = perr.Err
	}
	return systemError(p, err)
}

// dataWriter sends Data frames.
type dataWriter struct {
	to   io.Writer
	buf  []byte
	used int
}

func (w *dataWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := copy(w.buf[w.used:], rest)
		w.used, rest = w.used+n, rest[n:]
		if w.used == len(w.buf) {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func (w *dataWriter) flush() error {
	if w.used == wire.HeaderSize {
		return nil
	}
	wire.PutHeader(w.buf, wire.TypeData, w.used-wire.HeaderSize)
	_, err := w.to.Write(w.buf[:w.used])
	w.used = wire.HeaderSize
	return err
}

// errSenderGone is the end of a stream without End.
var errSenderGone = errors.New("the sender went away")

// dataReader takes Data frames until End.
type dataReader struct {
	from *wire.Reader
	rest []byte
	over bool
}

func (r *dataReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.over {
			return 0, io.EOF
		}
		f, err := r.from.Read()
		switch {
		case err != nil:
			return 0, errSenderGone
		case f.Type == wire.TypeEnd:
			r.over = true
		case f.Type == wire.TypeData:
			r.rest = f.Payload
		default:
			return 0, fmt.Errorf("frame of type %d in an archive", f.Type)
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
