package control

import (
	"context"
	"io"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
)

// ReadArchive packs a directory or a file of a running sandbox (package archive). Errors have the metadata filepath.
func (s *Service) ReadArchive(ctx context.Context, p core.Principal, id, path string, part backend.ArchivePart) (io.ReadCloser, error) {
	if err := s.allow(p, "ReadArchive"); err != nil {
		return nil, err
	}
	if err := checkPath(path); err != nil {
		return nil, err
	}
	size := 0
	for _, name := range part.Skip {
		size += backend.SkipSize(name)
	}
	if size > backend.MaxSkip {
		return nil, fault.Invalidf(fault.ReasonInvalidRequest, "too much is to be left out").WithField("skip", "%d bytes of names, the limit is %d", size, backend.MaxSkip)
	}
	link, err := s.reach(ctx, p.OrgID, id)
	if err != nil {
		return nil, err
	}
	failpoint.Hit(fpReadArchive)
	over := s.busy(id)
	r, err := link.ReadArchive(ctx, id, path, part)
	if err != nil {
		over()
		return nil, withPath(s.linkFault(ctx, p.OrgID, id, err), path)
	}
	return &busyReader{ReadCloser: r, over: over}, nil
}

// WriteArchive unpacks an archive in a running sandbox: below path under name where path is a directory, else as path. Errors
// have the metadata filepath.
func (s *Service) WriteArchive(ctx context.Context, p core.Principal, id, path, name string, r io.Reader) error {
	if err := s.allow(p, "WriteArchive"); err != nil {
		return err
	}
	if err := checkPath(path); err != nil {
		return err
	}
	link, err := s.reach(ctx, p.OrgID, id)
	if err != nil {
		return err
	}
	failpoint.Hit(fpWriteArchive)
	defer s.busy(id)()
	return withPath(s.linkFault(ctx, p.OrgID, id, link.WriteArchive(ctx, id, path, name, r)), path)
}
