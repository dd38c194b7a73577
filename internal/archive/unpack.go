package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// Unpack makes in dir, under name, what a stream of Pack holds. name is one component. A file replaces a file, a directory is laid
// over a directory, and nothing else that is there is touched: a file where a directory is to be, or the reverse, is an error.
// Each file is replaced whole or not at all. The stream may be anybody's; what it must not hold is refused with ErrUnsafe.
func Unpack(r io.Reader, dir *os.Root, name string, o Options) error {
	u := &unpacker{stream: stream{tar: tar.NewReader(r), note: o.left}, o: o, buf: make([]byte, chunk)}
	defer u.unwind(0)
	for {
		h, err := u.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = u.entry(dir, name, h)
		}
		if err != nil {
			return err
		}
	}
	if u.entries == 0 {
		return fmt.Errorf("%w: it is empty", ErrUnsafe)
	}
	if u.left > MaxNotes {
		o.left(self, fmt.Sprintf("%d more links that lead out", u.left-MaxNotes))
	}
	return u.leave(0)
}

type unpacker struct {
	stream
	o   Options
	buf []byte
	// left is how many links were left out here.
	left int
	// open are the directories from the top to where the stream is.
	open []*openDir
	// single: the archive is one file.
	single bool
}

// openDir is a directory that is being filled.
type openDir struct {
	root *os.Root
	path string
	mode fs.FileMode
	at   time.Time
	// names are those that the archive has made in it. On a file system without case they are compared without.
	names  map[string]bool
	noCase bool
}

// entry makes one.
func (u *unpacker) entry(dir *os.Root, name string, h *tar.Header) error {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse") {
			return unsafe(h.Name, "is sparse")
		}
	}
	u.o.progress(u.entries, 0)
	as := strings.TrimSuffix(h.Name, "/")
	if u.entries == 1 {
		return u.first(dir, name, as, h)
	}
	if err := checkName(as); err != nil {
		return err
	}
	if u.single {
		return unsafe(as, "comes behind an archive of one file")
	}
	// The directories that the stream has left are done; the parent must be the one that it is in.
	parent := path.Dir(as)
	for len(u.open) > 1 && u.open[len(u.open)-1].path != parent {
		if err := u.leave(len(u.open) - 1); err != nil {
			return err
		}
	}
	d := u.open[len(u.open)-1]
	if d.path != parent {
		return unsafe(as, "is not below the directory before it")
	}
	base := path.Base(as)
	if !d.claim(base) {
		return unsafe(as, "comes twice")
	}
	return u.make(d.root, base, as, h)
}

// first makes the entry that the archive is of.
func (u *unpacker) first(dir *os.Root, name, as string, h *tar.Header) error {
	if as != self {
		return unsafe(as, "is first, and not what was packed")
	}
	switch h.Typeflag {
	case tar.TypeReg:
		u.single = true
	case tar.TypeDir:
	default:
		return unsafe(as, "is neither a file nor a directory")
	}
	if name == self && !u.single {
		info, err := dir.Stat(self)
		if err == nil {
			var own *os.Root
			if own, err = openSub(dir, self, info); err == nil {
				u.enter(own, self, h)
			}
		}
		return err
	}
	return u.make(dir, name, self, h)
}

// checkName refuses what is no plain relative path.
func checkName(as string) error {
	switch {
	case len(as) > MaxName:
		return unsafe(as, "has a name of %d bytes, the limit is %d", len(as), MaxName)
	case as == "" || as == self || path.IsAbs(as) || path.Clean(as) != as || as == ".." || strings.HasPrefix(as, "../"):
		return unsafe(as, "is no plain name below the top")
	case strings.ContainsRune(as, 0):
		return unsafe(as, "contains a zero byte")
	}
	return nil
}

// claim takes a name in a directory, once.
func (d *openDir) claim(name string) bool {
	if d.noCase {
		name = strings.ToLower(name)
	}
	if d.names[name] {
		return false
	}
	d.names[name] = true
	return true
}

