package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"time"
	"unicode/utf8"

	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/core/fault"
)

// begunHere are the large files of a directory of which an earlier attempt left the beginning here. They are held, so that what is
// asked for is behind what is here.
type begunHere struct {
	parts map[string]*localPart
	size  map[string]int64
}

// find looks for them among what the sandbox has, and opens so many as one archive may begin.
func (b *begunHere) find(ctx context.Context, top *os.Root, list map[string]archive.Entry, complete []string) ([]archive.Begun, error) {
	b.parts, b.size = map[string]*localPart{}, map[string]int64{}
	done := make(map[string]bool, len(complete))
	for _, name := range complete {
		done[name] = true
	}
	var out []archive.Begun
	for name, e := range list {
		if !e.Mode.IsRegular() || e.Size < archive.MinPart || done[name] || !utf8.ValidString(name) || len(out) == archive.MaxBegun {
			continue
		}
		found, err := b.open(ctx, top, name, e.Size)
		if err != nil {
			return nil, err
		}
		if found.Offset > 0 {
			out = append(out, found)
		}
	}
	return out, nil
}

// open takes what is here of a file; without Offset there is nothing to go on with.
func (b *begunHere) open(ctx context.Context, top *os.Root, name string, whole int64) (found archive.Begun, err error) {
	dir, err := archive.OpenDir(top, path.Dir(name))
	if err != nil {
		return found, nil // what is wrong is told when it is written there
	}
	p := &localPart{dir: dir, name: path.Base(name)}
	keep := false
	defer func() {
		if !keep {
			p.close(true)
			_ = dir.Close()
		}
	}()
	if info, err := dir.Lstat(partName(p.name)); err != nil || info.Size() == 0 || info.Size() > whole {
		return found, nil // nothing that is useful
	}
	if err := p.open(true); err != nil {
		return found, err
	}
	n, err := p.size()
	if err != nil || n == 0 || n > whole {
		return found, err
	}
	prefix, err := digestOf(ctx, p.file, n)
	if err != nil {
		return found, err
	}
	keep = true
	b.parts[name], b.size[name] = p, n
	return archive.Begun{Name: name, Offset: n, Prefix: prefix}, nil
}

// close lets go of what was not used. It stays what it was.
func (b *begunHere) close() {
	for _, p := range b.parts {
		dir := p.dir
		p.close(true)
		_ = dir.Close()
	}
	b.parts = nil
}

// take makes a large file that comes, from an offset on if that is what was asked for. It is archive.Options.Large.
func (d *treeDownload) take(dir *os.Root, name string, p archive.Piece) (archive.Part, error) {
	part, n := d.here.parts[p.Name], d.here.size[p.Name]
	if part != nil { // It is in its directory, unless that was exchanged.
		delete(d.here.parts, p.Name)
		own := part.dir
		defer func() { _ = own.Close() }()
		if sameDir(own, dir) {
			part.dir = dir
		} else {
			part.close(true)
			part = nil
		}
	}
	switch {
	case p.Offset > 0 && (part == nil || p.Offset != n):
		if part != nil {
			part.close(true)
		}
		return nil, fault.New(fault.Internal, "ARCHIVE_UNSAFE", "what the sandbox sent is refused: %.200q comes without its beginning, which is not here", p.Name)
	case part == nil:
		part = &localPart{dir: dir, name: name}
		if err := part.open(false); err != nil {
			return nil, err
		}
	case p.Offset == 0:
		d.progress.say("%s has changed since, or what is here of it; copying it from its beginning", p.Name)
	}
	err := part.cut(p.Offset)
	if err == nil {
		_, err = part.file.Seek(p.Offset, io.SeekStart)
	}
	if err != nil {
		part.close(false)
		return nil, err
	}
	d.progress.before += p.Offset
	return treePart{part}, nil
}

func sameDir(a, b *os.Root) bool {
	x, err := a.Stat(".")
	y, yerr := b.Stat(".")
	return err == nil && yerr == nil && os.SameFile(x, y)
}

// treePart is a large file of a directory that is on its way here.
type treePart struct{ *localPart }

// Write implements archive.Part.
func (p treePart) Write(b []byte) (int, error) { return p.file.Write(b) }

// Finish implements archive.Part.
func (p treePart) Finish(mode fs.FileMode, at time.Time) error { return p.finish(mode, at) }

// Close implements archive.Part.
func (p treePart) Close(broken error) { p.close(interrupted(broken)) }

// interrupted says of what ended a copy that the same copy may go on later.
func interrupted(err error) bool {
	return fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Canceled) || errors.Is(err, context.Canceled)
}

// begunThere returns how much of which files an interrupted copy left in the sandbox.
func begunThere(list map[string]archive.Entry) map[string]int64 {
	begun := map[string]int64{}
	for name, e := range list {
		if e.PartOf != "" {
			begun[path.Join(path.Dir(name), e.PartOf)] = e.Size
		}
	}
	return begun
}

// from is archive.Options.From: what the sandbox has the beginning of goes on there.
func (u *treeUpload) from(ctx context.Context, begun map[string]int64) func(string, *os.File, int64) (int64, []byte, error) {
	return func(name string, f *os.File, size int64) (int64, []byte, error) {
		offset := begun[name]
		if offset <= 0 || offset > size {
			return 0, nil, nil
		}
		prefix, err := digestOf(ctx, f, offset)
		if err == nil {
			u.progress.before += offset
		}
		return offset, prefix, err
	}
}
