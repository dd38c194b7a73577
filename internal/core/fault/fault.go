// Package fault is the one error type that crosses package boundaries with meaning: what went wrong, for a program and
// for a person.
//
// A fault has a Code (a closed set, mapped to gRPC, HTTP and exit codes at the edges), a Reason (a stable machine string
// such as CWSANDBOX_PROFILE_MISMATCH), a Message for people that says what, where and why, an optional Hint that says
// what to do, and the field violations. The Cause is for logs only and never leaves the process.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Code classifies a fault by what the caller can do about it.
type Code int

// The codes. internal/server/errors.go maps them to gRPC and HTTP, internal/cli/errors.go to exit codes.
const (
	Internal Code = iota
	Invalid
	Unauthenticated
	Denied
	NotFound
	Exists
	Conflict
	Precondition
	Exhausted
	OutOfRange
	Unavailable
	Deadline
	Canceled
	Unimplemented
)

var codeNames = [...]string{
	"INTERNAL", "INVALID", "UNAUTHENTICATED", "DENIED", "NOT_FOUND", "EXISTS", "CONFLICT", "PRECONDITION", "EXHAUSTED",
	"OUT_OF_RANGE", "UNAVAILABLE", "DEADLINE", "CANCELED", "UNIMPLEMENTED",
}

// String returns the code's name.
func (c Code) String() string {
	if c < 0 || int(c) >= len(codeNames) {
		return fmt.Sprintf("CODE_%d", int(c))
	}
	return codeNames[c]
}

// Field is one violation: where, and what is wrong there.
type Field struct {
	// Path is the field's path in snake_case, "spec.resource_defaults.cpu_limit".
	Path string
	// Description says what is wrong and what would be right.
	Description string
	// Line and Column are 1-based positions in the text given, 0 when there is none.
	Line, Column int
}

// Error is a fault. Build it with New or a constructor and refine it with the With methods, which change and return the
// receiver: refine before sharing.
type Error struct {
	Code    Code
	Reason  string
	Message string
	Hint    string
	Fields  []Field
	// Meta goes into ErrorInfo.metadata.
	Meta map[string]string
	// RetryAfter, when positive, says when a retry may succeed.
	RetryAfter time.Duration
	// Detail is a structured explanation, such as a refusal with its candidates. The edge knows how to render it.
	Detail any
	// Cause is logged, never sent.
	Cause error
}

// New returns a fault.
func New(code Code, reason, format string, args ...any) *Error {
	return &Error{Code: code, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Invalidf returns an Invalid fault: the request can never succeed as it stands.
func Invalidf(reason, format string, args ...any) *Error {
	return New(Invalid, reason, format, args...)
}

// NotFoundf returns a NotFound fault.
func NotFoundf(reason, format string, args ...any) *Error {
	return New(NotFound, reason, format, args...)
}

// Preconditionf returns a Precondition fault: the request is fine, the state of the system forbids it.
func Preconditionf(reason, format string, args ...any) *Error {
	return New(Precondition, reason, format, args...)
}

// reasonInternal is the reason of what only a log can explain.
const reasonInternal = "INTERNAL"

// Internalf returns an Internal fault with its cause. Its text is not shown to callers; that of an Internal fault with a reason of
// its own (New) is, because it was written for them.
func Internalf(cause error, format string, args ...any) *Error {
	return &Error{Code: Internal, Reason: reasonInternal, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// Error returns the message with its violations, on one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	for i, f := range e.Fields {
		if i == 0 && e.Message != "" {
			b.WriteString(": ")
		} else if i > 0 {
			b.WriteString("; ")
		}
		if f.Path != "" {
			b.WriteString(f.Path + ": ")
		}
		b.WriteString(f.Description)
	}
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Hidden reports whether the text of the fault is for the log alone.
func (e *Error) Hidden() bool {
	return e.Code == Internal && (e.Reason == "" || e.Reason == reasonInternal)
}

// WithField adds a violation.
func (e *Error) WithField(path, format string, args ...any) *Error {
	e.Fields = append(e.Fields, Field{Path: path, Description: fmt.Sprintf(format, args...)})
	return e
}

// WithHint sets the action that the reader can take.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithMeta adds metadata.
func (e *Error) WithMeta(key, value string) *Error {
	if e.Meta == nil {
		e.Meta = map[string]string{}
	}
	e.Meta[key] = value
	return e
}

// WithCause sets the cause.
func (e *Error) WithCause(err error) *Error {
	e.Cause = err
	return e
}

// WithRetry says when a retry may succeed.
func (e *Error) WithRetry(after time.Duration) *Error {
	e.RetryAfter = after
	return e
}

// WithDetail sets the structured explanation.
func (e *Error) WithDetail(d any) *Error {
	e.Detail = d
	return e
}

// Clone returns a copy that may be refined.
func (e *Error) Clone() *Error {
	c := *e
	c.Fields = append([]Field(nil), e.Fields...)
	c.Meta = maps.Clone(e.Meta)
	return &c
}

// From returns err as a fault: the first *Error in its chain, or an Internal one around it. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Internalf(err, "internal error")
}

// CodeOf returns the code of err; Internal when it is no fault.
func CodeOf(err error) Code { return From(err).Code }

// Is reports whether err is a fault with this code.
func Is(err error, code Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// HasReason reports whether err is a fault with this reason.
func HasReason(err error, reason string) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == reason
}
