package control

import (
	"context"
	"strings"

	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/store"
)

// ApplyRunnerUpdate makes what the release channel offers the wanted deployment now, rather than in a maintenance window. Nothing that is
// newer, or a runner that cannot do it: Precondition. During an exclusion nothing is updated: UPDATE_EXCLUDED.
func (s *Service) ApplyRunnerUpdate(ctx context.Context, p core.Principal, ref string) (*RunnerView, error) {
	if err := s.allow(ctx, p, "ApplyRunnerUpdate", audit.Target{Kind: string(store.KindRunner), Ref: ref}); err != nil {
		return nil, err
	}
	return s.takeRelease(ctx, p, ref, false, func(d *Deployment) string { return "update to " + d.Offered.String() + " asked for" })
}

// takeRelease writes that a runner is to run what its channel offers, as a revision, so that its history says when and by whom.
func (s *Service) takeRelease(ctx context.Context, p core.Principal, ref string, byPolicy bool, reason func(*Deployment) string) (view *RunnerView, err error) {
	err = s.edit(ctx, p.OrgID, func(tx store.Tx) error {
		r, err := readRunner(ctx, tx, p.OrgID, ref)
		if err != nil {
			return err
		}
		d, err := s.deploymentOf(r)
		if err != nil {
			return err
		}
		if d.underWay(r) {
			view, err = s.view(ctx, tx, r)
			return err // It is on its way.
		}
		if err := s.mayUpdate(r, &d); err != nil {
			return err
		}
		r.Deployment = core.Deployment{Revision: d.Target + 1, Version: d.Offered.Version, Image: d.Offered.Image, ByPolicy: byPolicy}
		s.revise(&r.Meta, p, reason(&d))
		o, err := runnerObject(r)
		if err != nil {
			return err
		}
		if err := tx.Update(ctx, o); err != nil {
			return err
		}
		r.Meta = metaOf(o)
		view, err = s.view(ctx, tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.deployments.poke()
	return view, nil
}

// mayUpdate says why a runner cannot be updated to what is offered.
func (s *Service) mayUpdate(r *core.Runner, d *Deployment) error {
	k, _ := s.contacts.get(r.ID)
	switch st := &d.State; {
	case r.DeletingSince != nil:
		return fault.Preconditionf(fault.ReasonRunnerHasSandboxes, "runner %s is being deleted", r.RunnerID)
	case d.Active == 0:
		return fault.Preconditionf(fault.ReasonUpdateNotAvailable, "no process of runner %s has connected yet: there is nothing to update", r.RunnerID).
			WithHint("berm runner join %s makes what starts one.", r.RunnerID)
	case !d.Available:
		return fault.Preconditionf(fault.ReasonUpdateNotAvailable, "no update is available for runner %s: it runs what its release channel offers, %s", r.RunnerID, d.Offered).
			WithHint("What the channels offer is said with berm serve --release.")
	case !k.inContact():
		return fault.Preconditionf(fault.ReasonRunnerUnavailable, "runner %s is out of contact: it cannot be told to run %s", r.RunnerID, d.Offered)
	case !st.SelfUpdate:
		w, err := wantedOf(r)
		if err != nil {
			return err
		}
		w.Image = d.Offered.Image
		return fault.Preconditionf(fault.ReasonUpdateByHand, "runner %s does not change its own deployment; its release channel offers %s", r.RunnerID, d.Offered).
			WithHint("%s", strings.Join(d.updateByHand(r, w), " "))
	case d.Offered.Image == "":
		return fault.Preconditionf(fault.ReasonUpdateByHand, "the server is not told which image %s is", d.Offered.Version).
			WithHint("Start it with --release CHANNEL=VERSION,IMAGE.")
	case !rollout.Takes(st.Images, d.Offered.Image):
		return fault.Preconditionf(fault.ReasonUpdateRefused, "runner %s takes no image %s: its owner allows %s", r.RunnerID, d.Offered.Image, strings.Join(st.Images, ", ")).
			WithHint("The owner says where its images come from: selfUpdate.images of its chart.")
	}
	policy, err := policyOf(r)
	if err != nil {
		return err
	}
	if x := policy.Excluded(s.now()); x != nil {
		return fault.Preconditionf(fault.ReasonUpdateExcluded, "runner %s is not updated until %s: %s", r.RunnerID, x.EndTime.UTC().Format("2006-01-02T15:04:05Z"), excuse(x.Reason)).
			WithHint("Take the exclusion out of its maintenance policy to update it all the same.")
	}
	return nil
}

// excuse is the reason of an exclusion, which may be empty.
func excuse(reason string) string {
	if reason == "" {
		return "an exclusion of its maintenance policy"
	}
	return reason
}

// updateByHand is byHand for a release.
func (d *Deployment) updateByHand(r *core.Runner, w rollout.Wanted) []string {
	switch {
	case d.State.Kind == rollout.KindProcess, d.State.Kind == "":
		return []string{"Put berm " + d.Offered.Version + " on its machine and start it again: sandboxes go on."}
	case d.State.Kind == rollout.KindStatefulSet && w.Image == "":
		return []string{"The server is not told which image that is: start it with --release CHANNEL=VERSION,IMAGE."}
	}
	return d.byHand(r, w)
}
