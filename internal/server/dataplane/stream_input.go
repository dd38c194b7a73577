package dataplane

import (
	"errors"
	"io"
	"slices"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
)

// input passes what a client sends on to a command.
type input struct {
	stream execStream
	proc   backend.Process
	tty    bool
	// closed: the client ended standard input. deaf: the command did, and what still comes is dropped, as by a closed pipe.
	closed, deaf bool
}

// run returns nil at the end of the client's side, which ends standard input and nothing else, and when the call is over. An
// error is a message that does not belong where it came.
func (in *input) run() error {
	for {
		m, err := in.stream.Recv()
		if errors.Is(err, io.EOF) {
			in.close()
			return nil
		}
		if fault.Is(err, fault.Invalid) { // it does not decode
			return err
		}
		if err != nil {
			return nil //nolint:nilerr // the call is over, and its context says why
		}
		if err := in.take(m); err != nil {
			return err
		}
	}
}

func (in *input) take(m *v1beta2pb.ExecStreamRequest) error {
	switch r := m.GetRequest().(type) {
	case *v1beta2pb.ExecStreamRequest_Stdin:
		if in.closed {
			return badStream("standard input came after its end")
		}
		in.send(r.Stdin.GetData())
	case *v1beta2pb.ExecStreamRequest_Resize:
		w, h := r.Resize.GetWidth(), r.Resize.GetHeight()
		if w == 0 || h == 0 || w > maxSide || h > maxSide {
			return badStream("invalid resize").WithField("resize", "%d×%d is no size of a terminal", w, h)
		}
		if in.tty {
			_ = in.proc.Resize(uint16(w), uint16(h)) // fails only when the command has just ended
		}
	case *v1beta2pb.ExecStreamRequest_Close:
		in.close()
	case *v1beta2pb.ExecStreamRequest_Init:
		return badStream("init came twice")
	default:
		return badStream("a message holds nothing that this server knows")
	}
	return nil
}

// send blocks while the command does not read; the client is then stopped by flow control.
func (in *input) send(data []byte) {
	for chunk := range slices.Chunk(data, backend.MaxExecChunk) {
		if in.deaf {
			return
		}
		in.deaf = in.proc.Send(chunk) != nil
	}
}

func (in *input) close() {
	if !in.closed {
		in.closed = true
		_ = in.proc.CloseSend() // fails only when the command closed it first
	}
}
