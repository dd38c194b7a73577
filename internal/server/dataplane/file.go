package dataplane

import (
	"bytes"
	"context"
	"io"
	"strconv"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
)

// fileMode is that of files written through the API.
const fileMode = 0o644

// AddFile creates a file, or replaces its content, all of it or not at all.
func (s *gateway) AddFile(ctx context.Context, r *v1beta2pb.AddFileSandboxRequest) (*v1beta2pb.AddFileSandboxResponse, error) {
	ctx, cancel, err := bounded(ctx, r.GetMaxTimeoutSeconds())
	if err != nil {
		return nil, err
	}
	defer cancel()
	p := edge.Principal(ctx)
	if size := int64(len(r.GetFileContents())); size > backend.MaxUnaryFile {
		if _, err := s.control.Get(ctx, p, r.GetSandboxId()); err != nil { // a missing sandbox is missing, whatever the file
			return nil, err
		}
		return nil, tooLarge(r.GetSandboxId(), r.GetFilepath(), size)
	}
	if err := s.control.WriteFile(ctx, p, r.GetSandboxId(), r.GetFilepath(), fileMode, bytes.NewReader(r.GetFileContents())); err != nil {
		return nil, err
	}
	return &v1beta2pb.AddFileSandboxResponse{Success: true}, nil
}

// RetrieveFile returns a whole file. One that is larger than a unary call carries, or grows beyond that while it is read, is
// refused: what is returned is never a part.
func (s *gateway) RetrieveFile(ctx context.Context, r *v1beta2pb.RetrieveFileSandboxRequest) (*v1beta2pb.RetrieveFileSandboxResponse, error) {
	ctx, cancel, err := bounded(ctx, r.GetMaxTimeoutSeconds())
	if err != nil {
		return nil, err
	}
	defer cancel()
	// One byte more than is allowed, so that a file which does not end there is told from one that does.
	file, size, err := s.control.ReadFile(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetFilepath(), backend.MaxUnaryFile+1)
	if fault.HasReason(err, fault.ReasonFileTooLarge) {
		size, _ := strconv.ParseInt(fault.From(err).Meta["size_bytes"], 10, 64)
		return nil, tooLarge(r.GetSandboxId(), r.GetFilepath(), size)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content := bytes.NewBuffer(make([]byte, 0, min(size, backend.MaxUnaryFile)+bytes.MinRead))
	if _, err := content.ReadFrom(io.LimitReader(file, backend.MaxUnaryFile+1)); err != nil {
		return nil, readFailed(ctx, r.GetSandboxId(), r.GetFilepath(), err)
	}
	if content.Len() > backend.MaxUnaryFile {
		return nil, tooLarge(r.GetSandboxId(), r.GetFilepath(), int64(content.Len()))
	}
	return &v1beta2pb.RetrieveFileSandboxResponse{FileContents: content.Bytes(), Success: true}, nil
}

// readFailed keeps the fault that a reader gave, and makes one of anything else.
func readFailed(ctx context.Context, id, path string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if f := fault.From(err); f.Code != fault.Internal {
		return f
	}
	return fault.New(fault.Unavailable, fault.ReasonFileIOFailed, "reading %s broke off; what was read is not returned", path).
		WithMeta("filepath", path).WithMeta("sandbox_id", id).WithCause(err)
}

// tooLarge is the error by which published clients know that a file has to be streamed.
func tooLarge(id, path string, size int64) error {
	f := fault.Preconditionf(fault.ReasonFileTooLarge, "%s is larger than %d bytes, the most that goes in one call", path, int64(backend.MaxUnaryFile)).
		WithMeta("filepath", path).WithMeta("sandbox_id", id).WithMeta("max_size_bytes", strconv.FormatInt(backend.MaxUnaryFile, 10)).
		WithHint("stream it: ReadFile and WriteFile of berm.v1.FileService, or cat FILE and cat > FILE with StreamExec")
	if size > 0 {
		f.WithMeta("size_bytes", strconv.FormatInt(size, 10))
	}
	return f
}
