// Package payload moves content through gRPC without copying it. A piece of content is a protobuf message of which one field of bytes
// is all: it is sent from the buffer that it was read into, and received as the buffers that it came in. On the wire it is the message
// that the API describes, and whoever sends that in another form is understood too.
package payload

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one is made of
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Size is how much content goes into one message, in bytes. A message costs as much as a hundred kilobytes.
const Size = 1<<20 - 128

// maxHead is the longest tag and length of a piece, in bytes.
const maxHead = 16

// Piece is content to be sent with SendMsg.
type Piece struct {
	// Data is what is sent. It begins as a buffer of Size bytes to be filled and cut, and is nobody's any more once it was given to SendMsg.
	Data  []byte
	field protowire.Number
	buf   *[]byte
}

// New returns a piece that will be the field of a message.
func New(field protowire.Number) *Piece {
	buf := buffers.Get(Size)
	return &Piece{Data: *buf, field: field, buf: buf}
}

// buffers are those of pieces. They are not cleared: a piece is no longer than what was read into it.
var buffers = &pool{free: sync.Pool{New: func() any { b := make([]byte, Size); return &b }}}

// pool implements mem.BufferPool.
type pool struct{ free sync.Pool }

// Get implements mem.BufferPool.
func (p *pool) Get(n int) *[]byte {
	b, ok := p.free.Get().(*[]byte)
	if !ok || cap(*b) < n {
		fresh := make([]byte, n)
		return &fresh
	}
	*b = (*b)[:n]
	return b
}

// Put implements mem.BufferPool.
func (p *pool) Put(b *[]byte) { p.free.Put(b) }

// Received is a message that RecvMsg fills in: content of a field, or anything else.
type Received struct {
	field   protowire.Number
	content *mem.Reader
	// Other is the message where it was no piece, nil where it was. make makes one.
	Other proto.Message
	make  func() proto.Message
}

// Receive returns a place for messages whose content is in a field; other makes what else they may be.
func Receive(field protowire.Number, other func() proto.Message) *Received {
	return &Received{field: field, make: other}
}

// Accept takes content that came in another form.
func (r *Received) Accept(content []byte) {
	r.content = mem.BufferSlice{mem.SliceBuffer(content)}.Reader()
}

// Remaining is how much of the content was not read yet.
func (r *Received) Remaining() int {
	if r.content == nil {
		return 0
	}
	return r.content.Remaining()
}

// Read reads content; io.EOF is the end of the message.
func (r *Received) Read(p []byte) (int, error) {
	if r.content == nil {
		return 0, io.EOF
	}
	return r.content.Read(p)
}

// Slices returns the content that was not read yet as it lies in memory, until the next message or Close.
func (r *Received) Slices(into [][]byte) [][]byte {
	n := r.Remaining()
	if n == 0 {
		return into
	}
	into, _ = r.content.Peek(n, into) // So much is there.
	return into
}

// Close gives the buffers back.
func (r *Received) Close() {
	if r.content != nil {
		_ = r.content.Close() // It has no error to tell.
		r.content = nil
	}
}

// Codec returns grpc-go's own codec, with pieces and what is Received beside messages.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

type codec struct{ encoding.CodecV2 }

// Parts is a message in the form that it has on the wire, to be sent with SendMsg from where its parts lie. They do not change any more.
type Parts [][]byte

func (p Parts) buffers() mem.BufferSlice {
	out := make(mem.BufferSlice, 0, len(p))
	for _, part := range p {
		out = append(out, mem.SliceBuffer(part))
	}
	return out
}

var errSent = errors.New("a piece can be sent once")

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if parts, ok := v.(Parts); ok {
		return parts.buffers(), nil
	}
	p, ok := v.(*Piece)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	if p.buf == nil {
		return nil, errSent
	}
	head := protowire.AppendTag(make([]byte, 0, maxHead), p.field, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(p.Data)))
	*p.buf = p.Data
	out := mem.BufferSlice{mem.SliceBuffer(head), mem.NewBuffer(p.buf, buffers)}
	p.Data, p.buf = nil, nil
	return out, nil
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*Received)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	r.Close()
	r.Other = nil
	if n := r.head(data); n > 0 {
		r.content = data.Reader()
		_, err := r.content.Discard(n)
		return err
	}
	other := r.make()
	if err := c.CodecV2.Unmarshal(data, other); err != nil {
		return fmt.Errorf("message: %w", err)
	}
	r.Other = other
	return nil
}

// head returns the length of what is before the content, 0 for a message that is anything but one field with it.
func (r *Received) head(data mem.BufferSlice) int {
	var first [maxHead]byte
	begin := first[:data.CopyTo(first[:])]
	field, kind, n := protowire.ConsumeTag(begin)
	if n < 0 || field != r.field || kind != protowire.BytesType {
		return 0
	}
	size, m := protowire.ConsumeVarint(begin[n:])
	if m < 0 || size != uint64(data.Len()-n-m) {
		return 0
	}
	return n + m
}
