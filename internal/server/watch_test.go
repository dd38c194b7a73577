package server_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
)

// TestWatchOverGRPC: events in the form of the wire, for as long as the caller wants and the token is good.
func TestWatchOverGRPC(t *testing.T) {
	w := newWorld(t)
	watches := bermv1rpc.NewWatchServiceClient(w.dial(w.addr, w.user))
	ctx, cancel := context.WithTimeout(w.ctx(), time.Minute)
	defer cancel()
	stream, err := watches.Watch(ctx, &bermv1.WatchRequest{
		Kinds: []bermv1.WatchKind{bermv1.WatchKind_WATCH_KIND_SANDBOX, bermv1.WatchKind_WATCH_KIND_PROFILE}, IncludeExisting: true,
	})
	w.must(err)
	next := func(ok func(*bermv1.WatchResponse) bool) *bermv1.WatchResponse {
		t.Helper()
		for {
			e, err := stream.Recv()
			w.must(err)
			if e.GetResumeToken() == "" {
				t.Errorf("no token: %v", e)
			}
			if ok(e) {
				return e
			}
		}
	}
	existing := next(func(e *bermv1.WatchResponse) bool { return e.GetObject() != nil })
	if o := existing.GetObject(); o.GetKind() != bermv1.WatchKind_WATCH_KIND_PROFILE || o.GetName() != "default" || o.GetRevision() != 1 || existing.GetAt() != nil {
		t.Errorf("what is there: %v", existing)
	}
	next(func(e *bermv1.WatchResponse) bool { return e.GetMark() != nil })
	id := w.idle()
	e := next(func(e *bermv1.WatchResponse) bool { return e.GetSandbox().GetStatus() == "RUNNING" })
	if sb := e.GetSandbox(); sb.GetSandboxId() != id || sb.GetRunnerId() != "r1" || sb.GetProfileName() != "default" || e.GetAt() == nil {
		t.Errorf("the event: %v", e)
	}
	for name, req := range map[string]*bermv1.WatchRequest{
		"a kind that is none":  {Kinds: []bermv1.WatchKind{0}},
		"a token of nobody":    {ResumeToken: "AAAA"},
		"two beginnings":       {ResumeToken: e.GetResumeToken(), IncludeExisting: true},
		"a filter for nothing": {Kinds: []bermv1.WatchKind{bermv1.WatchKind_WATCH_KIND_ZONE}, Tags: []string{"a"}},
	} {
		s, err := watches.Watch(ctx, req)
		if err == nil {
			_, err = s.Recv()
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}
