package control

import (
	"context"
	"io"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// MaxImageName is the longest name of an image, in bytes.
const MaxImageName = 512

// ListImages lists the images that a runner keeps.
func (s *Service) ListImages(ctx context.Context, p core.Principal, ref string) ([]backend.Image, error) {
	if err := s.allow(ctx, p, "ListImages"); err != nil {
		return nil, err
	}
	images, err := s.imagesOf(ctx, p.OrgID, ref)
	if err != nil {
		return nil, err
	}
	return images.ListImages(ctx)
}

// PullImage makes a runner ask the registry for an image. report is told the progress.
func (s *Service) PullImage(ctx context.Context, p core.Principal, ref string, in backend.ImagePull, report func(backend.ImageProgress)) (*backend.Image, error) {
	if err := s.allow(ctx, p, "PullImage", audit.Target{Kind: string(store.KindRunner), Ref: ref}); err != nil {
		return nil, err
	}
	if err := checkImageName(in.Ref, true); err != nil {
		return nil, err
	}
	images, err := s.imagesOf(ctx, p.OrgID, ref)
	if err != nil {
		return nil, err
	}
	failpoint.Hit(fpImagePull)
	return images.PullImage(ctx, in, report)
}

// RemoveImage removes a name of an image from a runner, or an image.
func (s *Service) RemoveImage(ctx context.Context, p core.Principal, ref, image string, force bool) (*backend.ImageRemoval, error) {
	if err := s.allow(ctx, p, "RemoveImage", audit.Target{Kind: string(store.KindRunner), Ref: ref}); err != nil {
		return nil, err
	}
	if err := checkImageName(image, true); err != nil {
		return nil, err
	}
	images, err := s.imagesOf(ctx, p.OrgID, ref)
	if err != nil {
		return nil, err
	}
	failpoint.Hit(fpImageRemove)
	return images.RemoveImage(ctx, image, force)
}

// ImportImage gives a runner the images of an archive.
func (s *Service) ImportImage(ctx context.Context, p core.Principal, ref, name string, pin bool, archive io.Reader) ([]backend.Image, error) {
	if err := s.allow(ctx, p, "ImportImage", audit.Target{Kind: string(store.KindRunner), Ref: ref}); err != nil {
		return nil, err
	}
	if err := checkImageName(name, false); err != nil {
		return nil, err
	}
	images, err := s.imagesOf(ctx, p.OrgID, ref)
	if err != nil {
		return nil, err
	}
	failpoint.Hit(fpImageImport)
	return images.ImportImage(ctx, name, pin, archive)
}

func checkImageName(name string, required bool) error {
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid image")
	switch {
	case name == "" && required:
		e.WithField("image", "must be given")
	case len(name) > MaxImageName:
		e.WithField("image", "%d bytes, the limit is %d", len(name), MaxImageName)
	}
	return orNil(e)
}

// imagesOf returns the images of a runner of the organization that is in contact.
func (s *Service) imagesOf(ctx context.Context, orgID, ref string) (backend.Images, error) {
	if ref == "" {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid request").WithField("runner", "must be given")
	}
	var id, name string
	err := s.store.View(ctx, func(r store.Reader) error {
		o, err := readRunnerObject(ctx, r, orgID, ref)
		if err == nil {
			id, name = o.ID, o.Name
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	link, since := s.contacts.linkOf(id)
	if link == nil {
		e := fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "runner %s is not in contact", name)
		if !since.IsZero() {
			e.Message += ", since " + since.UTC().Format("15:04:05 MST")
		}
		return nil, e
	}
	images := link.Images()
	if images == nil {
		return nil, fault.Preconditionf(fault.ReasonBackendUnsupported, "runner %s keeps no images of its own", name).
			WithHint("images of pods are pulled and removed by the nodes of the cluster")
	}
	return images, nil
}
