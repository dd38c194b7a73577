package control

import (
	"context"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// reasonOrgExists and reasonOrgNotFound are reasons of this file alone.
const (
	reasonOrgExists   = "ORG_EXISTS"
	reasonOrgNotFound = "ORG_NOT_FOUND"
)

// CreateOrg makes an organization. It is empty: no zone, profile, runner or token.
func (s *Service) CreateOrg(ctx context.Context, p core.Principal, name string) (*core.Org, error) {
	if err := s.allow(ctx, p, "CreateOrg", audit.Target{Kind: store.ChangeOrg, Ref: name}); err != nil {
		return nil, err
	}
	if err := spec.CheckName("name", name); err != nil {
		return nil, err
	}
	org := &core.Org{ID: s.newID(), Name: name, CreatedAt: s.now()}
	failpoint.Hit(fpOrgInsert)
	err := s.store.Update(ctx, func(tx store.Tx) error { return tx.InsertOrg(ctx, org) })
	if fault.Is(err, fault.Exists) {
		return nil, fault.New(fault.Exists, reasonOrgExists, "an organization named %q exists", name).WithField("name", "is taken")
	}
	if err != nil {
		return nil, err
	}
	return org, nil
}

// ListOrgs lists the organizations that the caller may see, by name: its own, or all for an operator.
func (s *Service) ListOrgs(ctx context.Context, p core.Principal, page Page) ([]*core.Org, string, error) {
	if err := s.allow(ctx, p, "ListOrgs"); err != nil {
		return nil, "", err
	}
	var orgs []*core.Org
	err := s.store.View(ctx, func(r store.Reader) error {
		all, err := r.Orgs(ctx)
		orgs = slices.DeleteFunc(all, func(o *core.Org) bool { return o.ID != p.OrgID && !p.Allows(core.RoleOperator) })
		return err
	})
	if err != nil {
		return nil, "", err
	}
	slices.SortFunc(orgs, func(a, b *core.Org) int { return strings.Compare(a.Name, b.Name) })
	return paged(scope{orgID: p.OrgID, kind: "org"}, page, orgs, func(o *core.Org) string { return o.Name })
}

// Identity is who a token stands for.
type Identity struct {
	Org       core.Org
	Principal core.Principal
}

// WhoAmI returns the caller.
func (s *Service) WhoAmI(ctx context.Context, p core.Principal) (Identity, error) {
	if err := s.allow(ctx, p, "WhoAmI"); err != nil {
		return Identity{}, err
	}
	id := Identity{Principal: p}
	err := s.store.View(ctx, func(r store.Reader) error {
		org, err := r.Org(ctx, p.OrgID)
		if err == nil {
			id.Org = *org
		}
		return err
	})
	return id, err
}

// reachOrg returns the organization that a caller names, its own for "". Another than its own exists for operators only.
func reachOrg(ctx context.Context, r store.Reader, p core.Principal, name string) (*core.Org, error) {
	if name == "" {
		return r.Org(ctx, p.OrgID)
	}
	org, err := r.OrgByName(ctx, name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	if err != nil || (org.ID != p.OrgID && !p.Allows(core.RoleOperator)) {
		return nil, fault.NotFoundf(reasonOrgNotFound, "organization %.80q does not exist", name)
	}
	return org, nil
}
