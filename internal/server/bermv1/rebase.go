package bermv1

import (
	"context"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/server/edge"
)

type rebaseService struct {
	bermv1rpc.UnsafeRebaseServiceServer
	*Front
}

var _ bermv1rpc.RebaseServiceServer = (*rebaseService)(nil)

func (s *rebaseService) ConsolidateProfiles(ctx context.Context, r *bermv1.ConsolidateProfilesRequest) (*bermv1.RebaseResponse, error) {
	return rebased(s.control.ConsolidateProfiles(ctx, edge.Principal(ctx), control.Consolidation{
		Keep: r.GetId(), Others: r.GetOthers(), Delete: r.GetDelete(),
	}, stateOf(ctx, r)))
}

func (s *rebaseService) PromoteOverride(ctx context.Context, r *bermv1.PromoteOverrideRequest) (*bermv1.RebaseResponse, error) {
	return rebased(s.control.PromoteOverride(ctx, edge.Principal(ctx), control.Promotion{
		Runner: r.GetId(), Binding: r.GetProfileName(), DisplayName: r.GetDisplayName(), Everywhere: r.GetEverywhere(),
	}, stateOf(ctx, r)))
}

func rebased(r *control.Rebase, err error) (*bermv1.RebaseResponse, error) {
	if err != nil {
		return nil, err
	}
	out := &bermv1.RebaseResponse{ProfileId: r.Profile.ID, ProfileName: r.Profile.DisplayName, Deleted: r.Deleted, Warnings: r.Warnings}
	for _, b := range r.Bindings {
		m := &bermv1.RebasedBinding{RunnerId: b.RunnerID, Name: b.Name, FromProfile: b.From, Pinned: b.Pinned}
		if !b.Override.IsEmpty() {
			m.OverridesJson = string(b.Override.WireJSON())
		}
		out.Bindings = append(out.Bindings, m)
	}
	return out, nil
}
