// Package wire is the one place where a fault becomes a gRPC status or an HTTP body. Fronts under internal/server use it;
// nothing else may build a status.
//
// What crosses: code, message with hint, ErrorInfo (reason, domain, metadata), BadRequest violations, RetryInfo. What does not:
// causes, which are logged with the request id, and the text of internal errors.
package wire

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/bermhq/berm/internal/core/fault"
)

// Limits of an error on the wire: gRPC puts it into a trailer, which peers bound to 8 or 16 KiB.
const (
	// MaxViolations is the largest number of field violations sent.
	MaxViolations = 40
	// MaxText is the largest length of a message or of one metadata value, in bytes.
	MaxText = 1500
)

var grpcCodes = map[fault.Code]codes.Code{
	fault.Internal:        codes.Internal,
	fault.Invalid:         codes.InvalidArgument,
	fault.Unauthenticated: codes.Unauthenticated,
	fault.Denied:          codes.PermissionDenied,
	fault.NotFound:        codes.NotFound,
	fault.Exists:          codes.AlreadyExists,
	fault.Conflict:        codes.Aborted,
	fault.Precondition:    codes.FailedPrecondition,
	fault.Exhausted:       codes.ResourceExhausted,
	fault.OutOfRange:      codes.OutOfRange,
	fault.Unavailable:     codes.Unavailable,
	fault.Deadline:        codes.DeadlineExceeded,
	fault.Canceled:        codes.Canceled,
	fault.Unimplemented:   codes.Unimplemented,
}

// HTTPStatus returns the HTTP status of a gRPC code, as google.rpc.Code documents it.
func HTTPStatus(c codes.Code) int {
	switch c {
	case codes.OK:
		return http.StatusOK
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Canceled:
		return 499 // nginx's "client closed request"; no standard status says it
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

// Status returns err as a gRPC status. extra details are appended (a structured refusal). Internal errors keep only their
// request id.
func Status(err error, requestID string, extra ...protoadapt.MessageV1) *status.Status {
	f := asFault(err)
	if f.Code == fault.Internal {
		return withDetails(status.New(codes.Internal, "internal error, request "+requestID),
			&errdetails.ErrorInfo{Reason: "INTERNAL", Domain: fault.Domain, Metadata: map[string]string{"request_id": requestID}})
	}
	details := []protoadapt.MessageV1{errorInfo(f, requestID)}
	if br := badRequest(f); br != nil {
		details = append(details, br)
	}
	if f.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)})
	}
	if f.Hint != "" {
		details = append(details, &errdetails.Help{Links: []*errdetails.Help_Link{{Description: clip(f.Hint)}}})
	}
	return withDetails(status.New(grpcCodes[f.Code], clip(text(f))), append(details, extra...)...)
}

// Body returns the google.rpc.Status of err for a REST answer.
func Body(err error, requestID string, extra ...protoadapt.MessageV1) *spb.Status {
	return Status(err, requestID, extra...).Proto()
}

// asFault also understands contexts that ended, and statuses that a library made (a message over the limit, for one).
func asFault(err error) *fault.Error {
	var f *fault.Error
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Deadline, "DEADLINE_EXCEEDED", "the deadline of the call passed")
	case errors.Is(err, context.Canceled):
		return fault.New(fault.Canceled, "CANCELED", "the caller went away")
	}
	return fault.From(err)
}

// text joins the message with the first violations, so that a client that shows only the message is still told.
func text(f *fault.Error) string {
	var b strings.Builder
	b.WriteString(f.Message)
	for i, v := range f.Fields {
		if i == 3 {
			b.WriteString("; and more")
			break
		}
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString("; ")
		}
		if v.Path != "" {
			b.WriteString(v.Path + ": ")
		}
		b.WriteString(v.Description)
	}
	return b.String()
}

func errorInfo(f *fault.Error, requestID string) *errdetails.ErrorInfo {
	meta := map[string]string{"request_id": requestID}
	for k, v := range f.Meta {
		meta[k] = clip(v)
	}
	return &errdetails.ErrorInfo{Reason: f.Reason, Domain: fault.Domain, Metadata: meta}
}

func badRequest(f *fault.Error) *errdetails.BadRequest {
	if len(f.Fields) == 0 {
		return nil
	}
	br := &errdetails.BadRequest{}
	for i, v := range f.Fields {
		if i == MaxViolations {
			break
		}
		br.FieldViolations = append(br.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: v.Path, Description: clip(v.Description), Reason: f.Reason})
	}
	return br
}

func withDetails(s *status.Status, details ...protoadapt.MessageV1) *status.Status {
	full, err := s.WithDetails(details...)
	if err != nil { // only a message that cannot be marshalled: the plain status still tells
		return s
	}
	return full
}

func clip(s string) string {
	if len(s) <= MaxText {
		return s
	}
	return strings.ToValidUTF8(s[:MaxText], "") + "…"
}
