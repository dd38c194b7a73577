package control

import (
	"context"
	"fmt"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/store"
)

// A rollback is an edit like any other: a new revision, checked as if somebody had written it now. What it refers to may be gone
// since, or no longer be allowed; then it is refused with the reason.

// RollbackProfile makes the content of an earlier revision that of a new one. The second result holds warnings.
func (s *Service) RollbackProfile(ctx context.Context, p core.Principal, ref string, revision int32, st EditState) (*core.Profile, []string, error) {
	if err := s.allow(ctx, p, "RollbackProfile", audit.Target{Kind: string(store.KindProfile), Ref: ref, Reason: st.Reason}); err != nil {
		return nil, nil, err
	}
	return s.updateProfile(ctx, p, ref, func(tx store.Tx, current *core.Profile) (ProfilePatch, error) {
		o, err := earlier(ctx, tx, store.KindProfile, current.Meta, current.DisplayName, revision, st)
		if err != nil {
			return ProfilePatch{}, err
		}
		was, err := profileFrom(o)
		if err != nil {
			return ProfilePatch{}, err
		}
		return ProfilePatch{
			Mask: []string{"description", "labels", "spec"}, Etag: st.Etag,
			Profile: ProfileInput{Description: was.Description, Labels: was.Labels, Spec: was.Spec, Reason: rollbackReason(st, revision)},
		}, nil
	})
}

// RollbackRunner makes the configuration of an earlier revision, its bindings included, that of a new one. The release is not part of it:
// its channel decides that, and would apply what it offers once more. That it stays is said.
func (s *Service) RollbackRunner(ctx context.Context, p core.Principal, ref string, revision int32, st EditState) (*RunnerView, []string, error) {
	if err := s.allow(ctx, p, "RollbackRunner", audit.Target{Kind: string(store.KindRunner), Ref: ref, Reason: st.Reason}); err != nil {
		return nil, nil, err
	}
	var kept []string
	view, warnings, err := s.updateRunner(ctx, p, ref, func(tx store.Tx, current *core.Runner) (RunnerPatch, error) {
		o, err := earlier(ctx, tx, store.KindRunner, current.Meta, current.RunnerID, revision, st)
		if err != nil {
			return RunnerPatch{}, err
		}
		was, err := runnerFrom(o)
		if err != nil {
			return RunnerPatch{}, err
		}
		kept = releaseKept(current, was, revision)
		return RunnerPatch{
			Mask: []string{"display_name", "identity.zone", "identity.runner_group_id", "managed_spec", "profile_bindings"}, Etag: st.Etag,
			Runner: RunnerInput{
				DisplayName: was.DisplayName, Zone: was.Zone, GroupID: was.GroupID, Managed: was.Managed, Bindings: was.Bindings,
				Reason: rollbackReason(st, revision),
			},
		}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	return view, append(warnings, kept...), nil
}

// releaseKept says that a runner keeps its release where an earlier revision had another one, with the way back to that.
func releaseKept(current, was *core.Runner, revision int32) []string {
	now, then := releaseOf(current), releaseOf(was)
	if now == then {
		return nil
	}
	had := "the one that was installed"
	if then != (rollout.Release{}) {
		had = then.String()
	}
	return []string{
		fmt.Sprintf("the release is not part of a rollback: it stays %s; revision %d had %s", now, revision, had),
		"To go back to that release, have the channel offer it: berm serve --release CHANNEL=VERSION,IMAGE; then berm runner upgrade " + current.RunnerID,
	}
}

// releaseOf is the release that a runner was updated to, nothing for the one that was installed.
func releaseOf(r *core.Runner) rollout.Release {
	return rollout.Release{Version: r.Deployment.Version, Image: r.Deployment.Image}
}

// RollbackZone makes the defaults of an earlier revision those of a new one.
func (s *Service) RollbackZone(ctx context.Context, p core.Principal, name string, revision int32, st EditState) (*core.Zone, []string, error) {
	if err := s.allow(ctx, p, "RollbackZone", audit.Target{Kind: string(store.KindZone), Ref: name, Reason: st.Reason}); err != nil {
		return nil, nil, err
	}
	return s.putZone(ctx, p, name, func(tx store.Tx) (ZoneInput, error) {
		current, err := readZone(ctx, tx, p.OrgID, name)
		if err != nil {
			return ZoneInput{}, err
		}
		o, err := earlier(ctx, tx, store.KindZone, current.Meta, name, revision, st)
		if err != nil {
			return ZoneInput{}, err
		}
		was, err := zoneFrom(o)
		if err != nil {
			return ZoneInput{}, err
		}
		if err := s.checkSpecOf("zone", "defaults", was.Defaults); err != nil {
			return ZoneInput{}, err
		}
		return ZoneInput{Defaults: was.Defaults, Etag: st.Etag, Reason: rollbackReason(st, revision)}, nil
	})
}

// earlier returns the revision of an object that a rollback names.
func earlier(ctx context.Context, tx store.Tx, kind store.Kind, m core.Meta, name string, revision int32, st EditState) (*store.Object, error) {
	if err := checkEtag(st.Etag, string(kind)+" "+name, m); err != nil {
		return nil, err
	}
	if revision <= 0 {
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "which revision of %s %s?", kind, name).WithField("revision", "must be from 1 to %d", m.Revision)
	}
	return stateAt(ctx, tx, kind, m.OrgID, m.ID, revision)
}

func rollbackReason(st EditState, revision int32) string {
	if st.Reason != "" {
		return st.Reason
	}
	return fmt.Sprintf("rollback to revision %d", revision)
}
