package edge

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/payload"
)

// Codec returns the codec of package payload for servers whose services are registered with Register.
//
// grpc-go answers a message that does not decode by itself, as Internal and without a reason, before the handler hears of it.
// So that this is the caller's mistake on the wire too, decoding a received never fails; the stream that asked for it does.
func Codec() encoding.CodecV2 { return codec{payload.Codec()} }

type codec struct{ encoding.CodecV2 }

// received is a message that is being received, and what is wrong with it.
type received struct {
	message any
	err     error
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if r, ok := v.(*received); ok {
		r.err = c.CodecV2.Unmarshal(data, r.message)
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// fault is the caller's mistake.
func (r *received) fault() error {
	if r.err == nil {
		return nil
	}
	return fault.Invalidf(fault.ReasonInvalidRequest, "the request message cannot be decoded: %v", r.err).
		WithHint("send the message that the method takes; texts are UTF-8")
}
