package archive

import (
	"archive/tar"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Pack writes what is at name in dir, a directory or a file, and closes neither. name is one component, or "." for dir itself.
// What is neither file, directory nor link is left out; what cannot be read is an error.
func Pack(w io.Writer, dir *os.Root, name string, o Options) error {
	p := &packer{tar: tar.NewWriter(w), o: o, buf: make([]byte, chunk)}
	var info fs.FileInfo
	var err error
	o.call(func() { info, err = dir.Lstat(name) })
	if err != nil {
		return err
	}
	switch {
	case info.Mode().IsRegular():
		err = p.file(dir, name, self, info)
	case !info.IsDir():
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it is %s", kindOf(info.Mode()))}
	case name == self:
		err = p.contents(dir, self, info, 0)
	default:
		err = p.dir(dir, name, self, info, 0)
	}
	if err == nil && p.left > MaxNotes {
		err = p.tell(self, fmt.Sprintf("%d more are left out that are not named", p.left-MaxNotes))
	}
	if err != nil {
		return err
	}
	return p.tar.Close()
}

type packer struct {
	tar     *tar.Writer
	o       Options
	buf     []byte
	entries int
	// left is how much was left out.
	left int
}

// header writes one.
func (p *packer) header(as string, info fs.FileInfo, link string) error {
	return p.headerOf(as, info, link, Piece{})
}

// headerOf writes the header of a file that may come without its beginning.
func (p *packer) headerOf(as string, info fs.FileInfo, link string, piece Piece) error {
	if p.entries++; p.entries > MaxEntries {
		return fmt.Errorf("more than %d files and directories", MaxEntries)
	}
	if len(as) > MaxName {
		return fmt.Errorf("%q…: a path of %d bytes, the limit is %d", clip(as), len(as), MaxName)
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name, h.Mode, h.Format = as, int64(Bits(p.o.permissions(info.Mode()))), tar.FormatPAX
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	switch {
	case p.o.Bare && h.Typeflag == tar.TypeReg:
		h.PAXRecords, h.Size = map[string]string{Size: strconv.FormatInt(h.Size, 10)}, 0
		if of := p.o.partOf(info); of != "" {
			h.PAXRecords[PartOf] = of
		}
	case piece.Offset > 0:
		h.PAXRecords = map[string]string{Offset: strconv.FormatInt(piece.Offset, 10), Prefix: hex.EncodeToString(piece.Prefix)}
		h.Size -= piece.Offset
	}
	// Whose it is says something of the one side that the other need not know.
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	p.o.progress(p.entries, 0)
	return p.tar.WriteHeader(h)
}

// note tells the other side what was left out, as far as somebody may want to read it.
func (p *packer) note(name, why string) error {
	if p.left++; p.left > MaxNotes {
		return nil
	}
	return p.tell(name, why)
}

func (p *packer) tell(name, why string) error {
	p.o.left(name, why)
	return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{Note: clip(name) + "\n" + why}})
}

