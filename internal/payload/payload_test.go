package payload_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/payload"
)

const field = 2

func data(b []byte) *bermv1.WriteFileRequest {
	return &bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Data{Data: b}}
}

func receive() *payload.Received {
	return payload.Receive(field, func() proto.Message { return &bermv1.WriteFileRequest{} })
}

// split is a message as it may come: in buffers of n bytes.
func split(b []byte, n int) (out mem.BufferSlice) {
	for ; len(b) > n; b = b[n:] {
		out = append(out, mem.SliceBuffer(b[:n]))
	}
	return append(out, mem.SliceBuffer(b))
}

// TestPieceIsTheMessage: what is sent is what protobuf would make of the message, and can be sent once.
func TestPieceIsTheMessage(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 70_000, payload.Size} {
		content := bytes.Repeat([]byte{7}, n)
		p := payload.New(field)
		if len(p.Data) != payload.Size {
			t.Fatalf("%d bytes of room", len(p.Data))
		}
		p.Data = p.Data[:copy(p.Data, content)]
		got, err := payload.Codec().Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		want, err := proto.Marshal(data(content))
		if err != nil || !bytes.Equal(got.Materialize(), want) {
			t.Errorf("%d bytes: %d on the wire, protobuf makes %d, %v", n, got.Len(), len(want), err)
		}
		got.Free()
		if _, err := payload.Codec().Marshal(p); err == nil {
			t.Errorf("%d bytes: was sent twice", n)
		}
	}
}

// TestReceived: content comes as it was sent, however the message is cut, and stays until it was read.
func TestReceived(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 1000)
	wire, err := proto.Marshal(data(content))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 5, 4096, len(wire)} {
		r := receive()
		for range 2 {
			if err := payload.Codec().Unmarshal(split(wire, n), r); err != nil || r.Other != nil || r.Remaining() != len(content) {
				t.Fatalf("in buffers of %d: %d bytes, %v, %v", n, r.Remaining(), r.Other, err)
			}
			if got := bytes.Join(r.Slices(nil), nil); !bytes.Equal(got, content) {
				t.Errorf("in buffers of %d: slices of %d bytes", n, len(got))
			}
		}
		if got, err := io.ReadAll(iotest.OneByteReader(r)); err != nil || !bytes.Equal(got, content) || r.Remaining() != 0 {
			t.Errorf("in buffers of %d: %d bytes, %v", n, len(got), err)
		}
		r.Close()
		if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) || len(r.Slices(nil)) > 0 {
			t.Errorf("after the end: %d, %v", n, err)
		}
	}
}

// TestOtherForms: a message that is no piece is decoded as what it is, and one that is none is an error.
func TestOtherForms(t *testing.T) {
	init, err := proto.Marshal(&bermv1.WriteFileRequest{Request: &bermv1.WriteFileRequest_Init{Init: &bermv1.WriteFileInit{Path: "/x"}}})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := proto.Marshal(data([]byte("content")))
	if err != nil {
		t.Fatal(err)
	}
	unknown := append(bytes.Clone(whole), 0x78, 1) // field 15, which nobody knows yet
	twice := append(bytes.Clone(whole), whole...)
	for name, wire := range map[string][]byte{"init": init, "with another field": unknown, "twice": twice, "empty": nil} {
		r := receive()
		want := &bermv1.WriteFileRequest{}
		if err := proto.Unmarshal(wire, want); err != nil {
			t.Fatal(err)
		}
		if err := payload.Codec().Unmarshal(split(wire, 3), r); err != nil || !proto.Equal(r.Other, want) || r.Remaining() != 0 {
			t.Errorf("%s: %v, want %v, %v", name, r.Other, want, err)
		}
		r.Accept(want.GetData())
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want.GetData()) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, wire := range map[string][]byte{"cut": whole[:len(whole)-1], "longer than it is": {0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'x'}, "no message": {0xff}} {
		r := receive()
		if err := payload.Codec().Unmarshal(split(wire, 3), r); err == nil {
			t.Errorf("%s was received: %v, %d bytes", name, r.Other, r.Remaining())
		}
	}
}

// FuzzReceived: content is received exactly where protobuf finds it.
func FuzzReceived(f *testing.F) {
	f.Add([]byte("\x12\x03abc"), 2)
	f.Add([]byte("\x0a\x04\x12\x02/x"), 1)
	f.Add([]byte("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 5)
	f.Fuzz(func(t *testing.T, wire []byte, n int) {
		if n < 1 {
			return
		}
		want := &bermv1.WriteFileRequest{}
		wanted := proto.Unmarshal(wire, want)
		r := receive()
		err := payload.Codec().Unmarshal(split(wire, n), r)
		if (err == nil) != (wanted == nil) {
			t.Fatalf("%v, protobuf says %v", err, wanted)
		}
		if err != nil {
			return
		}
		if r.Other != nil {
			if !proto.Equal(r.Other, want) {
				t.Fatalf("%v, protobuf says %v", r.Other, want)
			}
			return
		}
		if got := bytes.Join(r.Slices(nil), nil); !bytes.Equal(got, want.GetData()) {
			t.Fatalf("%q, protobuf says %q", got, want.GetData())
		}
	})
}
