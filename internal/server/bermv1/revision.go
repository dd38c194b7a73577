package bermv1

import (
	"context"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/controlplane"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

type revisionService struct {
	bermv1rpc.UnsafeRevisionServiceServer
	*Front
}

var _ bermv1rpc.RevisionServiceServer = (*revisionService)(nil)

func (s *revisionService) ListProfileRevisions(ctx context.Context, r *bermv1.ListProfileRevisionsRequest) (*bermv1.ListProfileRevisionsResponse, error) {
	list, next, err := s.control.ProfileRevisions(ctx, edge.Principal(ctx), r.GetId(), pageOf(r))
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListProfileRevisionsResponse{NextPageToken: next}
	for _, rev := range list {
		content, err := controlplane.ProfileConfiguration(rev.Profile)
		if err != nil {
			return nil, err
		}
		out.Revisions = append(out.Revisions, revision(rev.Profile.Meta, rev.Deleted, content))
	}
	return out, nil
}

func (s *revisionService) ListRunnerRevisions(ctx context.Context, r *bermv1.ListRunnerRevisionsRequest) (*bermv1.ListRunnerRevisionsResponse, error) {
	list, next, err := s.control.RunnerRevisions(ctx, edge.Principal(ctx), r.GetId(), pageOf(r))
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListRunnerRevisionsResponse{NextPageToken: next}
	for _, rev := range list {
		content, err := controlplane.RunnerConfiguration(rev.Runner)
		if err != nil {
			return nil, err
		}
		out.Revisions = append(out.Revisions, revision(rev.Runner.Meta, rev.Deleted, content))
	}
	return out, nil
}

func revision(m core.Meta, deleted bool, content *tree.Node) *bermv1.Revision {
	return &bermv1.Revision{
		Revision: m.Revision, By: m.UpdatedBy, At: wire.Time(m.UpdatedAt), Reason: m.Reason, Content: wire.Struct(content.JSON()), Deleted: deleted,
	}
}

func (s *revisionService) ListZoneRevisions(ctx context.Context, r *bermv1.ListZoneRevisionsRequest) (*bermv1.ListZoneRevisionsResponse, error) {
	list, next, err := s.control.ZoneRevisions(ctx, edge.Principal(ctx), r.GetId(), pageOf(r))
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListZoneRevisionsResponse{NextPageToken: next}
	for _, rev := range list {
		content, err := zoneConfiguration(rev.Zone)
		if err != nil {
			return nil, err
		}
		out.Revisions = append(out.Revisions, revision(rev.Zone.Meta, rev.Deleted, content))
	}
	return out, nil
}

// zoneConfiguration returns what a revision of a zone configures, in the form of its REST resource.
func zoneConfiguration(z *core.Zone) (*tree.Node, error) {
	n, err := zoneNode(z, nil)
	if err != nil {
		return nil, err
	}
	return &tree.Node{Kind: tree.Object, Keys: []tree.Key{{Name: "defaults", Value: n.Get("defaults")}}}, nil
}
