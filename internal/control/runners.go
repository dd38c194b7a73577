package control

import (
	"context"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/failpoint"
	"github.com/bermhq/berm/internal/store"
)

// Limits of a runner.
const (
	// MaxBindings is how many bindings a runner may have.
	MaxBindings = 256
	// MaxRunnerText is the longest display name or cluster identity, in bytes.
	MaxRunnerText = 128
	// MaxManagedText is the longest maintenance policy or deployment override, in bytes.
	MaxManagedText = 64 << 10
)

// Release channels, as on the wire. Empty means stable.
const (
	ChannelStable = "RELEASE_CHANNEL_STABLE"
	ChannelRapid  = "RELEASE_CHANNEL_RAPID"
)

// channelNames are the names of the channels where a server is told what they offer.
var channelNames = map[string]string{"": rollout.Stable, ChannelStable: rollout.Stable, ChannelRapid: rollout.Rapid}

// RunnerInput is what a caller says about a runner.
type RunnerInput struct {
	RunnerID, DisplayName, Zone string
	// Exactly one of ClusterID and ClusterName.
	ClusterID, ClusterName string
	GroupID                string
	Managed                core.ManagedSpec
	Bindings               []core.Binding
	Reason                 string
}

// RunnerPatch replaces the fields that Mask names, snake_case paths of RunnerPaths.
type RunnerPatch struct {
	Mask   []string
	Runner RunnerInput
	Etag   string
}

// RunnerPaths is what a mask of a runner may name, in the form of spec.ParseMask.
func RunnerPaths() []string {
	return []string{
		"display_name", "identity.zone", "identity.runner_group_id", "profile_bindings",
		"managed_spec", "managed_spec.release_channel", "managed_spec.maintenance_policy", "managed_spec.overrides",
		"managed_spec.allow_privileged_profile_annotations", "managed_spec.enforce_resource_limits",
		"!id", "!identity.runner_id", "!identity.cluster_id", "!identity.cluster_name", "!management_mode", "!organization_id",
		"!created_at", "!updated_at",
	}
}

