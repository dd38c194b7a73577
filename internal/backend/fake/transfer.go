package fake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"path"
	"strconv"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// part is the beginning of a file.
type part struct {
	data []byte
	busy bool
}

// ReadFileFrom opens a copy of what the file holds now.
func (b *Backend) ReadFileFrom(_ context.Context, id, p string, offset int64, prefix []byte) (io.ReadCloser, backend.FileInfo, error) {
	fs, err := b.filesOf(id)
	if err != nil {
		return nil, backend.FileInfo{}, err
	}
	if err := checkOffset(p, offset, prefix); err != nil {
		return nil, backend.FileInfo{}, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	e, err := fs.find(p)
	if err != nil {
		return nil, backend.FileInfo{}, err
	}
	if err := checkPrefix(p, e.data, offset, prefix); err != nil {
		return nil, backend.FileInfo{}, err
	}
	return io.NopCloser(bytes.NewReader(e.data[offset:])), e.info(), nil
}

func (e *file) info() backend.FileInfo {
	return backend.FileInfo{Size: int64(len(e.data)), Mode: e.mode, ModTime: e.at}
}

func checkOffset(p string, offset int64, prefix []byte) error {
	if offset < 0 || offset > 0 && len(prefix) != sha256.Size {
		return fileFault(fault.Invalid, fault.ReasonInvalidRequest, p, "cannot be taken at this offset: it is negative, or without a digest")
	}
	return nil
}

func checkPrefix(p string, data []byte, offset int64, prefix []byte) error {
	if offset == 0 {
		return nil
	}
	if offset > int64(len(data)) {
		return fileFault(fault.Conflict, fault.ReasonFileChanged, p, "has changed: it ends before the offset")
	}
	if sum := sha256.Sum256(data[:offset]); !bytes.Equal(sum[:], prefix) {
		return fileFault(fault.Conflict, fault.ReasonFileChanged, p, "has changed: it begins otherwise")
	}
	return nil
}

// place is where an upload goes.
func (f *files) place(p, name string) (string, error) {
	at, err := cleanPath(p)
	if err != nil {
		return "", err
	}
	if e := f.entries[at]; e == nil || !e.dir {
		return at, nil
	}
	if name == "" {
		return "", fileFault(fault.Precondition, fault.ReasonFileIsDirectory, p, "is a directory")
	}
	return path.Join(at, name), nil
}

// FileState tells how far writing a file came.
func (b *Backend) FileState(_ context.Context, id, p, name string) (backend.FileState, error) {
	fs, err := b.filesOf(id)
	if err != nil {
		return backend.FileState{}, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	at, err := fs.place(p, name)
	if err != nil {
		if fault.HasReason(err, fault.ReasonFileIsDirectory) {
			err = nil
		}
		return backend.FileState{}, err
	}
	var state backend.FileState
	if e := fs.entries[at]; e != nil && !e.dir {
		info := e.info()
		state.File = &info
	}
	if left := fs.parts[at]; left != nil {
		if state.Busy = left.busy; !left.busy {
			state.Partial = int64(len(left.data))
		}
	}
	return state, nil
}

// WriteFileFrom keeps what came when r breaks off.
func (b *Backend) WriteFileFrom(_ context.Context, id, p string, u backend.Upload, r io.Reader) error {
	fs, err := b.filesOf(id)
	if err != nil {
		return err
	}
	return b.upload(fs, p, u, r)
}

func (b *Backend) upload(fs *files, p string, u backend.Upload, r io.Reader) error {
	if err := checkOffset(p, u.Offset, u.Prefix); err != nil {
		return err
	}
	if u.Size > backend.MaxUnaryFile {
		return fileFault(fault.Precondition, fault.ReasonFileTooLarge, p, "is larger than a file may be here").
			WithMeta("max_size_bytes", strconv.Itoa(backend.MaxUnaryFile))
	}
	at, now, err := fs.begin(p, u)
	if err != nil {
		return err
	}
	worthless := true
	defer func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		if now.busy = false; worthless && fs.parts[at] == now {
			delete(fs.parts, at)
		}
	}()
	rest, err := io.ReadAll(io.LimitReader(r, u.Size-u.Offset+1))
	fs.mu.Lock()
	now.data = append(now.data, rest...)
	fs.mu.Unlock()
	if err != nil {
		worthless = false
		var f *fault.Error
		if errors.As(err, &f) {
			return err
		}
		return fileFault(fault.Unavailable, fault.ReasonFileIOFailed, p, "was not written: its content ended early").WithCause(err)
	}
	if int64(len(now.data)) != u.Size {
		return fileFault(fault.Invalid, fault.ReasonInvalidRequest, p, "was not written: more or less came than it was to have")
	}
	modified := u.ModTime
	if modified.IsZero() {
		modified = b.cfg.Now()
	}
	return fs.write(at, u.Mode, now.data, modified)
}

// begin takes the place of an upload. A second one at the same time goes its own way, from the beginning on only.
func (f *files) begin(p string, u backend.Upload) (string, *part, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.place(p, u.Name)
	if err != nil {
		return "", nil, err
	}
	left := f.parts[at]
	if u.Offset == 0 {
		fresh := &part{busy: true}
		if left == nil || !left.busy {
			f.parts[at] = fresh
		}
		return at, fresh, nil
	}
	switch {
	case left == nil:
		return "", nil, fileFault(fault.Conflict, fault.ReasonFileChanged, p, "has changed: nothing is left of an earlier copy")
	case left.busy:
		return "", nil, fileFault(fault.Conflict, fault.ReasonFileBusy, p, "is just being written by somebody else")
	}
	if err := checkPrefix(p, left.data, u.Offset, u.Prefix); err != nil {
		delete(f.parts, at)
		return "", nil, err
	}
	left.data, left.busy = left.data[:u.Offset:u.Offset], true
	return at, left, nil
}
