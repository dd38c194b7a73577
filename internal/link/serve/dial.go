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
	up := make(chan error, 1)
	go func() { up <- sendTo(c, stream) }()
	err = pump(c, func(data []byte) error {
		return stream.Send(&linkv1.DialResponse{Kind: &linkv1.DialResponse_Data{Data: data}})
	})
	if err == nil {
		err = stream.Send(&linkv1.DialResponse{Kind: &linkv1.DialResponse_End{End: true}})
	}
	if err != nil {
		return err
	}
	return <-up
}

// sendTo gives the connection what comes, until that ends. A stream that ends without saying so was cut.
func sendTo(c backend.Conn, stream linkv1rpc.LinkService_DialServer) error {
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fault.New(fault.Canceled, "CANCELED", "the caller went away")
		}
		if err != nil {
			return err
		}
		switch k := in.GetKind().(type) {
		case *linkv1.DialRequest_Data:
			if _, err := c.Write(k.Data); err != nil {
				return err
			}
		case *linkv1.DialRequest_End:
			return c.CloseWrite()
		case *linkv1.DialRequest_Start:
			return errNoStart()
		}
	}
}
