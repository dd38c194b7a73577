package bermv1

import (
	"context"
	"time"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

type tokenService struct {
	bermv1rpc.UnsafeTokenServiceServer
	*Front
}

var _ bermv1rpc.TokenServiceServer = (*tokenService)(nil)

func (s *tokenService) CreateToken(ctx context.Context, r *bermv1.CreateTokenRequest) (*bermv1.CreateTokenResponse, error) {
	if r.ExpiresInSeconds != nil && r.GetExpiresInSeconds() <= 0 {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid token").
			WithField("expires_in_seconds", "%d is not positive; leave it out for a token that does not expire", r.GetExpiresInSeconds())
	}
	p := edge.Principal(ctx)
	t, secret, err := s.control.CreateToken(ctx, p, control.TokenInput{
		Org: r.GetOrg(), Name: r.GetName(), Role: core.Role(r.GetRole()), TTL: time.Duration(r.GetExpiresInSeconds()) * time.Second,
	})
	if err != nil {
		return nil, err
	}
	org, err := s.orgName(ctx, p, r.GetOrg())
	if err != nil {
		return nil, err
	}
	return &bermv1.CreateTokenResponse{
		Token: secret, Id: t.ID, Org: org, Name: t.Name, Role: string(t.Role), CreatedAt: wire.Time(t.CreatedAt), ExpiresAt: wire.Time(t.ExpiresAt),
	}, nil
}

func (s *tokenService) ListTokens(ctx context.Context, r *bermv1.ListTokensRequest) (*bermv1.ListTokensResponse, error) {
	p := edge.Principal(ctx)
	list, next, err := s.control.ListTokens(ctx, p, r.GetOrg(), pageOf(r))
	if err != nil {
		return nil, err
	}
	org, err := s.orgName(ctx, p, r.GetOrg())
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListTokensResponse{NextPageToken: next}
	for _, t := range list {
		out.Tokens = append(out.Tokens, &bermv1.Token{
			Id: t.ID, Org: org, Name: t.Name, Role: string(t.Role), CreatedAt: wire.Time(t.CreatedAt), CreatedBy: t.CreatedBy, ExpiresAt: wire.Time(t.ExpiresAt),
		})
	}
	return out, nil
}

func (s *tokenService) DeleteToken(ctx context.Context, r *bermv1.DeleteTokenRequest) (*bermv1.DeleteTokenResponse, error) {
	if err := s.control.RevokeToken(ctx, edge.Principal(ctx), r.GetOrg(), r.GetId()); err != nil {
		return nil, err
	}
	return &bermv1.DeleteTokenResponse{}, nil
}

func (s *tokenService) WhoAmI(ctx context.Context, _ *bermv1.WhoAmIRequest) (*bermv1.WhoAmIResponse, error) {
	id, err := s.control.WhoAmI(ctx, edge.Principal(ctx))
	if err != nil {
		return nil, err
	}
	p := id.Principal
	return &bermv1.WhoAmIResponse{Org: id.Org.Name, OrgId: id.Org.ID, TokenId: p.TokenID, Actor: p.Actor, Role: string(p.Role)}, nil
}

// orgName returns the name of the organization that a request named, the caller's for "".
func (f *Front) orgName(ctx context.Context, p core.Principal, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	id, err := f.control.WhoAmI(ctx, p)
	return id.Org.Name, err
}
