package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/client"
)

const (
	execID = "soak"
	// acknowledge is how much output is received before the server is told so, in bytes.
	acknowledge = 64 << 10
	// ahead is how much input may be on its way, and piece how much of it goes into a message.
	ahead = 128 << 10
	piece = 32 << 10
)

// create starts a command once, however often it has to ask.
func (r *round) create(ctx context.Context, req *bermv1.CreateExecRequest) error {
	r.commands.Add(1)
	req.SandboxId, req.ExecId = r.id, execID
	return r.again(ctx, func() error {
		_, err := r.client.Execs().CreateExec(ctx, req)
		return err
	})
}

// kept reads what a command prints, through everything that happens meanwhile.
func (r *round) kept(ctx context.Context) error {
	code := anyCode()
	argv, want := printing(code)
	if err := r.create(ctx, &bermv1.CreateExecRequest{Command: argv}); err != nil {
		return err
	}
	return r.follow(ctx, want, nil, code)
}

// typed sends input to a command that gives it back.
func (r *round) typed(ctx context.Context) error {
	want := make([]byte, 1<<20+rand.N(1<<20)) //nolint:gosec // no secret
	for i := range want {
		want[i] = byte(rand.Uint32()) //nolint:gosec // no secret
	}
	code := anyCode()
	argv := []string{"sh", "-c", fmt.Sprintf("cat; exit %d", code)}
	if err := r.create(ctx, &bermv1.CreateExecRequest{Command: argv, Stdin: true}); err != nil {
		return err
	}
	return r.follow(ctx, want, want, code)
}

// follow attaches to the command until its one end was told, each time where it was.
func (r *round) follow(ctx context.Context, want, input []byte, code int) error {
	a := &attached{round: r, input: input}
	first := true
	err := r.again(ctx, func() error {
		if !first {
			r.resumed.Add(1)
		}
		first = false
		return a.once(ctx)
	})
	switch {
	case err != nil:
		return err
	case a.end.ExitCode == nil || int(a.end.GetExitCode()) != code:
		return fmt.Errorf("%v was told, and the command ended with %d", a.end, code)
	}
	return r.same(a.got, want)
}

// attached is what came of a command over all its streams.
type attached struct {
	*round
	input []byte
	got   []byte
	end   *bermv1.Exec
}

func (a *attached) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := a.client.Execs().AttachExec(ctx)
	if err != nil {
		return err
	}
	init := &bermv1.AttachExecInit{SandboxId: a.id, ExecId: execID, Offset: int64(len(a.got)), Follow: true, Stdin: a.input != nil}
	_ = stream.Send(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_Init{Init: init}}) // Recv says why not
	acknowledged, typist := len(a.got), &typist{stream: stream, input: a.input}
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && a.end != nil:
			return nil
		case err != nil:
			return client.FromRPC(err)
		case a.end != nil:
			return errTwoEnds
		}
		switch m := m.GetResponse().(type) {
		case *bermv1.AttachExecResponse_Attached:
			typist.sent = m.Attached.GetStdinOffset()
			typist.closed = m.Attached.GetStdinClosed()
			typist.taken(m.Attached.GetStdinTaken())
		case *bermv1.AttachExecResponse_StdinTaken:
			typist.taken(m.StdinTaken)
		case *bermv1.AttachExecResponse_Gap:
			return fmt.Errorf("%d bytes from %d on are gone", m.Gap.GetBytes(), m.Gap.GetOffset())
		case *bermv1.AttachExecResponse_Output:
			if m.Output.GetOffset() != int64(len(a.got)) {
				return fmt.Errorf("a piece begins at %d behind %d bytes", m.Output.GetOffset(), len(a.got))
			}
			a.got = append(a.got, m.Output.GetData()...)
			if len(a.got)-acknowledged >= acknowledge {
				acknowledged = len(a.got)
				_ = stream.Send(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_Received{Received: int64(acknowledged)}}) // Recv says why not
			}
		case *bermv1.AttachExecResponse_End:
			a.end = m.End
		}
	}
}

// typist sends input as far ahead as is allowed.
type typist struct {
	stream bermv1rpc.ExecService_AttachExecClient
	input  []byte
	sent   int64
	closed bool
}

func (t *typist) taken(offset int64) {
	for t.input != nil && t.sent < int64(len(t.input)) && t.sent-offset < ahead {
		next := t.input[t.sent:min(t.sent+piece, int64(len(t.input)))]
		_ = t.stream.Send(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_Stdin{Stdin: next}}) // Recv says why not
		t.sent += int64(len(next))
	}
	if t.input != nil && t.sent == int64(len(t.input)) && !t.closed {
		t.closed = true
		_ = t.stream.Send(&bermv1.AttachExecRequest{Request: &bermv1.AttachExecRequest_CloseStdin{CloseStdin: true}})
	}
}
