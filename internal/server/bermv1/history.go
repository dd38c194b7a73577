package bermv1

import (
	"context"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/server/controlplane"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

func (s *revisionService) DiffProfileRevisions(ctx context.Context, r *bermv1.DiffRevisionsRequest) (*bermv1.DiffRevisionsResponse, error) {
	return diffMessage(s.control.DiffProfiles(ctx, edge.Principal(ctx), diffQuery(r)))
}

func (s *revisionService) DiffRunnerRevisions(ctx context.Context, r *bermv1.DiffRevisionsRequest) (*bermv1.DiffRevisionsResponse, error) {
	return diffMessage(s.control.DiffRunners(ctx, edge.Principal(ctx), diffQuery(r)))
}

func (s *revisionService) DiffZoneRevisions(ctx context.Context, r *bermv1.DiffRevisionsRequest) (*bermv1.DiffRevisionsResponse, error) {
	return diffMessage(s.control.DiffZones(ctx, edge.Principal(ctx), diffQuery(r)))
}

func diffQuery(r *bermv1.DiffRevisionsRequest) control.DiffQuery {
	return control.DiffQuery{ID: r.GetId(), OtherID: r.GetOtherId(), From: r.GetFrom(), To: r.GetTo()}
}

func diffMessage(d *control.Diff, err error) (*bermv1.DiffRevisionsResponse, error) {
	if err != nil {
		return nil, err
	}
	return &bermv1.DiffRevisionsResponse{From: d.From.Revision, To: d.To.Revision, Changes: changeMessages(d.Changes)}, nil
}

func changeMessages(list []spec.Change) []*bermv1.FieldChange {
	out := make([]*bermv1.FieldChange, len(list))
	for i, c := range list {
		out[i] = &bermv1.FieldChange{Path: c.Path, Meaning: c.Meaning()}
		if c.OldState != spec.Absent {
			out[i].Old = wire.Value(c.Old)
		}
		if c.NewState != spec.Absent {
			out[i].New = wire.Value(c.New)
		}
	}
	return out
}

func (s *revisionService) RollbackProfile(ctx context.Context, r *bermv1.RollbackRequest) (*bermv1.RollbackResponse, error) {
	p, warnings, err := s.control.RollbackProfile(ctx, edge.Principal(ctx), r.GetId(), r.GetRevision(), stateOf(ctx, r))
	if err != nil {
		return nil, err
	}
	content, err := controlplane.ProfileConfiguration(p)
	return rollbackMessage(p.Meta, content, warnings, err)
}

func (s *revisionService) RollbackRunner(ctx context.Context, r *bermv1.RollbackRequest) (*bermv1.RollbackResponse, error) {
	v, warnings, err := s.control.RollbackRunner(ctx, edge.Principal(ctx), r.GetId(), r.GetRevision(), stateOf(ctx, r))
	if err != nil {
		return nil, err
	}
	content, err := controlplane.RunnerConfiguration(v.Runner)
	return rollbackMessage(v.Runner.Meta, content, warnings, err)
}

func (s *revisionService) RollbackZone(ctx context.Context, r *bermv1.RollbackRequest) (*bermv1.RollbackResponse, error) {
	z, warnings, err := s.control.RollbackZone(ctx, edge.Principal(ctx), r.GetId(), r.GetRevision(), stateOf(ctx, r))
	if err != nil {
		return nil, err
	}
	content, err := zoneConfiguration(z)
	return rollbackMessage(z.Meta, content, warnings, err)
}

func rollbackMessage(m core.Meta, content *tree.Node, warnings []string, err error) (*bermv1.RollbackResponse, error) {
	if err != nil {
		return nil, err
	}
	return &bermv1.RollbackResponse{Revision: revision(m, false, content), Etag: control.Etag(m), Warnings: warnings}, nil
}
