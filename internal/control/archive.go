package control

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/bermhq/berm/internal/archive"
	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// ReadArchive packs a directory or a file of a running sandbox (package archive). Errors have the metadata filepath.
func (s *Service) ReadArchive(ctx context.Context, p core.Principal, id, path string, part backend.ArchivePart) (io.ReadCloser, error) {
	if err := s.allow(ctx, p, "ReadArchive"); err != nil {
		return nil, err
	}
	if err := checkPath(id, path); err != nil {
		return nil, err
	}
	if err := checkPart(part); err != nil {
		return nil, err
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
		return nil, aboutFile(s.linkFault(ctx, p.OrgID, id, err), id, path)
	}
	return &busyReader{ReadCloser: r, over: over}, nil
}

// checkPart refuses what no archive can be asked for.
func checkPart(part backend.ArchivePart) error {
	f := fault.Invalidf(fault.ReasonInvalidRequest, "what is to be packed makes no sense")
	size := 0
	for _, name := range part.Skip {
		size += backend.SkipSize(name)
	}
	if len(part.Begun) > archive.MaxBegun {
		f.WithField("begun", "%d files, the limit is %d", len(part.Begun), archive.MaxBegun)
	}
	for i, b := range part.Begun[:min(len(part.Begun), archive.MaxBegun)] {
		size += backend.SkipSize(b.Name)
		switch {
		case b.Offset <= 0:
			f.WithField(fmt.Sprintf("begun[%d].offset", i), "%d is not positive", b.Offset)
		case len(b.Prefix) != sha256.Size:
			f.WithField(fmt.Sprintf("begun[%d].prefix_sha256", i), "%d bytes, a SHA-256 digest has %d", len(b.Prefix), sha256.Size)
		}
	}
	if size > backend.MaxSkip {
		f.WithField("skip", "%d bytes of names, with those of begun, the limit is %d", size, backend.MaxSkip)
	}
	return orNil(f)
}

// WriteArchive unpacks an archive in a running sandbox: below path under name where path is a directory, else as path. Errors
// have the metadata filepath.
func (s *Service) WriteArchive(ctx context.Context, p core.Principal, id, path, name string, r io.Reader) error {
	if err := s.allow(ctx, p, "WriteArchive", audit.Target{Kind: store.ChangeSandbox, Ref: id}); err != nil {
		return err
	}
	if err := checkPath(id, path); err != nil {
		return err
	}
	link, err := s.reach(ctx, p.OrgID, id)
	if err != nil {
		return err
	}
	failpoint.Hit(fpWriteArchive)
	defer s.busy(id)()
	return aboutFile(s.linkFault(ctx, p.OrgID, id, link.WriteArchive(ctx, id, path, name, r)), id, path)
}
