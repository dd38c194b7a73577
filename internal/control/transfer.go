package control

import (
	"context"
	"crypto/sha256"
	"io"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/store"
)

// ReadFileFrom opens a file of a running sandbox at an offset, the content before which has the SHA-256 digest prefix. Errors have the
// metadata filepath.
func (s *Service) ReadFileFrom(ctx context.Context, p core.Principal, id, path string, offset int64, prefix []byte) (io.ReadCloser, backend.FileInfo, error) {
	link, err := s.transfer(ctx, p, "ReadFileFrom", id, path, offset, prefix)
	if err != nil {
		return nil, backend.FileInfo{}, err
	}
	failpoint.Hit(fpReadFileFrom)
	over := s.busy(id)
	r, info, err := link.ReadFileFrom(ctx, id, path, offset, prefix)
	if err != nil {
		over()
		return nil, backend.FileInfo{}, aboutFile(s.linkFault(ctx, p.OrgID, id, err), id, path)
	}
	return &busyReader{ReadCloser: r, over: over}, info, nil
}

// WriteFileFrom writes a file of a running sandbox from an offset on. Errors have the metadata filepath.
func (s *Service) WriteFileFrom(ctx context.Context, p core.Principal, id, path string, u backend.Upload, r io.Reader) error {
	if u.Size < u.Offset {
		return fault.Invalidf(fault.ReasonInvalidRequest, "invalid offset").WithField("init.resumable.offset", "%d is more than the size, %d", u.Offset, u.Size)
	}
	link, err := s.transfer(ctx, p, "WriteFileFrom", id, path, u.Offset, u.Prefix)
	if err != nil {
		return err
	}
	failpoint.Hit(fpWriteFileFrom)
	defer s.busy(id)()
	return aboutFile(s.linkFault(ctx, p.OrgID, id, link.WriteFileFrom(ctx, id, path, u, r)), id, path)
}

// FileState tells how far writing a file of a running sandbox came. Errors have the metadata filepath.
func (s *Service) FileState(ctx context.Context, p core.Principal, id, path, name string) (backend.FileState, error) {
	link, err := s.transfer(ctx, p, "FileState", id, path, 0, nil)
	if err != nil {
		return backend.FileState{}, err
	}
	failpoint.Hit(fpFileState)
	state, err := link.FileState(ctx, id, path, name)
	return state, aboutFile(s.linkFault(ctx, p.OrgID, id, err), id, path)
}

// transfer checks what all of them have in common, and returns the link to the sandbox's runner.
func (s *Service) transfer(ctx context.Context, p core.Principal, method, id, path string, offset int64, prefix []byte) (runner.Link, error) {
	if err := s.allow(ctx, p, method, audit.Target{Kind: store.ChangeSandbox, Ref: id}); err != nil {
		return nil, err
	}
	if err := checkPath(id, path); err != nil {
		return nil, err
	}
	switch bad := fault.Invalidf(fault.ReasonInvalidRequest, "invalid offset").WithMeta("filepath", clipPath(path)).WithMeta("sandbox_id", id); {
	case offset < 0:
		return nil, bad.WithField("offset", "%d is negative", offset)
	case offset > 0 && len(prefix) != sha256.Size:
		return nil, bad.WithField("prefix_sha256", "has %d bytes; with an offset it is the SHA-256 digest of the content before it, %d bytes", len(prefix), sha256.Size)
	}
	return s.reach(ctx, p.OrgID, id)
}
