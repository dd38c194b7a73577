package control

import (
	"context"
	"strings"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// Limits of a profile.
const (
	// MaxDescription is the longest description, in bytes.
	MaxDescription = 4096
	// MaxLabels is how many labels a profile may have.
	MaxLabels = 64
	// MaxLabelText is the longest key or value of a label, in bytes.
	MaxLabelText = 256
	// MaxReason is the longest reason given for a change, in bytes.
	MaxReason = 1024
)

// ProfileInput is what a caller says about a profile.
type ProfileInput struct {
	DisplayName, Description string
	Labels                   map[string]string
	// Spec is required; an empty layer inherits everything.
	Spec *spec.Layer
	// Reason is kept with the revision.
	Reason string
}

// ProfilePatch replaces the fields that Mask names, snake_case paths of ProfilePaths.
type ProfilePatch struct {
	Mask    []string
	Profile ProfileInput
	// Etag, when not empty, is the state that the caller has seen.
	Etag string
}

// ProfilePaths is what a mask of a profile may name, in the form of spec.ParseMask.
func ProfilePaths() []string {
	return []string{"description", "labels", "spec.*", "!display_name", "!id", "!organization_id", "!created_at", "!updated_at"}
}

// CreateProfile makes a profile at revision 1. A display name in use: Exists, PROFILE_EXISTS.
func (s *Service) CreateProfile(ctx context.Context, p core.Principal, in ProfileInput) (*core.Profile, error) {
	if err := s.allow(ctx, p, "CreateProfile", audit.Target{Kind: string(store.KindProfile), Ref: in.DisplayName, Reason: in.Reason}); err != nil {
		return nil, err
	}
	failpoint.Hit(fpProfileInsert)
	var made *core.Profile
	err := s.edit(ctx, p.OrgID, func(tx store.Tx) (err error) {
		made, err = s.insertProfile(ctx, tx, p, in)
		return err
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// insertProfile makes a profile within a transaction.
func (s *Service) insertProfile(ctx context.Context, tx store.Tx, p core.Principal, in ProfileInput) (*core.Profile, error) {
	if in.Spec == nil {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "invalid profile").
			WithField("spec", "must be given; spec: {} inherits everything")
	}
	profile := &core.Profile{
		Meta: s.meta(p, in.Reason), DisplayName: in.DisplayName, Description: in.Description, Labels: in.Labels, Spec: in.Spec,
	}
	if err := checkProfile(profile); err != nil {
		return nil, err
	}
	if err := s.checkSpecOf("profile", "spec", profile.Spec); err != nil {
		return nil, err
	}
	o, err := profileObject(profile)
	if err != nil {
		return nil, err
	}
	if err := tx.Insert(ctx, o); fault.Is(err, fault.Exists) {
		return nil, fault.New(fault.Exists, fault.ReasonProfileExists, "a profile named %q exists", in.DisplayName).
			WithField("display_name", "is taken in this organization")
	} else if err != nil {
		return nil, err
	}
	return profileFrom(o)
}

// GetProfile returns a profile by UUID or display name.
func (s *Service) GetProfile(ctx context.Context, p core.Principal, ref string) (*core.Profile, error) {
	if err := s.allow(ctx, p, "GetProfile"); err != nil {
		return nil, err
	}
	var profile *core.Profile
	err := s.store.View(ctx, func(r store.Reader) error {
		var err error
		profile, err = readProfile(ctx, r, p.OrgID, ref)
		return err
	})
	return profile, err
}

// ListProfiles lists the profiles that a filter selects, by display name.
func (s *Service) ListProfiles(ctx context.Context, p core.Principal, f ProfileSelection, page Page) ([]*core.Profile, string, error) {
	if err := s.allow(ctx, p, "ListProfiles"); err != nil {
		return nil, "", err
	}
	sel, err := selector(f.Labels)
	if err != nil {
		return nil, "", err
	}
	var keep func(*core.Profile) bool
	if sel != nil {
		keep = func(profile *core.Profile) bool { return profile != nil }
	}
	from := func(o *store.Object) (*core.Profile, error) { return profileWith(o, sel) }
	return listPage(ctx, s, store.KindProfile, p.OrgID, page, f.Labels, from, keep)
}

// UpdateProfile writes a new revision, which every binding of the profile uses from the next launch on. An edit that
// leaves a binding unresolvable is refused with the list of bindings; one that makes an override lose its effect is
// accepted, and the second result says so. A patch that changes nothing writes nothing.
func (s *Service) UpdateProfile(ctx context.Context, p core.Principal, ref string, patch ProfilePatch) (*core.Profile, []string, error) {
	if err := s.allow(ctx, p, "UpdateProfile", audit.Target{Kind: string(store.KindProfile), Ref: ref, Reason: patch.Profile.Reason}); err != nil {
		return nil, nil, err
	}
	return s.updateProfile(ctx, p, ref, func(store.Tx, *core.Profile) (ProfilePatch, error) { return patch, nil })
}

// updateProfile makes a patch from the profile that is there and writes what it comes to, in one transaction.
func (s *Service) updateProfile(
	ctx context.Context, p core.Principal, ref string, edit func(tx store.Tx, current *core.Profile) (ProfilePatch, error),
) (*core.Profile, []string, error) {
	var (
		profile  *core.Profile
		warnings []string
	)
	failpoint.Hit(fpProfileUpdate)
	warned, err := s.editWarned(ctx, p.OrgID, func(tx store.Tx) error {
		current, err := readProfile(ctx, tx, p.OrgID, ref)
		if err != nil {
			return err
		}
		patch, err := edit(tx, current)
		if err != nil {
			return err
		}
		if err := checkEtag(patch.Etag, "profile "+current.DisplayName, current.Meta); err != nil {
			return err
		}
		next, err := patchProfile(current, patch)
		if err != nil {
			return err
		}
		profile, warnings = current, nil
		if sameProfile(current, next) {
			return nil
		}
		if current.Spec.String() != next.Spec.String() {
			if err := s.checkSpecOf("profile", "spec", next.Spec); err != nil {
				return err
			}
		}
		if warnings, err = s.profileImpact(ctx, tx, current, next); err != nil {
			return err
		}
		s.revise(&next.Meta, p, patch.Profile.Reason)
		o, err := profileObject(next)
		if err != nil {
			return err
		}
		if err := tx.Update(ctx, o); err != nil {
			return err
		}
		profile, err = profileFrom(o)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return profile, append(warnings, warned...), nil
}

// DeleteProfile deletes a profile that no runner binds. Its revisions stay; its name is free again.
func (s *Service) DeleteProfile(ctx context.Context, p core.Principal, ref string, opts DeleteOptions) error {
	if err := s.allow(ctx, p, "DeleteProfile", audit.Target{Kind: string(store.KindProfile), Ref: ref}); err != nil {
		return err
	}
	if err := opts.check(); err != nil {
		return err
	}
	failpoint.Hit(fpProfileDelete)
	return s.edit(ctx, p.OrgID, func(tx store.Tx) error {
		profile, err := readProfile(ctx, tx, p.OrgID, ref)
		if err != nil {
			return err
		}
		if err := checkEtag(opts.Etag, "profile "+profile.DisplayName, profile.Meta); err != nil {
			return err
		}
		return s.deleteProfile(ctx, tx, p, profile, opts.Reason)
	})
}

// deleteProfile deletes a profile within a transaction.
func (s *Service) deleteProfile(ctx context.Context, tx store.Tx, p core.Principal, profile *core.Profile, reason string) error {
	if err := refuseBound(ctx, tx, profile); err != nil {
		return err
	}
	if err := s.deleteTests(ctx, tx, p, profile, reason); err != nil {
		return err
	}
	s.revise(&profile.Meta, p, reason)
	o, err := profileObject(profile)
	if err != nil {
		return err
	}
	return tx.Delete(ctx, o)
}

// refuseBound lists the runners that bind a profile.
func refuseBound(ctx context.Context, r store.Reader, profile *core.Profile) error {
	var runners []string
	err := eachRunner(ctx, r, profile.OrgID, func(runner *core.Runner) error {
		if binds(runner, profile.ID) {
			runners = append(runners, runner.RunnerID)
		}
		return nil
	})
	if err != nil || len(runners) == 0 {
		return err
	}
	e := fault.Preconditionf(fault.ReasonProfileBound, "profile %s is bound to %s", profile.DisplayName, counted(len(runners), "runner")).
		WithMeta("runners", strings.Join(runners[:min(len(runners), maxListed)], ",")).
		WithHint("remove its bindings first: berm runner unbind RUNNER BINDING")
	for _, id := range runners[:min(len(runners), maxListed)] {
		e.WithField("profile_bindings", "runner %s binds it", id)
	}
	return e
}

func readProfile(ctx context.Context, r store.Reader, orgID, ref string) (*core.Profile, error) {
	o, err := readObject(ctx, r, store.KindProfile, orgID, ref)
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			return nil, fault.NotFoundf(fault.ReasonProfileNotFound, "profile %.80q does not exist", ref)
		}
		return nil, err
	}
	return profileFrom(o)
}
