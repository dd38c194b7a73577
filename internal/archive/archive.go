// Package archive turns a directory or a file into a stream and back, safely on both sides: neither what is packed nor what is
// unpacked can make it read or write outside of the directory that it was given, wait for ever, or touch what is no file.
//
// The stream is a tar archive in PAX form of regular files, directories and symbolic links. The first entry is named "." and is
// what was packed, a directory or a file; the others are named relative to it and come depth first, each directory's contents right
// behind it. Modes and modification times are kept; owners, extended attributes and hard links are not. Global PAX headers with
// the record Note say what was left out.
//
// A large file that is there in part comes from an offset on: the record Offset says from where, and Prefix which digest the content
// before it must have. Who unpacks it has said before that it has the beginning.
//
// Every name is used as one component, in a directory that is held open (os.Root) and was seen to be one: no link is ever followed,
// whoever exchanges things meanwhile.
package archive

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Limits. A stream beyond them is refused.
const (
	// MaxEntries is how many entries an archive may have.
	MaxEntries = 1 << 20
	// MaxDepth is how deep directories may be nested.
	MaxDepth = 256
	// MaxName is the longest name of an entry, in bytes.
	MaxName = 4095
	// MaxNotes is how many notes say what was left out; one more says that there are others.
	MaxNotes = 1000
	// MaxBegun is how many files of one archive may begin at an offset that was asked for.
	MaxBegun = 16
	// MinPart is the size of files from which on the beginning of one that breaks off is kept, in bytes. The others are as quickly
	// copied again.
	MinPart = 1 << 20
	// maxLink is the longest target of a symbolic link, in bytes.
	maxLink = 4095
	// listed is how many names of a directory are read at a time.
	listed = 256
	// prefixSize is the length of the digest of a beginning, in bytes.
	prefixSize = sha256.Size
	// chunk is how much content is read at a time, in bytes.
	chunk = 64 << 10
)

// Size is the PAX record of the size of a file that was packed without its content.
const Size = "BERM.size"

// Note is the PAX record of what was left out.
const Note = "BERM.note"

// Offset and Prefix are the PAX records of a file that comes without its beginning: how many bytes that has, and its SHA-256 digest in
// hexadecimal.
const (
	Offset = "BERM.offset"
	Prefix = "BERM.prefix"
)

// PartOf is the PAX record, in an archive without content, of what an interrupted copy left: the name of the file beside it that it is
// the beginning of.
const PartOf = "BERM.part-of"

// self is the name of the first entry.
const self = "."

// Options refine Pack and Unpack. The zero value works.
type Options struct {
	// KeepSetuid keeps the set-user-id and set-group-id bits, which are dropped otherwise.
	KeepSetuid bool
	// KeepLinks keeps symbolic links that lead out of what is packed or unpacked, which are left out otherwise.
	KeepLinks bool
	// Bare packs files without their content; the record Size says how much they have.
	Bare bool
	// Skip says which files are not packed.
	Skip func(name string, info fs.FileInfo) bool
	// From says of a file of MinPart bytes and more that the other side has the beginning of it: how much, and the SHA-256 digest of that. It
	// makes its system calls itself. 0 packs all of it.
	From func(name string, f *os.File, size int64) (offset int64, prefix []byte, err error)
	// PartOf names the file that another is the unfinished beginning of, "" for what is none. It is not packed, only listed.
	PartOf func(info fs.FileInfo) string
	// Large makes files of MinPart bytes and more. nil makes them as it makes all others, and refuses those without their beginning.
	Large func(dir *os.Root, name string, p Piece) (Part, error)
	// Sweep removes, from directories that are unpacked into, the unfinished files of this user whose writers were killed.
	Sweep bool
	// Enter refuses directories that are not to be looked into, with why.
	Enter func(dir *os.File) error
	// Left is told what is left out, and why.
	Left func(name, why string)
	// Progress is told of every entry, and of content as it moves.
	Progress func(entries int, bytes int64)
	// Call runs system calls on files, one or a few at a time; nil runs them at once.
	Call func(do func())
}

