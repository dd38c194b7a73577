package tracing_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/tracing"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// launch is what one launch calls.
func launch(ctx context.Context) string {
	ctx, call := tracing.StartCall(ctx, "call", parent)
	call.Set("k", "v")
	ctx, span := tracing.Start(tracing.From(ctx, parent), "launch")
	span.Set("k", "v")
	below := tracing.Parent(ctx)
	tracing.Past(below, "start", time.Time{}, time.Time{})
	span.End(nil)
	call.End(nil)
	return below
}

// TestOffMakesNothing: no span, no name of one that would be sent along, and not one allocation.
func TestOffMakesNothing(t *testing.T) {
	ctx := context.Background()
	if below := launch(ctx); below != "" {
		t.Errorf("%q is sent along", below)
	}
	if n := testing.AllocsPerRun(100, func() { launch(ctx) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkOff(b *testing.B) {
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		launch(ctx)
	}
}

func TestSpans(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	undo := tracing.Use(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))
	if below := launch(t.Context()); len(below) != len(parent) {
		t.Errorf("%q is sent along", below)
	}
	// What is no traceparent begins a trace of its own.
	_, span := tracing.StartCall(t.Context(), "bad", "00-zz,00-zz")
	span.End(fault.Invalidf("WRONG", "secret").WithCause(errors.New("secret")))
	spans := recorder.Ended()
	if len(spans) != 4 {
		t.Fatalf("%d spans", len(spans))
	}
	for _, s := range spans[:3] {
		if s.SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("%s is in another trace", s.Name())
		}
	}
	bad := spans[3]
	if bad.Parent().IsValid() || bad.Status().Code != codes.Error || bad.Status().Description != "INVALID" || len(bad.Events()) != 0 {
		t.Errorf("%+v %+v", bad.Parent(), bad.Status())
	}
	undo()
	if launch(t.Context()); len(recorder.Ended()) != 4 {
		t.Error("spans are made after the end")
	}
}

// TestLongNames: what a caller or a runner names a span by cannot be of any length, and is cut between characters.
func TestLongNames(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	defer tracing.Use(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))()
	long := "x" + strings.Repeat("é", 5000)
	_, call := tracing.StartCall(t.Context(), long, parent)
	call.Set("k", long)
	call.End(fault.Invalidf(long, "wrong"))
	_, span := tracing.Start(t.Context(), long)
	span.End(nil)
	tracing.Past(parent, long, time.Time{}, time.Time{})
	want := "x" + strings.Repeat("é", 127)
	spans := recorder.Ended()
	if len(spans) != 3 {
		t.Fatalf("%d spans", len(spans))
	}
	for _, s := range spans {
		if s.Name() != want {
			t.Errorf("a name of %d bytes", len(s.Name()))
		}
		for _, a := range s.Attributes() {
			if a.Value.AsString() != want {
				t.Errorf("%s has %d bytes", a.Key, len(a.Value.AsString()))
			}
		}
	}
}
