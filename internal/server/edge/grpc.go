package edge

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/wire"
	"github.com/bermhq/berm/internal/tracing"
)

// Register registers a service with the chain in front of each of its methods. Unary methods become streams of one message
// each way, which is what they are on the wire: the message is then read when the handler asks for it, after authentication,
// while grpc-go reads it before a unary interceptor runs. Interceptors of the server itself are not needed.
func (c *Chain) Register(r grpc.ServiceRegistrar, desc *grpc.ServiceDesc, impl any) {
	guarded := *desc
	guarded.Methods, guarded.Streams = nil, nil
	for _, m := range desc.Methods {
		guarded.Streams = append(guarded.Streams, grpc.StreamDesc{
			StreamName: m.MethodName, Handler: c.guard("/"+desc.ServiceName+"/"+m.MethodName, false, unary(m)),
		})
	}
	for _, s := range desc.Streams {
		s.Handler = c.guard("/"+desc.ServiceName+"/"+s.StreamName, true, s.Handler)
		guarded.Streams = append(guarded.Streams, s)
	}
	r.RegisterService(&guarded, impl)
}

// Unknown is the handler of methods that do not exist. Only authenticated callers learn that.
func (c *Chain) Unknown(srv any, ss grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(ss)
	return c.guard(name, false, func(any, grpc.ServerStream) error {
		return fault.New(fault.Unimplemented, fault.ReasonNotImplemented, "there is no method %s", name).WithMeta("method", name)
	})(srv, ss)
}

// guard leads the calls of one method through the chain. Those that may last long are ended when their token is.
func (c *Chain) guard(method string, long bool, next grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, ss grpc.ServerStream) error {
		ctx := ss.Context()
		md, _ := metadata.FromIncomingContext(ctx)
		call := &Call{
			Transport: "grpc", Name: method, Authorization: md.Get("authorization"), Traceparent: strings.Join(md.Get(tracing.Header), ","),
			UserAgent: strings.Join(md.Get("user-agent"), ","),
			SetHeader: func(key, value string) {
				_ = ss.SetHeader(metadata.Pairs(key, value)) // fails only after headers went out, and none did
			},
		}
		if p, ok := peer.FromContext(ctx); ok {
			call.Peer = p.Addr.String()
		}
		g, _ := ctx.Value(gateKey{}).(*gate)
		run := func(ctx context.Context) error { return next(srv, &gatedStream{ServerStream: ss, ctx: ctx, gate: g}) }
		ctx, err := c.Run(ctx, call, func(ctx context.Context) error {
			if !long {
				return run(ctx)
			}
			return whileValid(ctx, func(ctx context.Context) (core.Principal, error) { return c.Bearer(ctx, call.Authorization) }, run)
		})
		if err == nil {
			return nil
		}
		return wire.Status(err, RequestID(ctx)).Err()
	}
}

func unary(m grpc.MethodDesc) grpc.StreamHandler {
	return func(srv any, ss grpc.ServerStream) error {
		answer, err := m.Handler(srv, ss.Context(), ss.RecvMsg, nil)
		if err != nil {
			return err
		}
		return ss.SendMsg(answer)
	}
}

// Gate returns r for grpc.Server.ServeHTTP, with a body that is read only as handlers ask for messages.
func Gate(r *http.Request) *http.Request {
	g := newGate(r.Body)
	r = r.WithContext(context.WithValue(r.Context(), gateKey{}, g))
	r.Body = g
	return r
}