// Piece is what an archive brings of a file: the content from Offset on.
type Piece struct {
	// Name is that of the entry.
	Name string
	// Size is that of the whole file, Prefix the SHA-256 digest of its first Offset bytes.
	Size, Offset int64
	Prefix       []byte
}

// Part is a file that is being written under another name until it is whole. It makes its system calls itself.
type Part interface {
	io.Writer
	// Finish gives it its mode, its time and its name.
	Finish(mode fs.FileMode, at time.Time) error
	// Close is done with it, whether it was finished or not. broken says why the archive ended before the file did, nil where it did not.
	Close(broken error)
}

// Begun is a file of which whoever asks for an archive has the beginning.
type Begun struct {
	// Name is that of the entry.
	Name string `json:"name"`
	// Offset is how much is there, and Prefix its SHA-256 digest.
	Offset int64  `json:"offset"`
	Prefix []byte `json:"prefix"`
}

// ErrUnsafe is in the chain of errors about an archive that nobody packs in good faith.
var ErrUnsafe = errors.New("unsafe archive")

// ErrChanged is in the chain of errors about a file that became shorter while it was packed.
var ErrChanged = errors.New("the file changed while it was read")

func unsafe(name, format string, args ...any) error {
	return fmt.Errorf("%w: entry %q %s", ErrUnsafe, clip(name), fmt.Sprintf(format, args...))
}

// clip bounds a name in a message.
func clip(name string) string { return name[:min(len(name), 200)] }

func (o *Options) call(do func()) {
	if o.Call == nil {
		do()
		return
	}
	o.Call(do)
}

func (o *Options) left(name, why string) {
	if o.Left != nil {
		o.Left(name, why)
	}
}

func (o *Options) progress(entries int, bytes int64) {
	if o.Progress != nil {
		o.Progress(entries, bytes)
	}
}

func (o *Options) partOf(info fs.FileInfo) string {
	if o.PartOf == nil {
		return ""
	}
	return o.PartOf(info)
}

// permissions are the bits of a mode that are carried.
func (o *Options) permissions(m fs.FileMode) fs.FileMode {
	keep := fs.ModePerm | fs.ModeSticky
	if o.KeepSetuid {
		keep |= fs.ModeSetuid | fs.ModeSetgid
	}
	return m & keep
}

// modeBits are the bits of a mode above the permissions, as Unix and tar have them.
var modeBits = map[fs.FileMode]uint32{fs.ModeSticky: 0o1000, fs.ModeSetgid: 0o2000, fs.ModeSetuid: 0o4000}

// Bits returns a mode as Unix and tar have it.
func Bits(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for is, bit := range modeBits {
		if m&is != 0 {
			bits |= bit
		}
	}
	return bits
}

// Mode is the reverse of Bits.
func Mode(bits uint32) fs.FileMode {
	m := fs.FileMode(bits).Perm()
	for is, bit := range modeBits {
		if bits&bit != 0 {
			m |= is
		}
	}
	return m
}

// kindOf names what is no file, directory or link.
func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m.IsDir():
		return "a directory"
	case m.IsRegular():
		return "a file"
	default:
		return "something else"
	}
}

// OpenDir opens a directory below another by a path like that of an entry, and follows no link on the way.
func OpenDir(top *os.Root, name string) (*os.Root, error) {
	at, err := top.OpenRoot(self)
	for part := range strings.SplitSeq(name, "/") {
		if err != nil || part == self {
			break
		}
		var info fs.FileInfo
		if info, err = at.Lstat(part); err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("it is %s", kindOf(info.Mode()))}
		}
		above := at
		if err == nil {
			at, err = openSub(above, part, info)
		}
		_ = above.Close()
	}
	if err != nil {
		return nil, err
	}
	return at, nil
}

// openSub opens a directory by one name of another, and nothing that is a link.
func openSub(dir *os.Root, name string, seen fs.FileInfo) (*os.Root, error) {
	sub, err := dir.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	is, err := sub.Stat(self)
	if err == nil && !os.SameFile(seen, is) {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("it was exchanged meanwhile")}
	}
	if err != nil {
		_ = sub.Close()
		return nil, err
	}
	return sub, nil
}
