package server_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/metadata"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/link/linktest"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/server"
	"github.com/bermhq/berm/internal/tracing"
)

const (
	callerTrace = "0af7651916cd43dd8448eb211c80319c"
	callerSpan  = "b7ad6b7169203331"
)

// recording has spans kept, and returns them as they are when all that are wanted have ended.
func recording(t *testing.T) func(names ...string) []sdktrace.ReadOnlySpan {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	t.Cleanup(tracing.Use(provider))
	return func(names ...string) []sdktrace.ReadOnlySpan {
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			spans := recorder.Ended()
			missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return byName(spans, name) != nil })
			if len(missing) == 0 {
				return spans
			}
			if time.Now().After(end) {
				t.Fatalf("there is no span %s", strings.Join(missing, ", "))
			}
		}
	}
}

func byName(spans []sdktrace.ReadOnlySpan, name string) sdktrace.ReadOnlySpan {
	for _, s := range spans {
		if s.Name() == name {
			return s
		}
	}
	return nil
}

// TestOneTrace: a launch is one trace, the caller's, over the gateway, the line, the runner and its backend, to the running sandbox.
func TestOneTrace(t *testing.T) {
	for _, transport := range []string{"gRPC", "REST"} {
		t.Run(transport, func(t *testing.T) {
			w := newWorldOver(t, server.Config{Version: "1"}, func(r runner.Link) runner.Link { return linktest.Over(t, r, linktest.Config{}) })
			ended := recording(t)
			parent := "00-" + callerTrace + "-" + callerSpan + "-01"
			call := "/coreweave.sandbox.v1beta2.GatewayService/Start"
			if transport == "gRPC" {
				ctx := metadata.AppendToOutgoingContext(w.ctx(), tracing.Header, parent)
				_, err := w.gateway().Start(ctx, &v1beta2pb.StartSandboxRequest{})
				w.must(err)
			} else {
				call = http.MethodPost
				w.startTraced(parent)
			}
			spans := ended(call, "launch", "launch.plan", "launch.commit", "launch.submit", "runner.apply", "backend.create", "sandbox.create", "sandbox.start", "sandbox.running")
			below := map[string]string{
				"launch.plan": "launch", "launch.commit": "launch", "launch.submit": "launch", "runner.apply": "launch.submit", "backend.create": "runner.apply",
				"sandbox.create": "launch", "sandbox.start": "launch", "sandbox.running": "launch", "launch": call,
			}
			for name, above := range below {
				s, p := byName(spans, name), byName(spans, above)
				if s.SpanContext().TraceID().String() != callerTrace || s.Parent().SpanID() != p.SpanContext().SpanID() {
					t.Errorf("%s is in trace %s below %s, want %s", name, s.SpanContext().TraceID(), s.Parent().SpanID(), above)
				}
			}
			if s := byName(spans, call); s.Parent().SpanID().String() != callerSpan || !s.Parent().IsRemote() {
				t.Errorf("the call is below %s", s.Parent().SpanID())
			}
		})
	}
}

// startTraced launches over REST as part of a trace.
func (w *world) startTraced(parent string) {
	w.Helper()
	r, err := http.NewRequestWithContext(context.WithoutCancel(w.Context()), http.MethodPost, w.url+"/v1beta2/sandboxes", strings.NewReader("{}"))
	w.must(err)
	r.Header.Set("Authorization", "Bearer "+w.user)
	r.Header.Set(tracing.Header, parent)
	resp, err := w.http.Do(r)
	w.must(err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.Fatalf("%s", resp.Status)
	}
}
