package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// settle is how long the server is left alone before its memory is read, so that what was in use for a moment is not counted.
const settle = 3 * time.Second

// openAtOnce is how many streams are opened at the same time.
const openAtOnce = 16

// idle measures the server's memory before and with streams of commands that read and print nothing.
func (r *run) idle(ctx context.Context) error {
	id, err := r.started(ctx)
	if err != nil {
		return err
	}
	before, err := r.memory(ctx)
	if err != nil {
		return err
	}
	held, cancel := context.WithCancel(ctx)
	defer cancel()
	var t times
	var group sync.WaitGroup
	slots := make(chan struct{}, openAtOnce)
	for range r.Idle {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			t.timed(func() error { return r.open(held, id) })
		})
	}
	group.Wait()
	f := t.figure("idle stream, until it is open")
	r.report(f, callFigure)
	with, err := r.memory(ctx)
	if err != nil {
		return err
	}
	open := f.Count - f.Lost
	r.figures = append(r.figures,
		Figure{Measure: "memory of the server before", Count: 1, Rate: before / 1e6, Unit: "MB"},
		Figure{Measure: fmt.Sprintf("memory of the server with %d idle streams", open), Count: 1, Rate: with / 1e6, Unit: "MB"})
	cancel()
	return r.remove(ctx, id)
}

// open begins a command that waits for input, and holds its stream until ctx ends.
func (r *run) open(ctx context.Context, id string) error {
	stream, err := r.Client.Streaming().StreamExec(ctx)
	if err != nil {
		return client.FromRPC(err)
	}
	init := &v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"cat"}}
	if err := stream.Send(&v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Init{Init: init}}); err != nil && !errors.Is(err, io.EOF) {
		return client.FromRPC(err)
	}
	return ready(stream)
}

func ready(stream v1beta2rpc.GatewayStreamingService_StreamExecClient) error {
	m, err := stream.Recv()
	switch {
	case err != nil:
		return client.FromRPC(err)
	case m.GetReady() == nil:
		return fault.Preconditionf(m.GetError().GetCode(), "a stream did not begin: %s", m.GetError().GetMessage())
	}
	return nil
}

// memory returns the resident memory of the server, in bytes, once it has come to rest.
func (r *run) memory(ctx context.Context) (float64, error) {
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	text, err := r.Client.REST(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return 0, err
	}
	const name = "process_resident_memory_bytes "
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fault.New(fault.Internal, "BENCH_METRICS", "the server's metrics have no %s", name)
}
