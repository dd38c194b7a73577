package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
)

// logged follows the output of the main process, from where it was each time.
func (r *round) logged(ctx context.Context) error {
	_, want := printing(0)
	var got []byte
	var session string
	first := true
	err := r.again(ctx, func() error {
		if !first {
			r.resumed.Add(1)
		}
		first = false
		req := &bermv1.StreamLogsRequest{SandboxId: r.id, Follow: true}
		if session != "" {
			req.Session, req.Offset = session, int64(len(got))
		}
		stream, err := r.client.Logs().StreamLogs(ctx, req)
		if err != nil {
			return err
		}
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return client.FromRPC(err)
			}
			if m.GetGap() != nil {
				return fmt.Errorf("%d bytes from %d on are gone", m.GetGap().GetBytes(), m.GetGap().GetOffset())
			}
			if m.GetOutput().GetOffset() != int64(len(got)) {
				return fmt.Errorf("a piece begins at %d behind %d bytes", m.GetOutput().GetOffset(), len(got))
			}
			session = m.GetOutput().GetSession()
			got = append(got, m.GetOutput().GetData()...)
		}
	})
	if err != nil {
		return err
	}
	return r.same(got, want)
}

// streamed runs a command through the published stream, which cannot be taken up again: either it is told whole, or its end is an error.
func (r *round) streamed(ctx context.Context) error {
	code := anyCode()
	argv, want := printing(code)
	r.commands.Add(1)
	got, exit, err := r.stream(ctx, argv)
	switch {
	case err != nil && exit != nil:
		return fmt.Errorf("an end was told, and then %w", err)
	case err != nil:
		r.unknown.Add(1)
		if !bytes.HasPrefix(want, got) {
			return fmt.Errorf("what came until it broke is not the beginning of what was printed: %w", r.same(got, want))
		}
		return nil
	case int(exit.GetExitCode()) != code:
		return fmt.Errorf("%d was told, and the command ended with %d", exit.GetExitCode(), code)
	}
	return r.same(got, want)
}

// stream returns the output, and the end if one was told.
func (r *round) stream(ctx context.Context, argv []string) (got []byte, exit *v1beta2pb.ExecStreamExit, err error) {
	stream, err := r.client.Streaming().StreamExec(ctx)
	if err != nil {
		return nil, nil, err
	}
	init := &v1beta2pb.ExecStreamInit{SandboxId: r.id, Command: argv}
	_ = stream.Send(&v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Init{Init: init}}) // Recv says why not
	_ = stream.CloseSend()
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && exit != nil:
			return got, exit, nil
		case err != nil:
			return got, exit, client.FromRPC(err)
		case exit != nil:
			return got, exit, errTwoEnds
		case m.GetError() != nil:
			return got, nil, errors.New(m.GetError().GetMessage())
		}
		got = append(got, m.GetOutput().GetData()...)
		exit = m.GetExit()
	}
}

// file writes a file until that succeeds, and reads it back.
func (r *round) file(ctx context.Context) error {
	want := make([]byte, 1+rand.N(4<<20)) //nolint:gosec // no secret
	for i := range want {
		want[i] = byte(rand.Uint32()) //nolint:gosec // no secret
	}
	const path = "/tmp/soak"
	err := r.again(ctx, func() error {
		_, err := r.client.Gateway().AddFile(ctx, &v1beta2pb.AddFileSandboxRequest{SandboxId: r.id, Filepath: path, FileContents: want})
		return err
	})
	if err != nil {
		return err
	}
	var got []byte
	err = r.again(ctx, func() error {
		resp, err := r.client.Gateway().RetrieveFile(ctx, &v1beta2pb.RetrieveFileSandboxRequest{SandboxId: r.id, Filepath: path})
		got = resp.GetFileContents()
		return err
	})
	if err != nil {
		return err
	}
	return r.same(got, want)
}
