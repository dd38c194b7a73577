// Package dataplane is the front of sandboxes: coreweave.sandbox.v1beta2 over gRPC, and over REST by its annotations. It
// converts, calls internal/control and converts back.
//
// How failures are told: as a status with a typed reason, always. The fields success and error_message of some answers, which
// the interface has for failures, therefore say true and nothing. Streams end in exactly one exit or error frame.
package dataplane

import (
	"context"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"

	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/rest"
	"github.com/bermhq/berm/internal/server/startreq"
)

// Config is what a Front needs; all of it is required.
type Config struct {
	Control *control.Service
	Now     func() time.Time
	// OnDrain calls a function when the server has no more time for streams; the result takes it back.
	OnDrain func(func()) (stop func() bool)
}

// Front serves sandboxes. It is safe for concurrent use.
type Front struct {
	control *control.Service
	now     func() time.Time
	onDrain func(func()) func() bool
	table   *startreq.Table
}

// New returns the front of a control service.
func New(cfg Config) *Front {
	return &Front{control: cfg.Control, now: cfg.Now, onDrain: cfg.OnDrain, table: startreq.NewTable()}
}

// Register registers the gRPC form with the function given.
func (f *Front) Register(register func(*grpc.ServiceDesc, any)) {
	register(&v1beta2rpc.GatewayService_ServiceDesc, &gateway{Front: f})
	register(&v1beta2rpc.GatewayStreamingService_ServiceDesc, &streaming{Front: f})
	register(&v1beta2rpc.DiscoveryService_ServiceDesc, &discovery{Front: f})
	register(&v1beta2rpc.SecretStoreService_ServiceDesc, &secrets{Front: f})
}

// Gateway returns the REST form.
func (f *Front) Gateway(ctx context.Context) (http.Handler, error) {
	const pkg = "coreweave.sandbox.v1beta2."
	mux, err := rest.NewGateway(pkg+"GatewayService", pkg+"DiscoveryService", pkg+"SecretStoreService")
	if err != nil {
		return nil, err
	}
	for _, register := range []func(context.Context, *runtime.ServeMux) error{
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return v1beta2rpc.RegisterGatewayServiceHandlerServer(ctx, mux, &gateway{Front: f})
		},
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return v1beta2rpc.RegisterDiscoveryServiceHandlerServer(ctx, mux, &discovery{Front: f})
		},
		func(ctx context.Context, mux *runtime.ServeMux) error {
			return v1beta2rpc.RegisterSecretStoreServiceHandlerServer(ctx, mux, &secrets{Front: f})
		},
	} {
		if err := register(ctx, mux); err != nil {
			return nil, err
		}
	}
	return mux, nil
}

// MaxCallTimeout is the longest max_timeout_seconds, and what a call without one gets. Callers that go away end their calls
// long before.
const MaxCallTimeout = 24 * time.Hour

// bounded limits a call to max_timeout_seconds.
func bounded(ctx context.Context, seconds int32) (context.Context, context.CancelFunc, error) {
	if seconds < 0 || time.Duration(seconds)*time.Second > MaxCallTimeout {
		return nil, nil, fault.Invalidf(fault.ReasonInvalidRequest, "invalid timeout").
			WithField("max_timeout_seconds", "%d is not between 0 and %d; 0 asks for the longest", seconds, int(MaxCallTimeout/time.Second))
	}
	limit := MaxCallTimeout
	if seconds > 0 {
		limit = time.Duration(seconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	return ctx, cancel, nil
}
