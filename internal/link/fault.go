package link

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/core/fault"
)

// Limits of an error on the line.
const (
	maxFaultFields = 40
	maxFaultText   = 1500
	maxFaultMeta   = 32
)

// FaultMessage returns what a gateway may know of an error. The cause stays here.
func FaultMessage(err error) *linkv1.Fault {
	f := fault.From(err)
	out := &linkv1.Fault{
		Code: f.Code.String(), Reason: clip(f.Reason, maxFaultText), Message: clip(f.Message, maxFaultText), Hint: clip(f.Hint, maxFaultText),
		RetryAfterMillis: f.RetryAfter.Milliseconds(),
	}
	for i, v := range f.Fields {
		if i == maxFaultFields {
			break
		}
		out.Fields = append(out.Fields, &linkv1.FaultField{Path: clip(v.Path, maxFaultText), Description: clip(v.Description, maxFaultText)})
	}
	for k, v := range f.Meta {
		if len(out.Metadata) == maxFaultMeta {
			break
		}
		if out.Metadata == nil {
			out.Metadata = map[string]string{}
		}
		out.Metadata[clip(k, maxFaultText)] = clip(v, maxFaultText)
	}
	return out
}

// FaultOf is the reverse, of a message that nobody vouches for.
func FaultOf(m *linkv1.Fault) *fault.Error {
	f := fault.New(codeOf(m.GetCode()), clip(m.GetReason(), maxFaultText), "%s", clip(m.GetMessage(), maxFaultText))
	f.Hint = clip(m.GetHint(), maxFaultText)
	if ms := m.GetRetryAfterMillis(); ms > 0 && ms <= time.Hour.Milliseconds() {
		f.RetryAfter = time.Duration(ms) * time.Millisecond
	}
	for i, v := range m.GetFields() {
		if i == maxFaultFields {
			break
		}
		f.Fields = append(f.Fields, fault.Field{Path: clip(v.GetPath(), maxFaultText), Description: clip(v.GetDescription(), maxFaultText)})
	}
	for k, v := range m.GetMetadata() {
		if len(f.Meta) == maxFaultMeta {
			break
		}
		f.WithMeta(clip(k, maxFaultText), clip(v, maxFaultText))
	}
	return f
}

func codeOf(name string) fault.Code {
	for c := fault.Internal; c <= fault.Unimplemented; c++ {
		if c.String() == name {
			return c
		}
	}
	return fault.Internal
}

// Status turns an error of a runner into what its gRPC server answers. nil stays nil.
func Status(err error) error {
	if err == nil {
		return nil
	}
	var f *fault.Error
	switch {
	case errors.As(err, &f):
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the deadline passed")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the caller went away")
	}
	m := FaultMessage(err)
	s, detailErr := status.New(codes.Unknown, clip(m.GetMessage(), maxFaultText)).WithDetails(m)
	if detailErr != nil {
		return status.Error(codes.Internal, "the error could not be sent")
	}
	return s.Err()
}

// FromStatus turns what a gateway's call ended with into a fault. io.EOF passes. What the runner did not say itself is the line's fault: Unavailable.
func FromStatus(ctx context.Context, runnerID string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	s := status.Convert(err)
	for _, d := range s.Details() {
		if m, ok := d.(*linkv1.Fault); ok && s.Code() == codes.Unknown {
			return FaultOf(m)
		}
	}
	switch {
	case ctx.Err() != nil && (s.Code() == codes.Canceled || s.Code() == codes.DeadlineExceeded):
		return ended(ctx.Err())
	case s.Code() == codes.DeadlineExceeded:
		return ended(context.DeadlineExceeded)
	case s.Code() == codes.Unimplemented:
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "runner %s does not know how to do this", runnerID).
			WithHint("it is of an older version than the server: upgrade it")
	case s.Code() == codes.ResourceExhausted:
		return fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "what went to or came from runner %s is too large for the line: %s", runnerID, clip(s.Message(), maxFaultText))
	}
	return Broken(runnerID, s.Err())
}

func ended(cause error) error {
	if errors.Is(cause, context.DeadlineExceeded) {
		return fault.New(fault.Deadline, "DEADLINE_EXCEEDED", "the deadline of the call passed").WithCause(cause)
	}
	return fault.New(fault.Canceled, "CANCELED", "the caller went away").WithCause(cause)
}

// Broken is the end of a call or a stream because the connection ended. What was under way on the runner is not known.
func Broken(runnerID string, cause error) *fault.Error {
	return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the connection to runner %s broke: what was under way was not seen to end", runnerID).WithCause(cause)
}

// Lied is an answer that an honest runner does not give.
func Lied(runnerID, format string, args ...any) *fault.Error {
	f := fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, format, args...)
	f.Message = "runner " + runnerID + " gave an answer that cannot be: " + f.Message
	return f
}

// clip cuts a text, and makes it UTF-8, which is all that protobuf takes.
func clip(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
