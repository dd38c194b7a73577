package bermv1

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
)

// ReadFile sends a file from an offset on. What was sent is whole when the stream ends with OK.
func (s *fileService) ReadFile(r *bermv1.ReadFileRequest, stream grpc.ServerStreamingServer[bermv1.ReadFileResponse]) error {
	ctx, done := s.untilDrain(stream.Context())
	defer done()
	in, info, err := s.control.ReadFileFrom(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetPath(), r.GetOffset(), r.GetPrefixSha256())
	if err != nil {
		return drained(ctx, err)
	}
	defer func() { _ = in.Close() }() // what was read is sent
	if err := stream.Send(&bermv1.ReadFileResponse{Response: &bermv1.ReadFileResponse_Info{Info: fileInfo(info)}}); err != nil {
		return err
	}
	return sendAll(ctx, in, stream, dataField)
}

// GetFileState tells how far writing a file came.
func (s *fileService) GetFileState(ctx context.Context, r *bermv1.GetFileStateRequest) (*bermv1.FileState, error) {
	state, err := s.control.FileState(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetPath(), r.GetName())
	if err != nil {
		return nil, err
	}
	out := &bermv1.FileState{PartialSize: state.Partial, Busy: state.Busy}
	if state.File != nil {
		out.File = fileInfo(*state.File)
	}
	return out, nil
}

func fileInfo(i backend.FileInfo) *bermv1.FileInfo {
	return &bermv1.FileInfo{Size: i.Size, Mode: i.Mode, ModifiedAt: timestamppb.New(i.ModTime)}
}

// resumable returns what a write that can be gone on with writes.
func resumable(mode uint32, r *bermv1.ResumableWrite) (backend.Upload, error) {
	u := backend.Upload{Name: r.GetName(), Mode: mode, Size: r.GetSize(), Offset: r.GetOffset(), Prefix: r.GetPrefixSha256()}
	if t := r.GetModifiedAt(); t != nil {
		if err := t.CheckValid(); err != nil {
			return u, fault.Invalidf(fault.ReasonInvalidRequest, "invalid init").WithField("init.resumable.modified_at", "%v", err)
		}
		u.ModTime = t.AsTime()
	}
	if u.Size < 0 {
		return u, fault.Invalidf(fault.ReasonInvalidRequest, "invalid init").WithField("init.resumable.size", "%d is negative", u.Size)
	}
	return u, nil
}
