package serve

import (
	"sync"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	linkv1rpc "github.com/bermhq/berm/gen/berm/link/v1rpc"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/link"
)

// execOutput sends what a command says: its output comes from one goroutine, what became of its input from another.
type execOutput struct {
	mu     sync.Mutex
	stream linkv1rpc.LinkService_ExecServer
}

func newExecOutput(stream linkv1rpc.LinkService_ExecServer) *execOutput {
	return &execOutput{stream: stream}
}

func (o *execOutput) frame(f *backend.Frame) error {
	out := &linkv1.ExecResponse{At: link.Stamp(f.At)}
	switch f.Kind {
	case backend.FrameStdout:
		out.Kind = &linkv1.ExecResponse_Stdout{Stdout: f.Data}
	case backend.FrameStderr:
		out.Kind = &linkv1.ExecResponse_Stderr{Stderr: f.Data}
	case backend.FrameExit:
		out.Kind = &linkv1.ExecResponse_Exit{Exit: &linkv1.Exit{Code: f.ExitCode, Signal: int32(f.Signal)}} //nolint:gosec // a signal
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stream.Send(out)
}

func (o *execOutput) stdinClosed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.stream.Send(&linkv1.ExecResponse{Kind: &linkv1.ExecResponse_StdinClosed{StdinClosed: link.FaultMessage(err)}}) // a stream that broke ends the handler
}

// reports sends the progress of a pull. Only the last counts: while one is on its way, those that come replace each other.
type reports struct {
	mu     sync.Mutex
	stream linkv1rpc.LinkService_PullImageServer
	last   *backend.ImageProgress
	closed bool
	wake   chan struct{}
	done   chan struct{}
	err    error
}

func newReports(stream linkv1rpc.LinkService_PullImageServer) *reports {
	r := &reports{stream: stream, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go r.run()
	return r
}

func (r *reports) add(p backend.ImageProgress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.last = &p
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reports) run() {
	defer close(r.done)
	for range r.wake {
		r.mu.Lock()
		p := r.last
		r.last = nil
		r.mu.Unlock()
		if p == nil || r.err != nil {
			continue
		}
		r.err = r.stream.Send(&linkv1.PullImageResponse{Kind: &linkv1.PullImageResponse_Progress{Progress: &linkv1.ImageProgress{
			Source: p.Source, Layers: int64(p.Layers), Done: int64(p.Done), Bytes: p.Bytes, Total: p.Total,
		}}})
	}
}

// close waits for what is on its way. What is reported after it is nobody's.
func (r *reports) close() error {
	r.mu.Lock()
	r.closed = true
	close(r.wake)
	r.mu.Unlock()
	<-r.done
	return r.err
}
