package bermv1

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/impact"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

type previewService struct {
	bermv1rpc.UnsafePreviewServiceServer
	*Front
}

var _ bermv1rpc.PreviewServiceServer = (*previewService)(nil)

// ServeEdits gives the front what serves the REST form of edits, by hand and by the gateway: a preview sends an edit there as its
// caller would, so that it is read, checked and refused as the edit itself.
func (f *Front) ServeEdits(byHand, gateway http.Handler) { f.byHand, f.gateway = byHand, gateway }

// The edits that can be previewed: everything that changes zones, profiles, runners or bindings.
var (
	editsByHand = regexp.MustCompile(`^(POST|PATCH|DELETE) /v1beta2/sandbox/(profile-templates|managed-runners)(/[^/:]+)?$|^(PUT|DELETE) /berm/v1/zones/[^/]+$`)
	editsByRPC  = regexp.MustCompile(`^(POST|PATCH|DELETE) /berm/v1/runners/[^/]+/bindings(/[^/]+)?$|^POST /berm/v1/(profiles|runners|zones)/[^/]+/rollback$|^POST /berm/v1/(profiles/[^/]+/consolidate|runners/[^/]+/bindings/[^/]+/promote)$`)
)

func (s *previewService) PreviewEdit(ctx context.Context, r *bermv1.PreviewEditRequest) (*bermv1.PreviewEditResponse, error) {
	if n := r.GetLaunches(); n < 0 || n > control.MaxPreviewLaunches {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid preview").WithField("launches", "is %d, must be from 0 to %d", n, control.MaxPreviewLaunches)
	}
	handler, request, err := s.edit(ctx, r)
	if err != nil {
		return nil, err
	}
	var answer struct{ Warnings []string }
	p, err := s.control.Preview(ctx, edge.Principal(ctx), int(r.GetLaunches()), func(ctx context.Context) error {
		w := &answerKeeper{header: http.Header{}}
		handler.ServeHTTP(w, request.WithContext(ctx))
		if w.err != nil {
			return w.err
		}
		if err := json.Unmarshal(w.body.Bytes(), &answer); err != nil {
			return fault.Internalf(err, "the answer to an edit cannot be read")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return effect(p, answer.Warnings), nil
}

// edit returns an edit as a request, and what serves it.
func (s *previewService) edit(ctx context.Context, r *bermv1.PreviewEditRequest) (http.Handler, *http.Request, error) {
	u, err := url.ParseRequestURI(r.GetPath())
	if err != nil || !strings.HasPrefix(r.GetPath(), "/") {
		return nil, nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid preview").WithField("path", "%.200q is no path", r.GetPath())
	}
	handler := s.byHand
	switch line := r.GetMethod() + " " + u.EscapedPath(); {
	case editsByHand.MatchString(line):
	case editsByRPC.MatchString(line):
		handler = s.gateway
	default:
		return nil, nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid preview").
			WithField("path", "%.200q is no edit of a zone, a profile, a runner or a binding", line)
	}
	request, err := http.NewRequestWithContext(ctx, r.GetMethod(), r.GetPath(), strings.NewReader(r.GetBody()))
	if err != nil {
		return nil, nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid preview").WithField("method", "%.40q is no method of an edit", r.GetMethod())
	}
	if r.GetEtag() != "" {
		request.Header.Set("If-Match", r.GetEtag())
	}
	return handler, request, nil
}

// answerKeeper keeps the answer to an edit, or the error before it became one.
type answerKeeper struct {
	header http.Header
	body   bytes.Buffer
	err    error
}

func (w *answerKeeper) Header() http.Header         { return w.header }
func (w *answerKeeper) WriteHeader(int)             {}
func (w *answerKeeper) Write(p []byte) (int, error) { return w.body.Write(p) }

// FailWith implements edge.Failer.
func (w *answerKeeper) FailWith(err error) { w.err = err }

func (s *previewService) ListOutdated(ctx context.Context, r *bermv1.ListOutdatedRequest) (*bermv1.ListOutdatedResponse, error) {
	list, next, err := s.control.Outdated(ctx, edge.Principal(ctx), control.SandboxQuery{
		Tags: r.GetTags(), Profiles: r.GetProfileNames(), RunnerIDs: r.GetRunnerIds(), Page: pageOf(r),
	})
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListOutdatedResponse{NextPageToken: next}
	for _, o := range list {
		out.Sandboxes = append(out.Sandboxes, &bermv1.OutdatedSandbox{
			SandboxId: o.Sandbox.ID, RunnerId: o.Sandbox.RunnerID, ProfileName: o.Sandbox.ProfileName, Message: o.Message, Fields: impactFields(o.Fields),
		})
	}
	return out, nil
}

func groups(list []impact.Group) []*bermv1.ImpactGroup {
	out := make([]*bermv1.ImpactGroup, len(list))
	for i, g := range list {
		out[i] = &bermv1.ImpactGroup{
			Kind: string(g.Kind), Count: wire.Count(g.Count), Example: g.About, Others: g.Others, Message: g.Message, Fields: impactFields(g.Fields),
		}
	}
	return out
}

func impactFields(list []impact.Field) []*bermv1.ImpactField {
	side := func(s *impact.Side) (*structpb.Value, *bermv1.Origin) {
		if s == nil {
			return nil, nil
		}
		return wire.Value(s.Value), wire.Origin(s.Origin)
	}
	out := make([]*bermv1.ImpactField, len(list))
	for i, f := range list {
		m := &bermv1.ImpactField{Path: f.Path, Meaning: f.Meaning}
		m.Old, m.OldOrigin = side(f.Old)
		m.New, m.NewOrigin = side(f.New)
		out[i] = m
	}
	return out
}
