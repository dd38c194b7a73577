// Package otlp sends the spans of this process to a collector, as the environment variables of OpenTelemetry say.
package otlp

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/tracing"
)

const (
	// stopTimeout bounds how long the last spans may take to be sent when the process ends.
	stopTimeout = 5 * time.Second
	// The protocols of OTEL_EXPORTER_OTLP_PROTOCOL that are there; the first is the default.
	protocolHTTP = "http/protobuf"
	protocolGRPC = "grpc"
)

// Start has spans sent to the collector that the environment names; without one it does nothing. The function that it returns sends
// what is left, and ends that.
func Start(ctx context.Context, service, version string, log *slog.Logger) (stop func(), err error) {
	if !configured() {
		return func() {}, nil
	}
	exporter, err := exporter(ctx)
	if err != nil {
		return nil, err
	}
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", service), attribute.String("service.version", version)), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fault.Invalidf("OTEL", "OTEL_RESOURCE_ATTRIBUTES: %v", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("spans could not be sent", "error", err) }))
	// Sampler, batches and limits are those of the environment, too.
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
	undo := tracing.Use(provider)
	return func() {
		undo()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last spans could not be sent", "error", err)
		}
	}, nil
}

// configured reports whether the environment names a collector.
func configured() bool {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != ""
}

func exporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	if name := os.Getenv("OTEL_TRACES_EXPORTER"); name != "" && name != "otlp" {
		return nil, fault.Invalidf("OTEL", "OTEL_TRACES_EXPORTER is %.40q; only otlp and none are there", name)
	}
	protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	switch protocol {
	case "", protocolHTTP:
		return otlptracehttp.New(ctx)
	case protocolGRPC:
		return otlptracegrpc.New(ctx)
	}
	return nil, fault.Invalidf("OTEL", "OTEL_EXPORTER_OTLP_PROTOCOL is %.40q", protocol).WithHint("use %s or %s", protocolHTTP, protocolGRPC)
}

// first returns the first of some environment variables that is set.
func first(names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}
