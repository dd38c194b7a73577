// Package tracing makes spans of a launch: of the call, the decision, the commit, the hand-over, the runner and its backend, and of what
// the timeline of the sandbox then says, all in one trace, which is that of the caller if there is one.
//
// It is a thin layer over the API of OpenTelemetry. While it is off, which is the default, nothing is made and nothing is allocated:
// that is what Span is for. Which provider is used belongs to the process, as with OpenTelemetry's own: package otlp sets it from the
// environment, tests set one of their own.
package tracing

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/bermhq/berm/internal/core/fault"
)

// Header is where a caller, and a gateway that calls a runner, says which span a call belongs to, in the form of W3C Trace Context.
const Header = "traceparent"

// maxName bounds names of spans, and what is noted about them, in bytes: callers and runners have a say in some, and collectors have limits.
const maxName = 256

// scope names this program's spans among those of others.
const scope = "github.com/bermhq/berm"

var current atomic.Pointer[trace.Tracer]

// Use has spans made by p, or by nobody if it is nil, and returns how to undo that.
func Use(p trace.TracerProvider) (undo func()) {
	var next *trace.Tracer
	if p != nil {
		t := p.Tracer(scope)
		next = &t
	}
	before := current.Swap(next)
	return func() { current.Store(before) }
}

// Span is one span. The zero value does nothing.
type Span struct{ span trace.Span }

// Start begins a span below that of ctx.
func Start(ctx context.Context, name string) (context.Context, Span) {
	t := current.Load()
	if t == nil {
		return ctx, Span{}
	}
	ctx, span := (*t).Start(ctx, clip(name))
	return ctx, Span{span}
}

// StartCall begins the span of a call that came in, below the one that its caller named, if any.
func StartCall(ctx context.Context, name, parent string) (context.Context, Span) {
	t := current.Load()
	if t == nil {
		return ctx, Span{}
	}
	ctx, span := (*t).Start(From(ctx, parent), clip(name), trace.WithSpanKind(trace.SpanKindServer))
	return ctx, Span{span}
}

// Past makes a span of something that is over, below the one that parent names. It makes none without a parent.
func Past(parent, name string, from, to time.Time) {
	t := current.Load()
	if t == nil || parent == "" {
		return
	}
	_, span := (*t).Start(From(context.Background(), parent), clip(name), trace.WithTimestamp(from))
	span.End(trace.WithTimestamp(to))
}

// clip returns the beginning of a text, which stays one.
func clip(text string) string {
	if len(text) <= maxName {
		return text
	}
	return strings.ToValidUTF8(text[:maxName], "")
}

// Set notes something about the span.
func (s Span) Set(key, value string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String(key, clip(value)))
	}
}

// End ends the span. Of an error it has the code and the reason: messages may quote what callers sent.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		f := fault.From(err)
		s.span.SetAttributes(attribute.String("berm.reason", clip(f.Reason)))
		s.span.SetStatus(codes.Error, f.Code.String())
	}
	s.span.End()
}

// Parent returns the value of Header for what belongs below the span of ctx, "" when there is none.
func Parent(ctx context.Context) string {
	if current.Load() == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[Header]
}

// From returns a context whose spans belong below the one that a value of Header names. One that is none changes nothing.
func From(ctx context.Context, parent string) context.Context {
	if current.Load() == nil || parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{Header: parent})
}
