package wire

import (
	"errors"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
)

// HTTPError gives an error an HTTP status of its own, for what gRPC has no code for: 405, 413, 415.
type HTTPError struct {
	Status int
	Err    error
}

// Error returns the text of the error inside.
func (e *HTTPError) Error() string { return e.Err.Error() }

// Unwrap returns the error inside.
func (e *HTTPError) Unwrap() error { return e.Err }

// WriteError sends err as a google.rpc.Status body, with the HTTP status of its code or of an HTTPError.
func WriteError(w http.ResponseWriter, err error, requestID string) {
	s := Body(err, requestID)
	body, marshalErr := protojson.Marshal(s)
	if marshalErr != nil { // a detail whose type is not linked: code and message still tell
		s.Details = nil
		body, _ = protojson.Marshal(s)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	status := HTTPStatus(codes.Code(s.GetCode())) //nolint:gosec // 0 to 16
	if own, ok := errors.AsType[*HTTPError](err); ok {
		status = own.Status
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a caller who went away needs no answer
}
