package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

const (
	// launchTimeout bounds a launch, with an image that may have to be pulled. cleanTimeout bounds the removal of all sandboxes at the end.
	launchTimeout = 10 * time.Minute
	cleanTimeout  = 2 * time.Minute
	// cleanAtOnce is how many are removed at the same time.
	cleanAtOnce = 8
)

// launch makes a sandbox that waits for commands.
func (r *run) launch(ctx context.Context) (string, error) {
	// What was sent may have been done: only the answer has the id, so that it is waited for when the run ends.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), launchTimeout)
	defer cancel()
	req := proto.CloneOf(r.Launch)
	req.Idle, req.Tags = true, append(req.GetTags(), Tag)
	resp, err := r.Client.Start(ctx, req)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made = append(r.made, resp.GetSandboxId())
	return resp.GetSandboxId(), nil
}

// remove deletes a sandbox of this run.
func (r *run) remove(ctx context.Context, id string) error {
	_, err := r.Client.Gateway().Delete(ctx, &v1beta2pb.DeleteSandboxRequest{SandboxId: id})
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("sandbox %s is still there: %w", id, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made = slices.DeleteFunc(r.made, func(other string) bool { return other == id })
	return nil
}

// clean removes what is left.
func (r *run) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	r.mu.Lock()
	left := slices.Clone(r.made)
	r.mu.Unlock()
	results := make(chan error)
	slots := make(chan struct{}, cleanAtOnce)
	for _, id := range left {
		go func() {
			slots <- struct{}{}
			err := r.remove(ctx, id)
			<-slots
			results <- err
		}()
	}
	var errs []error
	for range left {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// started is a sandbox that has answered: what a first call waits for is behind it.
func (r *run) started(ctx context.Context) (string, error) {
	id, err := r.launch(ctx)
	if err != nil {
		return "", err
	}
	return id, r.exec(ctx, id, 0, "true")
}

// exec runs a command through the published stream, to its end, and expects success and so many bytes of output.
func (r *run) exec(ctx context.Context, id string, want int64, argv ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := r.Client.Streaming().StreamExec(ctx)
	if err != nil {
		return client.FromRPC(err)
	}
	init := &v1beta2pb.ExecStreamInit{SandboxId: id, Command: argv}
	if err := stream.Send(&v1beta2pb.ExecStreamRequest{Request: &v1beta2pb.ExecStreamRequest_Init{Init: init}}); err != nil && !errors.Is(err, io.EOF) {
		return client.FromRPC(err)
	}
	if err := stream.CloseSend(); err != nil {
		return client.FromRPC(err)
	}
	var got int64
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fault.New(fault.Internal, "STREAM_ENDED", "the stream ended before the command did")
		}
		if err != nil {
			return client.FromRPC(err)
		}
		switch m := resp.GetResponse().(type) {
		case *v1beta2pb.ExecStreamResponse_Output:
			got += int64(len(m.Output.GetData()))
		case *v1beta2pb.ExecStreamResponse_Error:
			return fault.Preconditionf(m.Error.GetCode(), "%s", m.Error.GetMessage())
		case *v1beta2pb.ExecStreamResponse_Exit:
			if code := m.Exit.GetExitCode(); code != 0 {
				return fault.Preconditionf("BENCH_COMMAND", "%q ended with %d", argv, code)
			}
			if got != want {
				return fault.Preconditionf("BENCH_OUTPUT", "%q: %d bytes of output, not %d", argv, got, want)
			}
			return nil
		}
	}
}
