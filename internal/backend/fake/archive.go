package fake

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// ReadArchive packs a copy of what is at a path now.
func (b *Backend) ReadArchive(_ context.Context, id, p string, part backend.ArchivePart) (io.ReadCloser, error) {
	fs, err := b.filesOf(id)
	if err != nil {
		return nil, err
	}
	clean, err := cleanPath(p)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := fs.pack(w, p, clean, part); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return io.NopCloser(&out), nil
}

func (f *files) pack(w *tar.Writer, p, clean string, part backend.ArchivePart) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.entries[clean] == nil {
		return fileFault(fault.NotFound, fault.ReasonFileNotFound, p, "does not exist")
	}
	// Depth first: a directory before what is in it, and nothing between.
	names := slices.SortedFunc(maps.Keys(f.entries), func(x, y string) int {
		return strings.Compare(strings.ReplaceAll(x, "/", "\x00"), strings.ReplaceAll(y, "/", "\x00"))
	})
	for _, name := range names {
		as, below := strings.CutPrefix(name, strings.TrimSuffix(clean, "/")+"/")
		switch {
		case name == clean:
			as = "."
		case !below:
			continue
		}
		e := f.entries[name]
		h := &tar.Header{Typeflag: tar.TypeReg, Name: as, Mode: int64(e.mode), Size: int64(len(e.data)), ModTime: e.at, Format: tar.FormatPAX}
		content := e.data
		switch from := e.begun(as, part.Begun); {
		case e.dir:
			h.Typeflag, h.Name = tar.TypeDir, as+"/"
		case slices.Contains(part.Skip, as):
			continue
		case part.Bare:
			h.PAXRecords, h.Size, content = map[string]string{archive.Size: strconv.FormatInt(h.Size, 10)}, 0, nil
		case from.Offset > 0:
			content = content[from.Offset:]
			h.Size = int64(len(content))
			h.PAXRecords = map[string]string{archive.Offset: strconv.FormatInt(from.Offset, 10), archive.Prefix: hex.EncodeToString(from.Prefix)}
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	if part.Bare {
		return f.listParts(w, clean)
	}
	return nil
}

// begun returns how a file is begun of which the caller has the beginning, the zero value where that is another.
func (e *file) begun(as string, list []archive.Begun) archive.Begun {
	for _, b := range list {
		if b.Name == as && len(e.data) >= archive.MinPart && b.Offset > 0 && checkPrefix(as, e.data, b.Offset, b.Prefix) == nil {
			return b
		}
	}
	return archive.Begun{}
}

// listParts lists the beginnings of files that are kept below a directory. They are nowhere else among its files here.
func (f *files) listParts(w *tar.Writer, clean string) error {
	for at, left := range f.parts {
		as, below := strings.CutPrefix(at, strings.TrimSuffix(clean, "/")+"/")
		if !below {
			continue
		}
		records := map[string]string{archive.Size: strconv.Itoa(len(left.data)), archive.PartOf: path.Base(as)}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(path.Dir(as), ".berm-part-"+path.Base(as)), Mode: 0o600, Format: tar.FormatPAX, PAXRecords: records}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
	}
	return nil
}

// WriteArchive unpacks files and directories; links are left out here.
func (b *Backend) WriteArchive(_ context.Context, id, p, name string, r io.Reader) error {
	fs, err := b.filesOf(id)
	if err != nil {
		return err
	}
	target, err := cleanPath(p)
	if err != nil {
		return err
	}
	if fs.isDir(target) {
		target = path.Join(target, name)
	}
	in := tar.NewReader(r)
	for first := true; ; first = false {
		h, err := in.Next()
		if errors.Is(err, io.EOF) && !first {
			return nil
		}
		if err != nil || (path.Clean(h.Name) == ".") != first || strings.HasPrefix(path.Clean(h.Name), "..") || path.IsAbs(h.Name) {
			return fault.Invalidf(fault.ReasonInvalidRequest, "the archive cannot be used").WithMeta("filepath", p).WithCause(err)
		}
		at := path.Join(target, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := fs.mkdir(at, uint32(h.Mode), b.cfg.Now()); err != nil { //nolint:gosec // a mode
				return err
			}
			continue
		}
		if err := b.unpackFile(fs, at, h, in); err != nil {
			return err
		}
	}
}

// unpackFile writes a file of an archive. Of a large one that breaks off what came is kept, as by WriteFileFrom.
func (b *Backend) unpackFile(fs *files, at string, h *tar.Header, in io.Reader) error {
	offset, _ := strconv.ParseInt(h.PAXRecords[archive.Offset], 10, 64)
	prefix, _ := hex.DecodeString(h.PAXRecords[archive.Prefix])
	size := offset + h.Size
	if size < archive.MinPart {
		data, err := io.ReadAll(io.LimitReader(in, backend.MaxUnaryFile))
		if err != nil {
			return fileFault(fault.Unavailable, fault.ReasonFileIOFailed, at, "was not written: its content ended early").WithCause(err)
		}
		return fs.write(at, uint32(h.Mode), data, b.cfg.Now()) //nolint:gosec // a mode
	}
	return b.upload(fs, at, backend.Upload{Mode: uint32(h.Mode), ModTime: h.ModTime, Size: size, Offset: offset, Prefix: prefix}, in) //nolint:gosec // a mode
}

// mkdir makes a directory, or gives one that is there another mode.
func (f *files) mkdir(p string, mode uint32, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	near := path.Dir(p)
	for f.entries[near] == nil {
		near = path.Dir(near)
	}
	e, ok := f.entries[p]
	switch {
	case f.entries[near].readOnly || ok && e.readOnly:
		return fileFault(fault.Precondition, fault.ReasonFilePermissionDenied, p, "is in a read-only directory")
	case ok && !e.dir || !f.entries[near].dir:
		return fileFault(fault.Precondition, fault.ReasonFileIOFailed, p, "is no directory")
	case !ok:
		f.mkdirs(p, now)
	}
	f.entries[p].mode = mode
	return nil
}