// CreateRunner makes a runner with its bindings. It has no process yet: PENDING and DISCONNECTED, never a candidate. A
// runner_id in use, or a cluster that has a runner: Exists, RUNNER_EXISTS. The second result holds warnings.
func (s *Service) CreateRunner(ctx context.Context, p core.Principal, in RunnerInput) (*RunnerView, []string, error) {
	if err := s.allow(ctx, p, "CreateRunner", audit.Target{Kind: string(store.KindRunner), Ref: in.RunnerID, Reason: in.Reason}); err != nil {
		return nil, nil, err
	}
	runner := &core.Runner{
		Meta: s.meta(p, in.Reason), RunnerID: in.RunnerID, DisplayName: in.DisplayName, Zone: in.Zone,
		ClusterID: in.ClusterID, ClusterName: in.ClusterName, GroupID: in.GroupID, Managed: in.Managed, Bindings: in.Bindings,
	}
	if err := checkRunner(runner); err != nil {
		return nil, nil, err
	}
	if err := redeploy(runner, core.ManagedSpec{}); err != nil {
		return nil, nil, err
	}
	var view *RunnerView
	failpoint.Hit(fpRunnerInsert)
	warned, err := s.editWarned(ctx, p.OrgID, func(tx store.Tx) error {
		if _, err := s.checkBindings(ctx, tx, runner, nil); err != nil {
			return err
		}
		o, err := runnerObject(runner)
		if err != nil {
			return err
		}
		if err := tx.Insert(ctx, o); err != nil {
			return runnerExists(ctx, tx, runner, err)
		}
		view, err = s.viewOf(ctx, tx, o)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return view, append(s.deploymentWarnings(runner, core.ManagedSpec{}), warned...), nil
}

// runnerExists says which of the two unique values is taken.
func runnerExists(ctx context.Context, r store.Reader, runner *core.Runner, err error) error {
	if !fault.Is(err, fault.Exists) {
		return err
	}
	if _, lookup := r.ObjectByName(ctx, store.KindRunner, runner.OrgID, runner.RunnerID); lookup == nil {
		return fault.New(fault.Exists, fault.ReasonRunnerExists, "a runner named %q exists", runner.RunnerID).
			WithField("runner_id", "is taken in this organization")
	}
	path, cluster := "identity.cluster_id", runner.ClusterID
	if cluster == "" {
		path, cluster = "identity.cluster_name", runner.ClusterName
	}
	return fault.New(fault.Exists, fault.ReasonRunnerExists, "cluster %q has a runner; a cluster has at most one", cluster).
		WithField(path, "is the cluster of another runner")
}

// GetRunner returns a runner by UUID or runner_id.
func (s *Service) GetRunner(ctx context.Context, p core.Principal, ref string) (*RunnerView, error) {
	if err := s.allow(ctx, p, "GetRunner"); err != nil {
		return nil, err
	}
	var view *RunnerView
	err := s.store.View(ctx, func(r store.Reader) error {
		o, err := readRunnerObject(ctx, r, p.OrgID, ref)
		if err != nil {
			return err
		}
		view, err = s.viewOf(ctx, r, o)
		return err
	})
	return view, err
}

// ListRunners lists the runners that a filter selects, by runner_id. A filter by a profile that does not exist is NotFound.
func (s *Service) ListRunners(ctx context.Context, p core.Principal, f RunnerSelection, page Page) ([]*RunnerView, string, error) {
	if err := s.allow(ctx, p, "ListRunners"); err != nil {
		return nil, "", err
	}
	c := scope{orgID: p.OrgID, kind: string(store.KindRunner), filter: filterText(f.Labels, f.Zone, f.Profile, string(f.Install), string(f.Connection))}
	sp, err := c.page(page, DefaultPage)
	if err != nil {
		return nil, "", err
	}
	var (
		views []*RunnerView
		next  string
	)
	err = s.store.View(ctx, func(r store.Reader) error {
		keep, err := s.runnerSelection(ctx, r, p.OrgID, f)
		if err != nil {
			return err
		}
		runners, after, err := listObjects(ctx, r, store.KindRunner, p.OrgID, sp, runnerFrom, keep)
		if err != nil {
			return err
		}
		next, views = after, make([]*RunnerView, len(runners))
		for i, runner := range runners {
			if views[i], err = s.view(ctx, r, runner); err != nil {
				return err
			}
		}
		return nil
	})
	return views, c.token(next), err
}

// UpdateRunner writes a new revision. profile_bindings is replaced as a whole list, in the same transaction. Identity is
// immutable. A patch that changes nothing writes nothing. The second result holds warnings.
func (s *Service) UpdateRunner(ctx context.Context, p core.Principal, ref string, patch RunnerPatch) (*RunnerView, []string, error) {
	if err := s.allow(ctx, p, "UpdateRunner", audit.Target{Kind: string(store.KindRunner), Ref: ref, Reason: patch.Runner.Reason}); err != nil {
		return nil, nil, err
	}
	return s.updateRunner(ctx, p, ref, func(store.Tx, *core.Runner) (RunnerPatch, error) { return patch, nil })
}

// updateRunner makes a patch from the runner that is there and writes what it comes to, in one transaction.
func (s *Service) updateRunner(
	ctx context.Context, p core.Principal, ref string, edit func(tx store.Tx, current *core.Runner) (RunnerPatch, error),
) (*RunnerView, []string, error) {
	var (
		view     *RunnerView
		warnings []string
	)
	failpoint.Hit(fpRunnerUpdate)
	warned, err := s.editWarned(ctx, p.OrgID, func(tx store.Tx) error {
		o, err := readRunnerObject(ctx, tx, p.OrgID, ref)
		if err != nil {
			return err
		}
		current, err := runnerFrom(o)
		if err != nil {
			return err
		}
		patch, err := edit(tx, current)
		if err != nil {
			return err
		}
		next, lost, err := s.reviseRunner(ctx, tx, p, o, current, patch)
		if err != nil {
			return err
		}
		warnings = append(s.deploymentWarnings(next, current.Managed), lost...)
		view, err = s.view(ctx, tx, next)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return view, append(warnings, warned...), nil
}

// reviseRunner writes what a patch makes of current, read from o, and returns the runner that is then there.
func (s *Service) reviseRunner(
	ctx context.Context, tx store.Tx, p core.Principal, o *store.Object, current *core.Runner, patch RunnerPatch,
) (*core.Runner, []string, error) {
	if err := checkEtag(patch.Etag, "runner "+current.RunnerID, current.Meta); err != nil {
		return nil, nil, err
	}
	if current.DeletingSince != nil {
		return nil, nil, fault.Preconditionf(fault.ReasonRunnerHasSandboxes, "runner %s is being deleted", current.RunnerID)
	}
	next, err := patchRunner(current, patch)
	if err != nil {
		return nil, nil, err
	}
	lost, err := s.checkBindings(ctx, tx, next, current)
	if err != nil {
		return nil, nil, err
	}
	written, err := runnerObject(next)
	if err != nil {
		return nil, nil, err
	}
	if string(written.Body) == string(o.Body) {
		return current, nil, nil
	}
	s.revise(&next.Meta, p, patch.Runner.Reason)
	written.UpdatedAt, written.UpdatedBy, written.Reason = next.UpdatedAt, next.UpdatedBy, next.Reason
	err = tx.Update(ctx, written)
	next.Meta = metaOf(written)
	return next, lost, err
}

// readRunner reads a runner by UUID or runner_id.
func readRunner(ctx context.Context, r store.Reader, orgID, ref string) (*core.Runner, error) {
	o, err := readRunnerObject(ctx, r, orgID, ref)
	if err != nil {
		return nil, err
	}
	return runnerFrom(o)
}

func readRunnerObject(ctx context.Context, r store.Reader, orgID, ref string) (*store.Object, error) {
	o, err := readObject(ctx, r, store.KindRunner, orgID, ref)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.NotFoundf(fault.ReasonRunnerNotFound, "runner %.80q does not exist", ref)
	}
	return o, err
}
