package server_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/server"
)

// TestCallsPerToken: a token may have so many calls under way, streams among them, over all transports together; another token has its own.
// What is refused says why and what to do, and whoever ends a call makes room.
func TestCallsPerToken(t *testing.T) {
	w := newWorldWith(t, server.Config{Limits: server.Limits{Calls: 100, CallsPerToken: 3}})
	end := w.hold(w.user, 3)
	w.refused(w.user, "3 calls of this token", "--max-calls-per-token")
	if a := w.call(w.admin, http.MethodGet, "/v1beta2/sandboxes", nil); a.status != http.StatusOK {
		t.Errorf("another token: %d %s", a.status, a.raw)
	}
	end()
	w.within("there is room again", func() error { return w.list(w.user) })
}

// TestCalls: the same for all callers together, and before it is known who they are. Whoever watches the server still can.
func TestCalls(t *testing.T) {
	w := newWorldWith(t, server.Config{Limits: server.Limits{Calls: 4, CallsPerToken: 4}})
	end := w.hold(w.user, 4)
	w.refused(w.admin, "4 calls are under way", "--max-calls")
	w.refused("of-nobody", "4 calls are under way", "--max-calls")
	if a := w.call("", http.MethodGet, "/livez", nil); a.status != http.StatusOK {
		t.Errorf("/livez: %d", a.status)
	}
	end()
	w.within("there is room again", func() error { return w.list(w.admin) })
}

// hold opens so many streams that stay until end is called.
func (w *world) hold(token string, n int) (end func()) {
	w.Helper()
	id := w.idle()
	ctx, cancel := context.WithCancel(w.ctx())
	for range n {
		s := w.exec(ctx, w.dial(w.addr, token), initFrame(&v1beta2pb.ExecStreamInit{SandboxId: id, Command: []string{"sleep", "1000"}}))
		w.ready(s)
	}
	return cancel
}

// refused checks that a call is refused over gRPC, on both ports, and over REST.
func (w *world) refused(token, why, what string) {
	w.Helper()
	for where, addr := range map[string]string{"shared": w.addr, "native": w.native} {
		_, err := v1beta2rpc.NewGatewayServiceClient(w.dial(addr, token)).List(w.ctx(), &v1beta2pb.ListSandboxesRequest{})
		s := status.Convert(err)
		var reason, retry, help bool
		for _, d := range s.Details() {
			switch d := d.(type) {
			case *errdetails.ErrorInfo:
				reason = d.GetReason() == "LIMIT_EXCEEDED"
			case *errdetails.RetryInfo:
				retry = d.GetRetryDelay().AsDuration() > 0
			case *errdetails.Help:
				help = strings.Contains(d.String(), what)
			}
		}
		if s.Code() != codes.ResourceExhausted || !strings.Contains(s.Message(), why) || !reason || !retry || !help {
			w.Errorf("%s: %v %v", where, err, s.Details())
		}
	}
	a := w.call(token, http.MethodGet, "/v1beta2/sandboxes", nil)
	if a.status != http.StatusTooManyRequests || !strings.Contains(a.raw, why) || !strings.Contains(a.raw, what) {
		w.Errorf("REST: %d %s", a.status, a.raw)
	}
}

func (w *world) list(token string) error {
	if a := w.call(token, http.MethodGet, "/v1beta2/sandboxes", nil); a.status != http.StatusOK {
		return errors.New(a.raw)
	}
	return nil
}

// within waits for what the end of calls brings about.
func (w *world) within(what string, f func() error) {
	w.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.Fatalf("%s: %v", what, err)
		}
	}
}
