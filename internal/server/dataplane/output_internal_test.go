package dataplane

import (
	"bytes"
	"io"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/server/wire"
)

// TestOutputMessage: what is put together by hand is the message that the API describes.
func TestOutputMessage(t *testing.T) {
	at := time.Unix(1_800_000_000, 123)
	frames := []backend.Frame{{Data: []byte("ab")}, {}, {Data: bytes.Repeat([]byte{0xff}, 70_000)}}
	parts, err := outputMessage(v1beta2pb.ExecStreamOutput_STREAM_TYPE_STDERR, frames, at)
	if err != nil {
		t.Fatal(err)
	}
	var got v1beta2pb.ExecStreamResponse
	if err := proto.Unmarshal(bytes.Join(parts, nil), &got); err != nil {
		t.Fatal(err)
	}
	want := &v1beta2pb.ExecStreamResponse{Response: &v1beta2pb.ExecStreamResponse_Output{Output: &v1beta2pb.ExecStreamOutput{
		StreamType: v1beta2pb.ExecStreamOutput_STREAM_TYPE_STDERR, Timestamp: wire.Time(at),
		Data: append([]byte("ab"), frames[2].Data...),
	}}}
	if !proto.Equal(&got, want) {
		t.Errorf("%d bytes of output, %s at %s", len(got.GetOutput().GetData()), got.GetOutput().GetStreamType(), got.GetOutput().GetTimestamp().AsTime())
	}
}

// said is a process that has said everything already.
type said struct {
	backend.Process
	frames []backend.Frame
}

func (s *said) Recv() (backend.Frame, error) {
	if len(s.frames) == 0 {
		return backend.Frame{}, io.EOF
	}
	f := s.frames[0]
	s.frames = s.frames[1:]
	return f, nil
}

// TestAhead: frames come in their order, those of one kind together, up to a limit, and the error when all of them were there.
func TestAhead(t *testing.T) {
	const out, errs, exit = backend.FrameStdout, backend.FrameStderr, backend.FrameExit
	big := make([]byte, backend.MaxExecChunk)
	var want []backend.Frame
	for _, kind := range []backend.FrameKind{out, out, errs, out, errs, errs, out} {
		want = append(want, backend.Frame{Kind: kind, Data: []byte{byte(len(want))}})
	}
	for range 7 {
		want = append(want, backend.Frame{Kind: out, Data: big})
	}
	want = append(want, backend.Frame{Kind: exit, ExitCode: 3})
	a := newAhead(&said{frames: want}, nil)
	for len(want) > 0 {
		time.Sleep(time.Millisecond) // so that there is something to put together
		all, err := a.read()
		if err != nil || len(all) == 0 || len(all) > len(want) {
			t.Fatalf("%d frames, %v; %d are missing", len(all), err, len(want))
		}
		size := 0
		for i, f := range all {
			size += len(f.Data)
			if f.Kind != all[0].Kind || f.Kind != want[i].Kind || !bytes.Equal(f.Data, want[i].Data) || f.Kind == exit && len(all) > 1 {
				t.Fatalf("frame %d of %d, %d before the end: %v", i, len(all), len(want), f.Kind)
			}
		}
		if size > maxOutput {
			t.Errorf("%d bytes in one message", size)
		}
		want = want[len(all):]
	}
	if _, err := a.read(); err != io.EOF { //nolint:errorlint // as it was returned
		t.Errorf("after the last frame: %v", err)
	}
}

// TestAheadEnds: who reads ahead does not wait for somebody who is gone.
func TestAheadEnds(t *testing.T) {
	done := make(chan struct{})
	a := newAhead(&said{frames: make([]backend.Frame, 100)}, done)
	close(done)
	for range a.frames { // closed, sooner or later
	}
	if a.err == nil {
		t.Error("no reason")
	}
}
