package wire

import (
	"errors"
	"net/http"

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

// ErrorHeader is in every error that is Berm's own, with its reason: what a program in a sandbox answers never has it.
const ErrorHeader = "X-Berm-Error"

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
	w.Header().Set(ErrorHeader, asFault(err).Reason)
	w.WriteHeader(StatusOf(err))
	_, _ = w.Write(append(body, '\n')) // a caller who went away needs no answer
}

// StatusOf returns the HTTP status of an error: that of an HTTPError, or of its code.
func StatusOf(err error) int {
	if own, ok := errors.AsType[*HTTPError](err); ok {
		return own.Status
	}
	return HTTPStatus(Code(err))
}