// make makes an entry under one name of a directory.
func (u *unpacker) make(dir *os.Root, name, as string, h *tar.Header) (err error) {
	switch h.Typeflag {
	case tar.TypeReg:
		err = u.file(dir, name, as, h)
	case tar.TypeDir:
		if len(u.open) >= MaxDepth {
			return unsafe(as, "is nested deeper than %d", MaxDepth)
		}
		err = u.dir(dir, name, as, h)
	case tar.TypeSymlink:
		if !u.o.KeepLinks && leadsOut(path.Dir(as), h.Linkname) {
			if u.left++; u.left <= MaxNotes {
				u.o.left(as, "it is a link that leads out")
			}
			return nil
		}
		if len(h.Linkname) > maxLink || strings.ContainsRune(h.Linkname, 0) {
			return unsafe(as, "is a link to what is no path")
		}
		u.o.call(func() { err = u.link(dir, name, h.Linkname) })
	default:
		return unsafe(as, "is of type %q: only files, directories and symbolic links are taken", h.Typeflag)
	}
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		err = p.Err
	case errors.As(err, &l):
		err = l.Err
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return &fs.PathError{Op: "write", Path: as, Err: err}
	}
	return err
}

// dir makes a directory, or enters the one that is there, and leaves it open.
func (u *unpacker) dir(parent *os.Root, name, as string, h *tar.Header) error {
	var sub *os.Root
	var err error
	u.o.call(func() {
		if err = parent.Mkdir(name, 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
		var info fs.FileInfo
		if err == nil {
			info, err = parent.Lstat(name)
		}
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("there is %s where a directory is to be", kindOf(info.Mode()))
		}
		if err == nil {
			sub, err = openSub(parent, name, info)
		}
	})
	if err != nil {
		return err
	}
	u.enter(sub, as, h)
	return nil
}

func (u *unpacker) enter(sub *os.Root, as string, h *tar.Header) {
	d := &openDir{root: sub, path: as, mode: u.o.permissions(h.FileInfo().Mode()), at: h.ModTime, names: map[string]bool{}}
	if len(u.open) > 0 {
		d.noCase = u.open[0].noCase
	} else {
		u.o.call(func() { d.noCase = withoutCase(sub) })
	}
	if u.o.Sweep {
		u.o.call(func() { sweep(sub) })
	}
	u.open = append(u.open, d)
}

// withoutCase reports whether a directory takes names that differ in case for one.
func withoutCase(dir *os.Root) bool {
	name, err := tempName()
	if err != nil {
		return false
	}
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	_ = f.Close()
	defer func() { _ = dir.Remove(name) }()
	_, err = dir.Lstat(strings.ToUpper(name))
	return err == nil
}

// leave is done with the directories from the nth on: their modes may forbid to write now, and their times are final.
func (u *unpacker) leave(n int) (err error) {
	for i := len(u.open) - 1; i >= n; i-- {
		d := u.open[i]
		u.o.call(func() {
			err = d.root.Chmod(self, d.mode)
			if err == nil && !d.at.IsZero() {
				err = d.root.Chtimes(self, d.at, d.at)
			}
		})
		u.unwind(i)
		if err != nil {
			return err
		}
	}
	return nil
}

// unwind closes directories as they are.
func (u *unpacker) unwind(n int) {
	for i := len(u.open) - 1; i >= n; i-- {
		_ = u.open[i].root.Close()
	}
	u.open = u.open[:min(n, len(u.open))]
}

// link makes a symbolic link, in place of a link or a file.
func (u *unpacker) link(dir *os.Root, name, target string) error {
	temp, err := tempName()
	if err == nil {
		err = dir.Symlink(target, temp)
	}
	if err != nil {
		return err
	}
	if err = replace(dir, temp, name); err != nil {
		_ = dir.Remove(temp)
	}
	return err
}

// file writes beside the file that will be replaced, and replaces it when all is there.
func (u *unpacker) file(dir *os.Root, name, as string, h *tar.Header) error {
	piece, err := pieceOf(as, h)
	if err != nil {
		return err
	}
	open := u.small
	switch {
	case u.o.Large != nil && piece.Size >= MinPart:
		open = u.o.Large
	case piece.Offset > 0:
		return unsafe(as, "comes without its beginning, which nobody has")
	}
	f, err := open(dir, name, piece)
	if err != nil {
		return err
	}
	broken, err := u.content(f)
	if err == nil && broken == nil {
		err = f.Finish(u.o.permissions(h.FileInfo().Mode()), h.ModTime)
	}
	f.Close(broken)
	if broken != nil {
		return broken
	}
	return err
}

// content writes what comes of a file. broken is an error of the stream, err one of the file.
func (u *unpacker) content(f Part) (broken, err error) {
	for {
		n, rerr := u.tar.Read(u.buf)
		if n > 0 {
			if _, err := f.Write(u.buf[:n]); err != nil {
				return nil, err
			}
			u.o.progress(u.entries, int64(n))
		}
		if errors.Is(rerr, io.EOF) {
			return nil, nil
		}
		if rerr != nil {
			return rerr, nil
		}
	}
}
