package bermv1

import (
	"context"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

type orgService struct {
	bermv1rpc.UnsafeOrgServiceServer
	*Front
}

var _ bermv1rpc.OrgServiceServer = (*orgService)(nil)

func (s *orgService) CreateOrg(ctx context.Context, r *bermv1.CreateOrgRequest) (*bermv1.Org, error) {
	o, err := s.control.CreateOrg(ctx, edge.Principal(ctx), r.GetName())
	if err != nil {
		return nil, err
	}
	return orgMessage(o), nil
}

func (s *orgService) ListOrgs(ctx context.Context, r *bermv1.ListOrgsRequest) (*bermv1.ListOrgsResponse, error) {
	list, next, err := s.control.ListOrgs(ctx, edge.Principal(ctx), pageOf(r))
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListOrgsResponse{NextPageToken: next}
	for _, o := range list {
		out.Orgs = append(out.Orgs, orgMessage(o))
	}
	return out, nil
}

func orgMessage(o *core.Org) *bermv1.Org {
	return &bermv1.Org{Id: o.ID, Name: o.Name, CreatedAt: wire.Time(o.CreatedAt)}
}

// pageOf returns what a list request says about paging.
func pageOf(r interface {
	GetPageSize() int32
	GetPageToken() string
},
) control.Page {
	return control.Page{Size: int(r.GetPageSize()), Token: r.GetPageToken()}
}
