package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/core/fault"
)

var faultCodes = map[codes.Code]fault.Code{
	codes.InvalidArgument:    fault.Invalid,
	codes.Unauthenticated:    fault.Unauthenticated,
	codes.PermissionDenied:   fault.Denied,
	codes.NotFound:           fault.NotFound,
	codes.AlreadyExists:      fault.Exists,
	codes.Aborted:            fault.Conflict,
	codes.FailedPrecondition: fault.Precondition,
	codes.ResourceExhausted:  fault.Exhausted,
	codes.OutOfRange:         fault.OutOfRange,
	codes.Unavailable:        fault.Unavailable,
	codes.DeadlineExceeded:   fault.Deadline,
	codes.Canceled:           fault.Canceled,
	codes.Unimplemented:      fault.Unimplemented,
}

// FromRPC turns a gRPC error into a fault. nil, io.EOF and what is no status pass unchanged.
func FromRPC(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	out := fromStatus(s.Proto())
	if out.Code == fault.Unavailable && out.Reason == "" {
		out.Reason = "SERVER_UNREACHABLE"
		if cause, broke := strings.CutPrefix(s.Message(), "error reading from server: "); broke {
			out.Message = "the connection to the server broke: " + cause
			out.Hint = "What was under way there may go on: look before doing it again."
			return out
		}
		out.Message = "cannot reach the server: " + dialError(s.Message())
		out.Hint = dialHint(s.Message())
	}
	if out.Code == fault.Deadline && out.Reason == "" {
		out.Cause = context.DeadlineExceeded
	}
	return out
}

// dialHint is what to do about a connection that failed, by what its error says: no error value gets through gRPC.
func dialHint(text string) string {
	switch {
	case strings.Contains(text, "x509: ") || strings.Contains(text, "certificate"):
		return "Name the authority of the server's certificate with --ca-file or BERM_CA_FILE."
	case strings.Contains(text, "first record does not look like a TLS handshake") || strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return "The server speaks plain text: use http:// in its URL."
	case strings.Contains(text, "reading server preface"):
		return "Is it Berm, and does it speak plain text? With TLS its URL begins with https://."
	}
	return "Is `berm serve` running there? Set BERM_URL, or --url, or a context."
}

// dialError is what the transport has to say of a connection that failed, without the layers of its own wording.
func dialError(text string) string {
	text = strings.TrimPrefix(text, "connection error: ")
	if inner, ok := strings.CutPrefix(text, "desc = "); ok {
		if plain, err := strconv.Unquote(inner); err == nil {
			text = plain
		}
	}
	for _, layer := range []string{"transport: ", "Error while dialing: ", "authentication handshake failed: "} {
		text = strings.TrimPrefix(text, layer)
	}
	return text
}

// FromBody turns the body of a failed REST call into a fault.
func FromBody(httpStatus int, body []byte) error {
	var s spb.Status
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, &s); err == nil && s.Code != 0 {
		return fromStatus(&s)
	}
	// Details of a newer server may be of a type that is not linked here: code and message still count.
	var plain struct {
		Code    int32  `json:"code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &plain) == nil && plain.Code != 0 {
		return fromStatus(&spb.Status{Code: plain.Code, Message: plain.Message})
	}
	return fault.New(fault.Internal, "NOT_BERM", "the answer was HTTP %d %s, and not one of Berm's", httpStatus, http.StatusText(httpStatus)).
		WithHint("Is this the URL of a Berm server?")
}

func fromStatus(s *spb.Status) *fault.Error {
	out := fault.New(faultCodes[codes.Code(s.GetCode())], "", "%s", s.GetMessage())
	for _, d := range status.FromProto(s).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if out.Reason == "" {
				out.Reason, out.Meta = d.GetReason(), d.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				out.Fields = append(out.Fields, fault.Field{Path: v.GetField(), Description: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			out.RetryAfter = d.GetRetryDelay().AsDuration()
		case *errdetails.Help:
			if len(d.GetLinks()) > 0 {
				out.Hint = d.GetLinks()[0].GetDescription()
			}
		case *bermv1.Refusal:
			out.Detail = d
		}
	}
	// The server repeats the first violations in its message, for clients that show nothing else. Here each is shown once.
	if len(out.Fields) > 0 {
		if i := strings.Index(out.Message, ": "+out.Fields[0].Path); i > 0 && out.Fields[0].Path != "" {
			out.Message = out.Message[:i]
		}
	}
	return out
}
