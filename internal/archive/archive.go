// Package archive turns a directory or a file into a stream and back, safely on both sides: neither what is packed nor what is
// unpacked can make it read or write outside of the directory that it was given, wait for ever, or touch what is no file.
//
// The stream is a tar archive in PAX form of regular files, directories and symbolic links. The first entry is named "." and is
// what was packed, a directory or a file; the others are named relative to it and come depth first, each directory's contents right
// behind it. Modes and modification times are kept; owners, extended attributes and hard links are not. Global PAX headers with
// the record Note say what was left out.
//
// Every name is used as one component, in a directory that is held open (os.Root) and was seen to be one: no link is ever followed,
// whoever exchanges things meanwhile.
package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Limits. A stream beyond them is refused.
const (
	// MaxEntries is how many entries an archive may have.
	MaxEntries = 1 << 20
	// MaxDepth is how deep directories may be nested.
	MaxDepth = 256
	// MaxName is the longest name of an entry, in bytes.
	MaxName = 4095
	// maxLink is the longest target of a symbolic link, in bytes.
	maxLink = 4095
	// listed is how many names of a directory are read at a time.
	listed = 256
	// chunk is how much content is read at a time, in bytes.
	chunk = 64 << 10
)

// Size is the PAX record of the size of a file that was packed without its content.
const Size = "BERM.size"

// Note is the PAX record of what was left out.
const Note = "BERM.note"

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

// permissions are the bits of a mode that are carried.
func (o *Options) permissions(m fs.FileMode) fs.FileMode {
	keep := fs.ModePerm | fs.ModeSticky
	if o.KeepSetuid {
		keep |= fs.ModeSetuid | fs.ModeSetgid
	}
	return m & keep
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
