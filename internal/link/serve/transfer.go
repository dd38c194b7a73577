package serve

import (
	"context"
	"sync"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	linkv1rpc "github.com/bermhq/berm/gen/berm/link/v1rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/link"
)

// ReadFileFrom implements the service.
func (s *server) ReadFileFrom(r *linkv1.ReadFileFromRequest, stream linkv1rpc.LinkService_ReadFileFromServer) error {
	file, info, err := s.cfg.Link.ReadFileFrom(stream.Context(), r.GetSandboxId(), r.GetPath(), r.GetOffset(), r.GetPrefix())
	if err != nil {
		return err
	}
	defer file.Close()
	if err := stream.Send(&linkv1.ReadFileFromResponse{Info: link.FileInfoMessage(&info)}); err != nil {
		return err
	}
	return pump(file, func(data []byte) error { return stream.Send(&linkv1.ReadFileFromResponse{Data: data}) })
}

// WriteFileFrom implements the service.
func (s *server) WriteFileFrom(stream linkv1rpc.LinkService_WriteFileFromServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return errNoStart()
	}
	var wanted sync.Once
	body := &chunks{rest: first.GetData(), next: func() ([]byte, error) {
		wanted.Do(func() { _ = stream.SendHeader(nil) }) // a stream that broke is noticed by Recv
		m, err := stream.Recv()
		return m.GetData(), brokenOff(m, err)
	}}
	err = s.cfg.Link.WriteFileFrom(stream.Context(), start.GetSandboxId(), start.GetPath(), backend.Upload{
		Name: start.GetName(), Mode: start.GetMode(), ModTime: link.Time(start.GetModifiedAt()), Size: start.GetSize(), Offset: start.GetOffset(), Prefix: start.GetPrefix(),
	}, body)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&linkv1.WriteFileFromResponse{})
}

// brokenOff is the error of a stream whose sender said that nothing comes any more, or the stream's own.
func brokenOff(m interface{ GetBrokeOff() bool }, err error) error {
	if err == nil && m.GetBrokeOff() {
		return fault.New(fault.Canceled, "CANCELED", "the sender broke off")
	}
	return err
}

// FileState implements the service.
func (s *server) FileState(ctx context.Context, r *linkv1.FileStateRequest) (*linkv1.FileStateResponse, error) {
	state, err := s.cfg.Link.FileState(ctx, r.GetSandboxId(), r.GetPath(), r.GetName())
	if err != nil {
		return nil, err
	}
	return &linkv1.FileStateResponse{File: link.FileInfoMessage(state.File), Partial: state.Partial, Busy: state.Busy}, nil
}
