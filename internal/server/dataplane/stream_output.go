package dataplane

import (
	"errors"
	"io"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/payload"
	"github.com/bermhq/berm/internal/server/wire"
)

const (
	// maxOutput is the most output in one message, in bytes. A message costs as much as a hundred kilobytes.
	maxOutput = 128 << 10
	// readAhead is how many frames are taken of a command, of backend.MaxExecChunk bytes at most, while a message is sent.
	readAhead = 2
)

// ahead reads what a command says while what it said before is sent, so that all of it goes out in the next message.
type ahead struct {
	frames chan backend.Frame
	// next came, and did not fit. err is why frames was closed.
	next *backend.Frame
	err  error
}

// newAhead begins to read, until the command's last frame, or until done is closed and the command killed.
func newAhead(proc backend.Process, done <-chan struct{}) *ahead {
	a := &ahead{frames: make(chan backend.Frame, readAhead)}
	go func() {
		defer close(a.frames)
		for {
			f, err := proc.Recv()
			if err != nil {
				a.err = err
				return
			}
			select {
			case a.frames <- f:
			case <-done:
				a.err = io.ErrClosedPipe
				return
			}
		}
	}()
	return a
}

// read returns frames of one kind, of maxOutput bytes together at most, or one that is larger: the next, and what is there of those behind.
func (a *ahead) read() ([]backend.Frame, error) {
	first, ok := a.take()
	if !ok {
		return nil, a.err
	}
	all, size := []backend.Frame{first}, len(first.Data)
	for first.Kind != backend.FrameExit {
		select {
		case f, ok := <-a.frames:
			if !ok {
				return all, nil // why, is told next
			}
			if size += len(f.Data); f.Kind != first.Kind || size > maxOutput {
				a.next = &f
				return all, nil
			}
			all = append(all, f)
		default:
			return all, nil
		}
	}
	return all, nil
}

func (a *ahead) take() (backend.Frame, bool) {
	if f := a.next; f != nil {
		a.next = nil
		return *f, true
	}
	f, ok := <-a.frames
	return f, ok
}

// output sends what a command says and returns its exit frame.
func output(stream execStream, proc backend.Process, done <-chan struct{}) (*v1beta2pb.ExecStreamResponse, error) {
	said := newAhead(proc, done)
	for {
		frames, err := said.read()
		if errors.Is(err, io.EOF) {
			return nil, fault.New(fault.Unavailable, fault.ReasonExecFailed, "the command ended, and its exit code was not seen")
		}
		if err != nil {
			return nil, err
		}
		if f := frames[0]; f.Kind == backend.FrameExit {
			return &v1beta2pb.ExecStreamResponse{Response: &v1beta2pb.ExecStreamResponse_Exit{
				Exit: &v1beta2pb.ExecStreamExit{ExitCode: f.ExitCode, CompletedAt: wire.Time(f.At)},
			}}, nil
		}
		if err := sendOutput(stream, frames); err != nil {
			return nil, err
		}
	}
}

// sendOutput sends frames of one kind in one message, from where they lie. Its time is that of the first.
func sendOutput(stream execStream, frames []backend.Frame) error {
	kind := v1beta2pb.ExecStreamOutput_STREAM_TYPE_STDOUT
	if frames[0].Kind == backend.FrameStderr {
		kind = v1beta2pb.ExecStreamOutput_STREAM_TYPE_STDERR
	}
	m, err := outputMessage(kind, frames, frames[0].At)
	if err != nil {
		return fault.Internalf(err, "encode a message")
	}
	return stream.SendMsg(m)
}

// Numbers of fields, see streaming.proto: of a response its output, and of that its data.
const (
	outputField protowire.Number = 1
	dataField   protowire.Number = 2
)

// outputMessage is a response with output on the wire.
func outputMessage(kind v1beta2pb.ExecStreamOutput_StreamType, frames []backend.Frame, at time.Time) (payload.Parts, error) {
	around, err := proto.Marshal(&v1beta2pb.ExecStreamOutput{StreamType: kind, Timestamp: wire.Time(at)})
	if err != nil {
		return nil, err
	}
	size := 0
	for _, f := range frames {
		size += len(f.Data)
	}
	data := protowire.AppendVarint(protowire.AppendTag(nil, dataField, protowire.BytesType), uint64(size)) //nolint:gosec // not negative
	head := protowire.AppendTag(nil, outputField, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(around)+len(data)+size)) //nolint:gosec // not negative
	parts := payload.Parts{slices.Concat(head, around, data)}
	for _, f := range frames {
		parts = append(parts, f.Data)
	}
	return parts, nil
}
