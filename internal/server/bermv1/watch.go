package bermv1

import (
	"google.golang.org/grpc"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
	"github.com/bermhq/berm/internal/store"
)

type watchService struct {
	bermv1rpc.UnsafeWatchServiceServer
	*Front
}

var _ bermv1rpc.WatchServiceServer = (*watchService)(nil)

// watchKinds are the kinds that may be watched.
var watchKinds = map[bermv1.WatchKind]string{
	bermv1.WatchKind_WATCH_KIND_SANDBOX: store.ChangeSandbox,
	bermv1.WatchKind_WATCH_KIND_PROFILE: string(store.KindProfile),
	bermv1.WatchKind_WATCH_KIND_RUNNER:  string(store.KindRunner),
	bermv1.WatchKind_WATCH_KIND_ZONE:    string(store.KindZone),
}

// Watch sends what changes until the caller has enough.
func (s *watchService) Watch(r *bermv1.WatchRequest, stream grpc.ServerStreamingServer[bermv1.WatchResponse]) error {
	q := control.WatchQuery{
		Token: r.GetResumeToken(), Existing: r.GetIncludeExisting(),
		SandboxIDs: r.GetSandboxIds(), Tags: r.GetTags(), RunnerIDs: r.GetRunnerIds(), Profiles: r.GetProfileNames(),
	}
	for _, k := range r.GetKinds() {
		kind, ok := watchKinds[k]
		if !ok {
			return fault.Invalidf(fault.ReasonInvalidRequest, "invalid request to watch").WithField("kinds", "%s is none that can be watched", k)
		}
		q.Kinds = append(q.Kinds, kind)
	}
	ctx, done := s.untilDrain(stream.Context())
	defer done()
	events, err := s.control.Watch(ctx, edge.Principal(ctx), q)
	if err != nil {
		return err
	}
	for e, err := range events {
		if err != nil {
			return drained(ctx, err)
		}
		if err := stream.Send(watchEvent(e)); err != nil {
			return err
		}
	}
	return drained(ctx, ctx.Err())
}

func watchEvent(e control.WatchEvent) *bermv1.WatchResponse {
	out := &bermv1.WatchResponse{ResumeToken: e.Token, At: wire.Time(e.At)}
	switch {
	case e.Sandbox != nil:
		out.Event = &bermv1.WatchResponse_Sandbox{Sandbox: sandbox(e.Sandbox)}
	case e.Object != nil:
		out.Event = &bermv1.WatchResponse_Object{Object: watchedObject(e.Object)}
	default:
		out.Event = &bermv1.WatchResponse_Mark{Mark: &bermv1.WatchMark{}}
	}
	return out
}

func watchedObject(o *store.Object) *bermv1.WatchedObject {
	out := &bermv1.WatchedObject{Id: o.ID, Name: o.Name, Revision: o.Revision, Deleted: o.Deleted, By: o.UpdatedBy, Reason: o.Reason}
	for kind, name := range watchKinds {
		if name == string(o.Kind) {
			out.Kind = kind
		}
	}
	return out
}

// sandbox is a sandbox as it is written, with what memory adds to its state.
func sandbox(sb *core.Sandbox) *bermv1.Sandbox {
	return &bermv1.Sandbox{
		SandboxId: sb.ID, Status: string(sb.Status), Reason: sb.StatusReason, ExitCode: sb.ExitCode, Observation: string(sb.Observation),
		RunnerId: sb.RunnerID, ProfileName: sb.ProfileName, ProfileId: sb.ProfileID, ProfileRevision: sb.ProfileRevision, Tags: sb.Tags,
		CreatedBy: sb.CreatedBy, CreatedAt: wire.Time(sb.CreatedAt), StartedAt: wire.Time(sb.StartedAt), EndedAt: wire.Time(sb.EndedAt),
		ExpiresAt: wire.Time(sb.ExpiresAt), Timeline: timeline(sb.Timeline), Digest: sb.Digest, Service: service(sb.Service),
	}
}
