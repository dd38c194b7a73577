package control

import (
	"context"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/lint"
	"github.com/bermhq/berm/internal/store"
)

// Lint returns what the configuration of the organization says in vain, twice or in contradiction to itself, errors first, and whether
// there are more findings than it returns.
func (s *Service) Lint(ctx context.Context, p core.Principal) ([]lint.Finding, bool, error) {
	if err := s.allow(ctx, p, "Lint"); err != nil {
		return nil, false, err
	}
	cfg, err := s.config(ctx, p.OrgID, true)
	if err != nil {
		return nil, false, err
	}
	var profiles []*core.Profile
	err = s.store.View(ctx, func(r store.Reader) error {
		profiles = nil
		return eachObject(ctx, r, store.KindProfile, p.OrgID, func(o *store.Object) error {
			profile, err := profileFrom(o)
			profiles = append(profiles, profile)
			return err
		})
	})
	if err != nil {
		return nil, false, err
	}
	found, more := lint.Check(s.snapshotOf(p.OrgID, cfg, make([]core.Amounts, len(cfg.runners))), profiles)
	return found, more, nil
}
