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

type portService struct {
	bermv1rpc.UnsafePortServiceServer
	*Front
}

var _ bermv1rpc.PortServiceServer = (*portService)(nil)

// Dial joins the stream with a connection inside the sandbox.
func (s *portService) Dial(stream grpc.BidiStreamingServer[bermv1.DialRequest, bermv1.DialResponse]) error {
	first, err := firstOf(stream.Recv())
	if err != nil {
		return err
	}
	init := first.GetInit()
	if init == nil {
		return notInit()
	}
	ctx, done := s.untilDrain(stream.Context())
	defer done()
	c, err := s.control.Dial(ctx, edge.Principal(ctx), init.GetSandboxId(), init.GetPort())
	if err != nil {
		return drained(ctx, err)
	}
	defer func() { _ = c.Close() }() // both halves have ended, or it is cut
	if err := stream.Send(&bermv1.DialResponse{Response: &bermv1.DialResponse_Accepted{Accepted: true}}); err != nil {
		return err
	}
	return drained(ctx, backend.Join(c, backend.Messages{
		Recv: func() ([]byte, bool, error) { return dialed(stream.Recv()) },
		Send: func(data []byte) error {
			return stream.Send(&bermv1.DialResponse{Response: &bermv1.DialResponse_Data{Data: data}})
		},
		End: func() error {
			return stream.Send(&bermv1.DialResponse{Response: &bermv1.DialResponse_End{End: true}})
		},
	}))
}

// dialed reads what comes for a connection. A stream that ends without saying that its half does was cut.
func dialed(in *bermv1.DialRequest, err error) (data []byte, end bool, _ error) {
	switch {
	case errors.Is(err, io.EOF):
		return nil, false, fault.New(fault.Canceled, "CANCELED", "the caller went away")
	case err != nil:
		return nil, false, err
	case in.GetInit() != nil:
		return nil, false, fault.Invalidf(fault.ReasonInvalidRequest, "init may come once, as the first message")
	case len(in.GetData()) > backend.MaxExecChunk:
		return nil, false, fault.Invalidf(fault.ReasonInvalidRequest, "a piece of %d bytes, the limit is %d", len(in.GetData()), backend.MaxExecChunk)
	}
	return in.GetData(), in.GetEnd(), nil
}

// CreatePortLink makes a link for a browser.
func (s *portService) CreatePortLink(ctx context.Context, r *bermv1.CreatePortLinkRequest) (*bermv1.CreatePortLinkResponse, error) {
	url, until, err := s.control.PortLink(ctx, edge.Principal(ctx), r.GetSandboxId(), r.GetPort())
	if err != nil {
		return nil, err
	}
	return &bermv1.CreatePortLinkResponse{Url: url, ExpiresAt: wire.Time(until)}, nil
}
