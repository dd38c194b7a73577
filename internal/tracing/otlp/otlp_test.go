package otlp_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/tracing"
	"github.com/bermhq/berm/internal/tracing/otlp"
)

var quiet = slog.New(slog.DiscardHandler)

// TestSpansReachTheCollector: what the environment names gets the spans, the last ones when the process ends.
func TestSpansReachTheCollector(t *testing.T) {
	got := make(chan []byte, 8)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
		}
		got <- body
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_SERVICE_NAME", "my-gateway")
	stop, err := otlp.Start(t.Context(), "berm", "1.2.3", quiet)
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracing.Start(t.Context(), "a-launch")
	span.End(nil)
	stop()
	body := <-got
	for _, want := range []string{"a-launch", "my-gateway", "1.2.3"} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("there is no %s in what the collector got", want)
		}
	}
	if _, span := tracing.Start(t.Context(), "late"); span != (tracing.Span{}) {
		t.Error("spans are made after the end")
	}
}

// TestOff: without a collector, or with one that is not to be used, nothing is made.
func TestOff(t *testing.T) {
	for _, env := range []map[string]string{
		{},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		t.Run("", func(t *testing.T) {
			for k, v := range env {
				t.Setenv(k, v)
			}
			stop, err := otlp.Start(t.Context(), "berm", "1", quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			if _, span := tracing.Start(t.Context(), "x"); span != (tracing.Span{}) {
				t.Error("a span is made")
			}
		})
	}
}

func TestBadEnvironment(t *testing.T) {
	for name, value := range map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "thrift", "OTEL_TRACES_EXPORTER": "zipkin"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv(name, value)
			if _, err := otlp.Start(t.Context(), "berm", "1", quiet); !fault.Is(err, fault.Invalid) {
				t.Errorf("%v", err)
			}
		})
	}
}
