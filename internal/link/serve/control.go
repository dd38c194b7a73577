package serve

import (
	"context"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	linkv1rpc "github.com/bermhq/berm/gen/berm/link/v1rpc"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/tracing"
)

// Observe implements the service.
func (s *server) Observe(_ *linkv1.ObserveRequest, stream linkv1rpc.LinkService_ObserveServer) error {
	for o := range s.cfg.Link.Observe(stream.Context()) {
		out := &linkv1.ObserveResponse{}
		if o != nil {
			out.Observation = link.ObservationMessage(o)
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
	return nil
}

// Check implements the service.
func (s *server) Check(_ context.Context, r *linkv1.CheckRequest) (*linkv1.CheckResponse, error) {
	return &linkv1.CheckResponse{}, s.cfg.Link.Check(link.WorkOf(r.GetWork()))
}

// Apply implements the service. What a newer gateway asks for in fields that this program does not know would be left out: it is refused.
func (s *server) Apply(ctx context.Context, r *linkv1.ApplyRequest) (*linkv1.ApplyResponse, error) {
	if hasUnknown(r.ProtoReflect()) {
		return nil, fault.Preconditionf(fault.ReasonDigestMismatch, "the assignment has fields that this runner does not know").
			WithHint("upgrade the runner: the gateway is newer")
	}
	layers, err := link.LayersOf(r.GetLayers())
	if err != nil {
		return nil, err
	}
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = tracing.From(ctx, strings.Join(md.Get(tracing.Header), ","))
	}
	return &linkv1.ApplyResponse{}, s.cfg.Link.Apply(ctx, &runner.Assignment{Work: *link.WorkOf(r.GetWork()), Layers: layers})
}

// hasUnknown reports whether a message, or one inside it, has fields that this program does not know.
func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
					found = hasUnknown(e.Message())
					return !found
				})
			}
		case f.IsList():
			for i := 0; f.Message() != nil && i < v.List().Len() && !found; i++ {
				found = hasUnknown(v.List().Get(i).Message())
			}
		case f.Message() != nil:
			found = hasUnknown(v.Message())
		}
		return !found
	})
	return found
}

// Stop implements the service.
func (s *server) Stop(ctx context.Context, r *linkv1.StopRequest) (*linkv1.StopResponse, error) {
	return &linkv1.StopResponse{}, s.cfg.Link.Stop(ctx, r.GetSandboxId(), millis(r.GetGraceMillis()), r.GetWhy())
}

// millis is a duration that is not negative and does not overflow.
func millis(n int64) time.Duration {
	return time.Duration(max(0, min(n, math.MaxInt64/int64(time.Millisecond)))) * time.Millisecond
}

// Pause implements the service.
func (s *server) Pause(ctx context.Context, r *linkv1.PauseRequest) (*linkv1.PauseResponse, error) {
	return &linkv1.PauseResponse{}, s.cfg.Link.Pause(ctx, r.GetSandboxId())
}

// Suspend implements the service.
func (s *server) Suspend(ctx context.Context, r *linkv1.SuspendRequest) (*linkv1.SuspendResponse, error) {
	return &linkv1.SuspendResponse{}, s.cfg.Link.Suspend(ctx, r.GetSandboxId())
}

// Resume implements the service.
func (s *server) Resume(ctx context.Context, r *linkv1.ResumeRequest) (*linkv1.ResumeResponse, error) {
	return &linkv1.ResumeResponse{}, s.cfg.Link.Resume(ctx, r.GetSandboxId())
}

// Delete implements the service.
func (s *server) Delete(ctx context.Context, r *linkv1.DeleteRequest) (*linkv1.DeleteResponse, error) {
	return &linkv1.DeleteResponse{}, s.cfg.Link.Delete(ctx, r.GetSandboxId())
}

// SetPools implements the service.
func (s *server) SetPools(ctx context.Context, r *linkv1.SetPoolsRequest) (*linkv1.SetPoolsResponse, error) {
	pools := make([]runner.Pool, len(r.GetPools()))
	for i, m := range r.GetPools() {
		var err error
		if pools[i], err = link.PoolOf(m); err != nil {
			return nil, err
		}
	}
	if err := s.cfg.Link.SetPools(ctx, pools); err != nil {
		return nil, err
	}
	return &linkv1.SetPoolsResponse{Pools: link.PoolStatusMessages(s.cfg.Link.Pools())}, nil
}

func (s *server) deployment() *linkv1.DeploymentState {
	state := s.cfg.Link.Deployment()
	return link.DeploymentMessage(&state)
}

// SetDeployment implements the service.
func (s *server) SetDeployment(ctx context.Context, r *linkv1.SetDeploymentRequest) (*linkv1.SetDeploymentResponse, error) {
	w, err := link.WantedOf(r)
	if err != nil {
		return nil, err
	}
	// A call that was overtaken says what was. Another gateway, or this one with another database, has an order of its own.
	if s.overtaken(w.Revision) {
		return &linkv1.SetDeploymentResponse{Deployment: s.deployment()}, nil
	}
	if err := s.cfg.Link.SetDeployment(ctx, w); err != nil {
		return nil, err
	}
	return &linkv1.SetDeploymentResponse{Deployment: s.deployment()}, nil
}

func (s *server) overtaken(revision int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := revision < s.told
	s.told = max(s.told, revision)
	return old
}

// Network implements the service.
func (s *server) Network(ctx context.Context, r *linkv1.NetworkRequest) (*linkv1.NetworkResponse, error) {
	n, err := s.cfg.Link.Network(ctx, r.GetSandboxId(), link.TargetOf(r.GetTarget()))
	if err != nil {
		return nil, err
	}
	return link.NetworkMessage(n), nil
}

// Drift implements the service.
func (s *server) Drift(ctx context.Context, r *linkv1.DriftRequest) (*linkv1.DriftResponse, error) {
	d, err := s.cfg.Link.Drift(ctx, r.GetSandboxId(), r.GetSubmitted())
	if err != nil {
		return nil, err
	}
	return link.DriftMessage(d), nil
}

// Usage implements the service.
func (s *server) Usage(ctx context.Context, r *linkv1.UsageRequest) (*linkv1.UsageResponse, error) {
	u, err := s.cfg.Link.Usage(ctx, r.GetSandboxId())
	if err != nil {
		return nil, err
	}
	return link.UsageMessage(u), nil
}

// ListImages implements the service.
func (s *server) ListImages(ctx context.Context, _ *linkv1.ListImagesRequest) (*linkv1.ListImagesResponse, error) {
	images := s.cfg.Link.Images()
	if images == nil {
		return nil, noImages()
	}
	all, err := images.ListImages(ctx)
	if err != nil {
		return nil, err
	}
	out := &linkv1.ListImagesResponse{Images: link.ImagesMessage(all)}
	if size := proto.Size(out); size > link.MaxBulk {
		return nil, fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "the list of images has %d bytes, more than %d", size, link.MaxBulk)
	}
	return out, nil
}

// RemoveImage implements the service.
func (s *server) RemoveImage(ctx context.Context, r *linkv1.RemoveImageRequest) (*linkv1.RemoveImageResponse, error) {
	images := s.cfg.Link.Images()
	if images == nil {
		return nil, noImages()
	}
	removed, err := images.RemoveImage(ctx, r.GetRef(), r.GetForce())
	if err != nil {
		return nil, err
	}
	return &linkv1.RemoveImageResponse{Names: removed.Names, Digest: removed.Digest, Freed: removed.Freed}, nil
}

func noImages() error {
	return fault.Preconditionf(fault.ReasonBackendUnsupported, "this runner keeps no images of its own")
}
