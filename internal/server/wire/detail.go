package wire

import "google.golang.org/protobuf/proto"

// detail returns the structured explanation of a fault as a message, or nil when there is none that has a wire form.
func detail(d any) proto.Message {
	if m, ok := d.(proto.Message); ok {
		return m
	}
	return nil
}
