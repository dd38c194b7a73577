package fake

import (
	"archive/tar"
	"bytes"
	"context"
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
		if e.dir {
			h.Typeflag, h.Name = tar.TypeDir, as+"/"
		}
		content := e.data
		switch {
		case !e.dir && slices.Contains(part.Skip, as):
			continue
		case !e.dir && part.Bare:
			h.PAXRecords, h.Size, content = map[string]string{archive.Size: strconv.FormatInt(h.Size, 10)}, 0, nil
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
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
		data, err := io.ReadAll(io.LimitReader(in, backend.MaxUnaryFile))
		if err != nil {
			return fileFault(fault.Unavailable, fault.ReasonFileIOFailed, at, "was not written: its content ended early").WithCause(err)
		}
		if err := fs.write(at, uint32(h.Mode), data, b.cfg.Now()); err != nil { //nolint:gosec // a mode
			return err
		}
	}
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
