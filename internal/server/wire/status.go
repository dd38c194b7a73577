// Package wire is the one place where a fault becomes a gRPC status or an HTTP body. Fronts under internal/server use it;
// nothing else may build a status.
//
// What crosses: code, message with hint, ErrorInfo (reason, domain, metadata), BadRequest violations, RetryInfo. What does not:
// causes, which are logged with the request id, and the text of internal errors.
package wire

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/bermhq/berm/internal/core/fault"
)

// Limits of an error on the wire.
const (
	// MaxTrailer is the largest google.rpc.Status of a gRPC answer, in bytes: peers bound all trailers together to 8 KiB, base64
	// takes a third more, and the message is sent twice.
	MaxTrailer = 4 << 10
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

// Status returns err as a gRPC status whose details fit into a trailer. Internal errors keep only their
// request id, unless they have a reason of their own.
func Status(err error, requestID string) *status.Status {
	s := build(err, requestID)
	fit(s, MaxTrailer)
	return status.FromProto(s)
}

// Body returns the google.rpc.Status of err for a REST answer, which has room for everything.
func Body(err error, requestID string) *spb.Status { return build(err, requestID) }

// Code returns the gRPC code of err, OK for nil.
func Code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	return grpcCodes[asFault(err).Code]
}

func build(err error, requestID string) *spb.Status {
	f := asFault(err)
	if f.Hidden() {
		info := &errdetails.ErrorInfo{Reason: "INTERNAL", Domain: fault.Domain, Metadata: map[string]string{"request_id": requestID}}
		return compose(codes.Internal, "internal error, request "+requestID, info)
	}
	details := []proto.Message{errorInfo(f, requestID)}
	if br := badRequest(f); br != nil {
		details = append(details, br)
	}
	if f.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)})
	}
	if f.Hint != "" {
		details = append(details, &errdetails.Help{Links: []*errdetails.Help_Link{{Description: clip(f.Hint)}}})
	}
	if d := detail(f.Detail); d != nil {
		details = append(details, d)
	}
	return compose(grpcCodes[f.Code], clip(text(f)), details...)
}

func compose(code codes.Code, message string, details ...proto.Message) *spb.Status {
	s := &spb.Status{Code: int32(code), Message: strings.ToValidUTF8(message, "�")} //nolint:gosec // 0 to 16
	for _, d := range details {
		if packed, err := anypb.New(d); err == nil { // fails only for a message that cannot be marshalled: the rest still tells
			s.Details = append(s.Details, packed)
		}
	}
	return s
}

// asFault also understands contexts that ended, and statuses that grpc-go made of a request that it could not take.
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
	if s, ok := status.FromError(err); ok {
		return fromLibrary(s)
	}
	return fault.From(err)
}

// fromLibrary turns a status of grpc-go or of the gateway around it, whose text clients know, into a fault.
func fromLibrary(s *status.Status) *fault.Error {
	switch s.Code() {
	case codes.ResourceExhausted: // a message over the limit
		return fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "%s", s.Message())
	case codes.DeadlineExceeded:
		return fault.New(fault.Deadline, "DEADLINE_EXCEEDED", "%s", s.Message())
	case codes.Canceled:
		return fault.New(fault.Canceled, "CANCELED", "%s", s.Message())
	case codes.Unimplemented:
		return fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "%s", s.Message())
	case codes.Unavailable:
		return fault.New(fault.Unavailable, "UNAVAILABLE", "%s", s.Message())
	default: // what does not decode comes as Internal
		return fault.Invalidf(fault.ReasonInvalidRequest, "the request could not be read: %s", s.Message())
	}
}

// Text returns what is wrong in one line for people, as a status would say it.
func Text(err error, requestID string) string {
	return build(err, requestID).GetMessage()
}

// maxTold is how many violations the message repeats.
const maxTold = 3

// text joins the message with the first violations, so that a client that shows only the message is still told. What the
// message says already is not said twice.
func text(f *fault.Error) string {
	var b strings.Builder
	b.WriteString(f.Message)
	told := 0
	for _, v := range f.Fields {
		if strings.Contains(f.Message, v.Description) {
			continue
		}
		if told == maxTold {
			b.WriteString("; and more")
			break
		}
		if told == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString("; ")
		}
		if v.Path != "" {
			b.WriteString(v.Path + ": ")
		}
		b.WriteString(v.Description)
		told++
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

// position puts line and column before the text, for bodies that people write by hand.
func position(v fault.Field) string {
	if v.Line == 0 {
		return v.Description
	}
	return fmt.Sprintf("line %d, column %d: %s", v.Line, v.Column, v.Description)
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
		br.FieldViolations = append(br.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: v.Path, Description: clip(position(v)), Reason: f.Reason})
	}
	return br
}

func clip(s string) string { return cut(s, MaxText) }

// cut shortens s to at most limit bytes and a mark.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
