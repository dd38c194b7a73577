package bermv1

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

type imageService struct {
	bermv1rpc.UnsafeImageServiceServer
	*Front
}

var _ bermv1rpc.ImageServiceServer = (*imageService)(nil)

func (s *imageService) ListImages(ctx context.Context, r *bermv1.ListImagesRequest) (*bermv1.ListImagesResponse, error) {
	list, err := s.control.ListImages(ctx, edge.Principal(ctx), r.GetRunner())
	if err != nil {
		return nil, err
	}
	return &bermv1.ListImagesResponse{Images: images(list)}, nil
}

func (s *imageService) DeleteImage(ctx context.Context, r *bermv1.DeleteImageRequest) (*bermv1.DeleteImageResponse, error) {
	done, err := s.control.RemoveImage(ctx, edge.Principal(ctx), r.GetRunner(), r.GetImage(), r.GetForce())
	if err != nil {
		return nil, err
	}
	return &bermv1.DeleteImageResponse{Names: done.Names, Digest: done.Digest, FreedBytes: done.Freed}, nil
}

// PullImage sends progress while it lasts, and the image as its last message.
func (s *imageService) PullImage(r *bermv1.PullImageRequest, stream grpc.ServerStreamingServer[bermv1.PullImageResponse]) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	img, err := s.control.PullImage(ctx, edge.Principal(ctx), r.GetRunner(), backend.ImagePull{Ref: r.GetImage(), Pin: r.GetPin()}, func(p backend.ImageProgress) {
		err := stream.Send(&bermv1.PullImageResponse{Event: &bermv1.PullImageResponse_Progress{Progress: &bermv1.ImageProgress{
			Source: p.Source, Layers: int32(p.Layers), LayersDone: int32(p.Done), Bytes: p.Bytes, TotalBytes: p.Total, //nolint:gosec // bounded by MaxLayers
		}}})
		if err != nil {
			cancel(err)
		}
	})
	if err != nil {
		return err
	}
	return stream.Send(&bermv1.PullImageResponse{Event: &bermv1.PullImageResponse_Image{Image: imageMessage(img)}})
}

type importStream = grpc.ClientStreamingServer[bermv1.ImportImageRequest, bermv1.ImportImageResponse]

// ImportImage reads the start, and then the archive from what follows.
func (s *imageService) ImportImage(stream importStream) error {
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	start := first.GetStart()
	ctx := stream.Context()
	if start == nil {
		start = &bermv1.ImportImageStart{} // Who may not import is told so first.
	}
	list, err := s.control.ImportImage(ctx, edge.Principal(ctx), start.GetRunner(), start.GetName(), start.GetPin(), &importReader{stream: stream})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&bermv1.ImportImageResponse{Images: images(list)})
}

// importReader is the archive of a stream.
type importReader struct {
	stream importStream
	rest   []byte
}

// Read implements io.Reader.
func (r *importReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		m, err := r.stream.Recv()
		if err != nil {
			return 0, err
		}
		if m.GetStart() != nil {
			return 0, fault.Invalidf(fault.ReasonInvalidRequest, "only the first message is start")
		}
		r.rest = m.GetData()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func images(list []backend.Image) []*bermv1.Image {
	out := make([]*bermv1.Image, len(list))
	for i := range list {
		out[i] = imageMessage(&list[i])
	}
	return out
}

func imageMessage(i *backend.Image) *bermv1.Image {
	return &bermv1.Image{
		Digest: i.Digest, IndexDigest: i.Index, Names: i.Names, Source: i.From, PulledAt: wire.Time(i.PulledAt), UsedAt: wire.Time(i.UsedAt),
		Layers: int32(i.Layers), SizeBytes: i.Bytes, OwnBytes: i.Own, InUse: int32(i.InUse), Pinned: i.Pinned, DownloadedBytes: i.Downloaded, //nolint:gosec // bounded
	}
}
