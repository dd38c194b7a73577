package control

import (
	"cmp"
	"context"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/store"
)

// DiffQuery names two states of configuration objects of one kind.
type DiffQuery struct {
	// ID is a UUID, also of a deleted object, or a name. OtherID, when not empty, is another object, of which To is a revision.
	ID, OtherID string
	// From and To are revisions. To 0 is the last one. From 0 is the one before To, or the last one when there is another object.
	From, To int32
}

// Diff is what leads from one state to another. A zero From is the state before the first.
type Diff struct {
	From, To core.Meta
	// Changes are ordered by path, of which those of a spec begin with "spec.", of a zone's defaults with "defaults.", of a binding
	// with "profile_bindings[NAME].".
	Changes []spec.Change
}

// DiffProfiles compares two states of profiles.
func (s *Service) DiffProfiles(ctx context.Context, p core.Principal, q DiffQuery) (*Diff, error) {
	return s.diff(ctx, p, "DiffProfiles", store.KindProfile, q)
}

// DiffZones compares two states of zones.
func (s *Service) DiffZones(ctx context.Context, p core.Principal, q DiffQuery) (*Diff, error) {
	return s.diff(ctx, p, "DiffZones", store.KindZone, q)
}

// DiffRunners compares two states of runners, their bindings by name.
func (s *Service) DiffRunners(ctx context.Context, p core.Principal, q DiffQuery) (*Diff, error) {
	return s.diff(ctx, p, "DiffRunners", store.KindRunner, q)
}

func (s *Service) diff(ctx context.Context, p core.Principal, method string, kind store.Kind, q DiffQuery) (*Diff, error) {
	if err := s.allow(ctx, p, method); err != nil {
		return nil, err
	}
	var out *Diff
	err := s.store.View(ctx, func(r store.Reader) error {
		from, to, err := twoStates(ctx, r, kind, p.OrgID, q)
		if err != nil {
			return err
		}
		a, b := newStates(), newStates()
		out = &Diff{To: metaOf(to)}
		if from != nil {
			out.From = metaOf(from)
			if err := a.read(ctx, r, from); err != nil {
				return err
			}
		}
		if err := b.read(ctx, r, to); err != nil {
			return err
		}
		out.Changes = changes(a, b)
		return nil
	})
	return out, err
}

// twoStates reads what a query names; from is nil for the state before the first.
func twoStates(ctx context.Context, r store.Reader, kind store.Kind, orgID string, q DiffQuery) (from, to *store.Object, err error) {
	other := cmp.Or(q.OtherID, q.ID)
	if to, err = stateAt(ctx, r, kind, orgID, other, q.To); err != nil {
		return nil, nil, err
	}
	if q.OtherID == "" && q.From == 0 {
		if to.Revision == 1 {
			return nil, to, nil
		}
		q.From = to.Revision - 1
	}
	from, err = stateAt(ctx, r, kind, orgID, q.ID, q.From)
	return from, to, err
}

// stateAt returns a revision of an object, 0 for the last one; by UUID also of a deleted one.
func stateAt(ctx context.Context, r store.Reader, kind store.Kind, orgID, ref string, revision int32) (*store.Object, error) {
	id := ref
	if !spec.IsUUIDShaped(ref) {
		o, err := r.ObjectByName(ctx, kind, orgID, ref)
		if err != nil {
			return nil, noObject(kind, ref, err)
		}
		if id = o.ID; revision == 0 {
			return o, nil
		}
	}
	last, _, err := r.Revisions(ctx, kind, orgID, id, store.Page{Size: 1})
	if err == nil && len(last) == 0 {
		err = fault.NotFoundf("", "no revisions")
	}
	if err != nil {
		return nil, noObject(kind, ref, err)
	}
	if revision == 0 {
		return last[0], nil
	}
	o, err := r.ObjectRevision(ctx, kind, orgID, id, revision)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.NotFoundf(fault.ReasonRevisionNotFound, "%s %s has no revision %d", kind, last[0].Name, revision).
			WithHint("its revisions are 1 to %d", last[0].Revision)
	}
	return o, err
}

// noObject says that an object is not there, with the reason of its kind.
func noObject(kind store.Kind, ref string, err error) error {
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	reason := map[store.Kind]string{
		store.KindProfile: fault.ReasonProfileNotFound, store.KindRunner: fault.ReasonRunnerNotFound, store.KindZone: fault.ReasonZoneNotFound,
		store.KindTests: fault.ReasonTestsNotFound,
	}[kind]
	return fault.NotFoundf(reason, "%s %.80q does not exist", kind, ref)
}
