package serve

import (
	"context"
	"errors"
	"io"
	"math"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	linkv1rpc "github.com/bermhq/berm/gen/berm/link/v1rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// Dial implements the service. The connection is cut when the stream ends before both halves have.
func (s *server) Dial(stream linkv1rpc.LinkService_DialServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return errNoStart()
	}
	if start.GetPort() < 1 || start.GetPort() > math.MaxUint16 {
		return fault.Invalidf(fault.ReasonInvalidRequest, "there is no port %d", start.GetPort())
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	c, err := s.cfg.Link.Dial(ctx, start.GetSandboxId(), uint16(start.GetPort())) //nolint:gosec // bounded above
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := stream.Send(&linkv1.DialResponse{Kind: &linkv1.DialResponse_Accepted{Accepted: true}}); err != nil {
		return err
	}
	return backend.Join(c, backend.Messages{
		Recv: func() ([]byte, bool, error) { return fromDial(stream.Recv()) },
		Send: func(data []byte) error {
			return stream.Send(&linkv1.DialResponse{Kind: &linkv1.DialResponse_Data{Data: data}})
		},
		End: func() error { return stream.Send(&linkv1.DialResponse{Kind: &linkv1.DialResponse_End{End: true}}) },
	})
}

// fromDial reads what comes for a connection. A stream that ends without saying that its half does was cut.
func fromDial(in *linkv1.DialRequest, err error) (data []byte, end bool, _ error) {
	switch {
	case errors.Is(err, io.EOF):
		return nil, false, fault.New(fault.Canceled, "CANCELED", "the caller went away")
	case err != nil:
		return nil, false, err
	case in.GetStart() != nil:
		return nil, false, errNoStart()
	}
	return in.GetData(), in.GetEnd(), nil
}
