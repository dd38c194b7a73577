package control

import (
	"context"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// ProfileRevision is one state that a profile has had.
type ProfileRevision struct {
	Profile *core.Profile
	// Deleted: this revision ended the profile; the content is what it was before.
	Deleted bool
}

// RunnerRevision is one state that a runner and its bindings have had.
type RunnerRevision struct {
	Runner  *core.Runner
	Deleted bool
}

// ProfileRevisions lists the revisions of a profile, newest first; by UUID also those of a deleted one.
func (s *Service) ProfileRevisions(ctx context.Context, p core.Principal, ref string, page Page) ([]ProfileRevision, string, error) {
	if err := s.allow(p, "ProfileRevisions"); err != nil {
		return nil, "", err
	}
	objects, next, err := s.revisions(ctx, p, store.KindProfile, ref, page)
	if fault.Is(err, fault.NotFound) {
		return nil, "", fault.NotFoundf(fault.ReasonProfileNotFound, "profile %.80q does not exist", ref)
	}
	if err != nil {
		return nil, "", err
	}
	out := make([]ProfileRevision, len(objects))
	for i, o := range objects {
		profile, err := profileFrom(o)
		if err != nil {
			return nil, "", err
		}
		out[i] = ProfileRevision{Profile: profile, Deleted: o.Deleted}
	}
	return out, next, nil
}

// RunnerRevisions lists the revisions of a runner, newest first; by UUID also those of a deleted one.
func (s *Service) RunnerRevisions(ctx context.Context, p core.Principal, ref string, page Page) ([]RunnerRevision, string, error) {
	if err := s.allow(p, "RunnerRevisions"); err != nil {
		return nil, "", err
	}
	objects, next, err := s.revisions(ctx, p, store.KindRunner, ref, page)
	if fault.Is(err, fault.NotFound) {
		return nil, "", fault.NotFoundf(fault.ReasonRunnerNotFound, "runner %.80q does not exist", ref)
	}
	if err != nil {
		return nil, "", err
	}
	out := make([]RunnerRevision, len(objects))
	for i, o := range objects {
		runner, err := runnerFrom(o)
		if err != nil {
			return nil, "", err
		}
		out[i] = RunnerRevision{Runner: runner, Deleted: o.Deleted}
	}
	return out, next, nil
}

func (s *Service) revisions(ctx context.Context, p core.Principal, kind store.Kind, ref string, page Page) ([]*store.Object, string, error) {
	var (
		objects []*store.Object
		c       scope
		next    string
	)
	err := s.store.View(ctx, func(r store.Reader) error {
		id := ref
		if !spec.IsUUIDShaped(ref) {
			o, err := r.ObjectByName(ctx, kind, p.OrgID, ref)
			if err != nil {
				return err
			}
			id = o.ID
		}
		c = scope{orgID: p.OrgID, kind: "revisions of " + id}
		sp, err := c.page(page, DefaultPage)
		if err != nil {
			return err
		}
		objects, next, err = r.Revisions(ctx, kind, p.OrgID, id, sp)
		if err == nil && len(objects) == 0 && page.Token == "" {
			err = fault.NotFoundf("", "no revisions")
		}
		return err
	})
	return objects, c.token(next), err
}