// entry writes what is at name in dir, under the name as.
func (p *packer) entry(dir *os.Root, name, as string, depth int) error {
	var info fs.FileInfo
	var err error
	p.o.call(func() { info, err = dir.Lstat(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil // It went away since it was listed.
	}
	if err != nil {
		return named(err, as)
	}
	switch m := info.Mode(); {
	case m.IsRegular():
		return p.file(dir, name, as, info)
	case m.IsDir():
		return p.dir(dir, name, as, info, depth)
	case m&fs.ModeSymlink != 0:
		return p.link(dir, name, as, info)
	default:
		return p.note(as, "it is "+kindOf(m))
	}
}

func (p *packer) link(dir *os.Root, name, as string, info fs.FileInfo) error {
	var target string
	var err error
	p.o.call(func() { target, err = dir.Readlink(name) })
	switch {
	case err != nil:
		return named(err, as)
	case !p.o.KeepLinks && leadsOut(path.Dir(as), target):
		return p.note(as, "it is a link that leads out")
	}
	return p.header(as, info, target)
}

// dir writes a directory and all that is in it.
func (p *packer) dir(parent *os.Root, name, as string, info fs.FileInfo, depth int) error {
	var sub *os.Root
	var err error
	p.o.call(func() { sub, err = openSub(parent, name, info) })
	if err != nil {
		return named(err, as)
	}
	defer p.o.call(func() { _ = sub.Close() })
	return p.contents(sub, as, info, depth)
}

func (p *packer) contents(dir *os.Root, as string, info fs.FileInfo, depth int) error {
	if depth >= MaxDepth {
		return fmt.Errorf("%q…: directories are nested deeper than %d", clip(as), MaxDepth)
	}
	var list *os.File
	var err, refused error
	p.o.call(func() {
		list, err = dir.Open(self)
		if err == nil && p.o.Enter != nil {
			refused = p.o.Enter(list)
		}
	})
	if err != nil {
		return named(err, as)
	}
	defer p.o.call(func() { _ = list.Close() })
	if refused != nil && as != self {
		return p.note(as, refused.Error())
	}
	if refused != nil {
		return refused
	}
	if err := p.header(as, info, ""); err != nil {
		return err
	}
	for {
		var names []string
		p.o.call(func() { names, err = list.Readdirnames(listed) })
		slices.Sort(names)
		for _, n := range names {
			below := n
			if as != self {
				below = as + "/" + n
			}
			if err := p.entry(dir, n, below, depth+1); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return named(err, as)
		}
	}
}

// file writes a regular file, as long as it was when it was opened.
func (p *packer) file(dir *os.Root, name, as string, seen fs.FileInfo) error {
	switch {
	case p.o.Skip != nil && p.o.Skip(as, seen):
		return nil
	case p.o.Bare:
		return p.header(as, seen, "")
	case p.o.partOf(seen) != "":
		return nil // It is as if it were not there yet.
	}
	var f *os.File
	var info fs.FileInfo
	var err error
	p.o.call(func() { f, info, err = openRegular(dir, name, seen) })
	if err != nil {
		return named(err, as)
	}
	defer p.o.call(func() { _ = f.Close() })
	piece, err := p.begin(f, as, info)
	if err == nil {
		err = p.headerOf(as, info, "", piece)
	}
	if err != nil {
		return err
	}
	return p.content(f, as, info.Size()-piece.Offset)
}

// begin finds out where the content begins that the other side has not, and goes there.
func (p *packer) begin(f *os.File, as string, info fs.FileInfo) (piece Piece, err error) {
	if p.o.From == nil || info.Size() < MinPart {
		return piece, nil
	}
	piece.Offset, piece.Prefix, err = p.o.From(as, f, info.Size())
	if err == nil && piece.Offset > 0 {
		p.o.call(func() { _, err = f.Seek(piece.Offset, io.SeekStart) })
	}
	if err != nil {
		return piece, named(err, as)
	}
	return piece, nil
}

// content writes so much of a file.
func (p *packer) content(f *os.File, as string, left int64) (err error) {
	for left > 0 {
		var n int
		p.o.call(func() { n, err = f.Read(p.buf[:min(left, chunk)]) })
		if n > 0 {
			if _, err := p.tar.Write(p.buf[:n]); err != nil {
				return err
			}
			left -= int64(n)
			p.o.progress(p.entries, int64(n))
		}
		switch {
		case errors.Is(err, io.EOF) && left > 0:
			return named(ErrChanged, as)
		case err != nil && !errors.Is(err, io.EOF):
			return named(err, as)
		}
	}
	return nil
}

// openRegular opens the file that was seen, without waiting for anybody: what is there now may be a pipe or a device.
func openRegular(dir *os.Root, name string, seen fs.FileInfo) (*os.File, fs.FileInfo, error) {
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && (!os.SameFile(seen, info) || !info.Mode().IsRegular()) {
		err = errors.New("it was exchanged meanwhile")
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// named gives an error the name of its entry in place of that of the system call.
func named(err error, as string) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return &fs.PathError{Op: "read", Path: strings.TrimPrefix(as, "./"), Err: err}
}
