package fake

import (
	"bytes"
	"context"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// files is the file system of one sandbox: regular files and directories, no links.
type files struct {
	mu      sync.Mutex
	entries map[string]*file
	// parts are the beginnings of files whose writing broke off, by path.
	parts map[string]*part
}

type file struct {
	data     []byte
	dir      bool
	readOnly bool
	mode     uint32
	at       time.Time
}

func newFiles(mounted []*specpb.MountedFile, now time.Time) *files {
	f := &files{entries: map[string]*file{}, parts: map[string]*part{}}
	for _, d := range []string{"/", "/tmp", "/home", "/root", "/workspace"} {
		f.entries[d] = &file{dir: true, mode: 0o755, at: now}
	}
	for _, d := range []string{"/etc", "/usr", "/proc"} {
		f.entries[d] = &file{dir: true, readOnly: true, mode: 0o555, at: now}
	}
	for _, m := range mounted {
		p := path.Clean(m.GetPath())
		f.mkdirs(path.Dir(p), now)
		f.entries[p] = &file{data: bytes.Clone(m.GetContent()), readOnly: true, mode: 0o444, at: now}
	}
	return f
}

func (f *files) mkdirs(dir string, now time.Time) {
	for ; f.entries[dir] == nil; dir = path.Dir(dir) {
		f.entries[dir] = &file{dir: true, mode: 0o755, at: now}
	}
}

// find returns the regular file at p.
func (f *files) find(p string) (*file, error) {
	clean, err := cleanPath(p)
	if err != nil {
		return nil, err
	}
	e, ok := f.entries[clean]
	switch {
	case !ok:
		return nil, fileFault(fault.NotFound, fault.ReasonFileNotFound, p, "does not exist")
	case e.dir:
		return nil, fileFault(fault.Precondition, fault.ReasonFileIsDirectory, p, "is a directory")
	}
	return e, nil
}

func (f *files) read(p string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.find(p)
	if err != nil {
		return nil, err
	}
	return e.data, nil
}

func (f *files) write(p string, mode uint32, data []byte, now time.Time) error {
	clean, err := cleanPath(p)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if e, ok := f.entries[clean]; ok {
		switch {
		case e.dir:
			return fileFault(fault.Precondition, fault.ReasonFileIsDirectory, p, "is a directory")
		case e.readOnly:
			return fileFault(fault.Precondition, fault.ReasonFilePermissionDenied, p, "is read-only")
		}
	}
	parent, ok := f.entries[path.Dir(clean)]
	switch {
	case !ok:
		return fileFault(fault.NotFound, fault.ReasonFileNotFound, p, "is in a directory that does not exist")
	case !parent.dir:
		return fileFault(fault.Precondition, fault.ReasonFileIOFailed, p, "is below something that is not a directory")
	case parent.readOnly:
		return fileFault(fault.Precondition, fault.ReasonFilePermissionDenied, p, "is in a read-only directory")
	}
	f.entries[clean] = &file{data: data, mode: mode, at: now}
	return nil
}

// isDir reports whether p is a directory.
func (f *files) isDir(p string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.entries[path.Clean(p)]
	return ok && e.dir
}

func cleanPath(p string) (string, error) {
	if !strings.HasPrefix(p, "/") || strings.ContainsRune(p, 0) {
		return "", fileFault(fault.Invalid, fault.ReasonInvalidRequest, p, "is not an absolute path")
	}
	return path.Clean(p), nil
}

func fileFault(code fault.Code, reason, p, what string) *fault.Error {
	return fault.New(code, reason, "%s %s", strconv.Quote(p), what).WithMeta("filepath", p)
}

// ReadFile opens a copy of what the file holds now.
func (b *Backend) ReadFile(_ context.Context, id, p string, limit int64) (io.ReadCloser, int64, error) {
	fs, err := b.filesOf(id)
	if err != nil {
		return nil, 0, err
	}
	data, err := fs.read(p)
	if err != nil {
		return nil, 0, err
	}
	size := int64(len(data))
	if size > limit {
		return nil, 0, fileFault(fault.Precondition, fault.ReasonFileTooLarge, p,
			"has "+strconv.FormatInt(size, 10)+" bytes, more than the limit of "+strconv.FormatInt(limit, 10)).
			WithMeta("size_bytes", strconv.FormatInt(size, 10)).WithMeta("max_size_bytes", strconv.FormatInt(limit, 10))
	}
	return io.NopCloser(bytes.NewReader(data)), size, nil
}

// WriteFile reads all of r before it touches the file.
func (b *Backend) WriteFile(_ context.Context, id, p string, mode uint32, r io.Reader) error {
	fs, err := b.filesOf(id)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(r, backend.MaxUnaryFile+1))
	if err != nil {
		return fileFault(fault.Unavailable, fault.ReasonFileIOFailed, p, "was not written: its content ended early").WithCause(err)
	}
	if len(data) > backend.MaxUnaryFile {
		return fileFault(fault.Precondition, fault.ReasonFileTooLarge, p, "is larger than a file may be here").
			WithMeta("max_size_bytes", strconv.Itoa(backend.MaxUnaryFile))
	}
	return fs.write(p, mode, data, b.cfg.Now())
}

func (b *Backend) filesOf(id string) (*files, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.running(id)
	if err != nil {
		return nil, err
	}
	return s.files, nil
}
