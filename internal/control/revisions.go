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
	if err := s.allow(ctx, p, "ProfileRevisions"); err != nil {
		return nil, "", err
	}
	return revisionsOf(ctx, s, p, store.KindProfile, ref, page, func(o *store.Object) (ProfileRevision, error) {
		profile, err := profileFrom(o)
		return ProfileRevision{Profile: profile, Deleted: o.Deleted}, err
	})
}

// RunnerRevisions lists the revisions of a runner, newest first; by UUID also those of a deleted one.
func (s *Service) RunnerRevisions(ctx context.Context, p core.Principal, ref string, page Page) ([]RunnerRevision, string, error) {
	if err := s.allow(ctx, p, "RunnerRevisions"); err != nil {
		return nil, "", err
	}
	return revisionsOf(ctx, s, p, store.KindRunner, ref, page, func(o *store.Object) (RunnerRevision, error) {
		runner, err := runnerFrom(o)
		return RunnerRevision{Runner: runner, Deleted: o.Deleted}, err
	})
}

// ZoneRevision is one state that the defaults of a zone have had.
type ZoneRevision struct {
	Zone    *core.Zone
	Deleted bool
}

// ZoneRevisions lists the revisions of a zone, newest first; by UUID also those of a deleted one.
func (s *Service) ZoneRevisions(ctx context.Context, p core.Principal, ref string, page Page) ([]ZoneRevision, string, error) {
	if err := s.allow(ctx, p, "ZoneRevisions"); err != nil {
		return nil, "", err
	}
	return revisionsOf(ctx, s, p, store.KindZone, ref, page, func(o *store.Object) (ZoneRevision, error) {
		zone, err := zoneFrom(o)
		return ZoneRevision{Zone: zone, Deleted: o.Deleted}, err
	})
}

// revisionsOf reads a page of the revisions of an object.
func revisionsOf[T any](
	ctx context.Context, s *Service, p core.Principal, kind store.Kind, ref string, page Page, from func(*store.Object) (T, error),
) ([]T, string, error) {
	objects, next, err := s.revisions(ctx, p, kind, ref, page)
	if err != nil {
		return nil, "", noObject(kind, ref, err)
	}
	out := make([]T, len(objects))
	for i, o := range objects {
		if out[i], err = from(o); err != nil {
			return nil, "", err
		}
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
