// Package rest holds what the REST fronts share: strict bodies and query strings, routes, answers, and the gateway that
// serves the published interface from its annotations. Nothing that a caller sends is ignored: an unknown field or query
// parameter, text behind the JSON and a body where none belongs are errors that say where.
package rest

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"google.golang.org/protobuf/proto"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/wire"
)

// ReadBody reads a whole body. http.MaxBytesHandler bounds it.
func ReadBody(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	if err == nil {
		return data, nil
	}
	if over, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &wire.HTTPError{Status: http.StatusRequestEntityTooLarge, Err: fault.New(fault.Exhausted, fault.ReasonLimitExceeded,
			"the request body is larger than %d bytes, the limit of REST bodies on this server", over.Limit).
			WithHint("Send large files over gRPC: AddFile, or StreamExec with standard input.")}
	}
	return nil, fault.Invalidf(fault.ReasonInvalidRequest, "the request body could not be read").WithCause(err)
}

// ParseBody reads a body as one JSON object; an empty one is an empty object.
func ParseBody(r *http.Request) (*tree.Node, error) {
	data, err := ReadBody(r)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return &tree.Node{Kind: tree.Object}, nil
	}
	n, err := tree.ParseJSON(data)
	if err != nil {
		return nil, err
	}
	if n.Kind != tree.Object {
		return nil, fault.Invalidf(fault.ReasonSyntax, "the request body is %s, expected an object", n.Kind)
	}
	return n, nil
}

// decode reads JSON text into m, strictly. How long it may be was decided when it was read: it may hold whole files.
func decode(data []byte, m proto.Message) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	n, err := tree.ParseJSONUpTo(data, len(data))
	if err != nil {
		return err
	}
	_, err = tree.Decode(n, m)
	return err
}

// NoBody refuses a body on a method that takes none.
func NoBody(r *http.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	data, err := ReadBody(r)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(data)) > 0 {
		return fault.Invalidf(fault.ReasonInvalidRequest, "%s takes no request body", r.Method)
	}
	return nil
}
