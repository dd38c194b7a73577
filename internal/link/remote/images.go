package remote

import (
	"context"
	"errors"
	"io"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/link"
)

// Images returns the images of the runner, nil when it keeps none itself.
func (l *Link) Images() backend.Images {
	if !l.images {
		return nil
	}
	return images{l}
}

type images struct{ l *Link }

func (i images) ListImages(ctx context.Context) ([]backend.Image, error) {
	out, err := i.l.bulk.ListImages(ctx, &linkv1.ListImagesRequest{})
	if err != nil {
		return nil, i.l.fault(ctx, err)
	}
	return link.ImagesOf(out.GetImages()), nil
}

func (i images) PullImage(ctx context.Context, in backend.ImagePull, report func(backend.ImageProgress)) (*backend.Image, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := i.l.bulk.PullImage(ctx, &linkv1.PullImageRequest{Ref: in.Ref, Pin: in.Pin})
	if err != nil {
		return nil, i.l.fault(ctx, err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, link.Lied(i.l.cfg.RunnerID, "a pull ended without an image")
		}
		if err != nil {
			return nil, i.l.fault(ctx, err)
		}
		switch k := m.GetKind().(type) {
		case *linkv1.PullImageResponse_Image:
			img := link.ImageOf(k.Image)
			return &img, nil
		case *linkv1.PullImageResponse_Progress:
			if p := k.Progress; report != nil {
				report(backend.ImageProgress{Source: p.GetSource(), Layers: int(p.GetLayers()), Done: int(p.GetDone()), Bytes: p.GetBytes(), Total: p.GetTotal()})
			}
		}
	}
}

func (i images) RemoveImage(ctx context.Context, ref string, force bool) (*backend.ImageRemoval, error) {
	out, err := i.l.bulk.RemoveImage(ctx, &linkv1.RemoveImageRequest{Ref: ref, Force: force})
	if err != nil {
		return nil, i.l.fault(ctx, err)
	}
	return &backend.ImageRemoval{Names: out.GetNames(), Digest: out.GetDigest(), Freed: out.GetFreed()}, nil
}

func (i images) ImportImage(ctx context.Context, name string, pin bool, archive io.Reader) ([]backend.Image, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := i.l.bulk.ImportImage(ctx)
	if err != nil {
		return nil, i.l.fault(ctx, err)
	}
	start := &linkv1.ImportImageRequest{Start: &linkv1.ImportImageStart{Name: name, Pin: pin}}
	if err := upload(cancel, stream, start, func(b []byte) *linkv1.ImportImageRequest { return &linkv1.ImportImageRequest{Data: b} }, archive); err != nil {
		return nil, err
	}
	out, err := stream.CloseAndRecv()
	if err != nil {
		return nil, i.l.fault(ctx, unanswered(i.l, err))
	}
	return link.ImagesOf(out.GetImages()), nil
}
