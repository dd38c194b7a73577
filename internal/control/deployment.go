package control

import (
	"fmt"
	"strings"
	"time"

	"github.com/bermhq/berm/deploy"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

// Deployment is what is wanted of a runner's process, and how far that is.
type Deployment struct {
	// Target is the revision that is wanted, Active the one that runs: 0 unless a process came. Revision 1 is the deployment as it was
	// installed: a process that was told of no revision runs that one.
	Target, Active int32
	// State is what the process says of itself, or said when it was there.
	State rollout.State
	// Spec is what is wanted, as resolved; nil until a process came, which says what was installed.
	Spec *rollout.Spec
	// Offered is what the release channel has, Available whether that is something else than what runs.
	Offered   rollout.Release
	Available bool
	// Next is when the next window for an update opens; zero where one may be applied now, or never as far as can be seen.
	Next time.Time
	// Pending says why what is wanted does not run, with what to do; "" when it does, or is on its way.
	Pending string
	Hints   []string
	// runs says that the target runs, waits that its image is not rolled out until Next.
	runs, waits bool
}

// InProgress reports whether something else runs than what is wanted.
func (d *Deployment) InProgress() bool { return d.Active > 0 && !d.runs }

// wantedOf returns the deployment that is wanted of a runner.
func wantedOf(r *core.Runner) (rollout.Wanted, error) {
	o, err := rollout.ParseOverrides(r.Managed.OverridesJSON)
	if err != nil {
		return rollout.Wanted{}, fault.Internalf(err, "the deployment overrides of runner %s cannot be read", r.RunnerID)
	}
	w := rollout.Wanted{Revision: r.Deployment.Target(), Image: r.Deployment.Image, Overrides: o}
	return w.Identify(r.ID), nil
}

func policyOf(r *core.Runner) (rollout.Policy, error) {
	p, err := rollout.ParsePolicy(r.Managed.MaintenancePolicyJSON)
	if err != nil {
		return p, fault.Internalf(err, "the maintenance policy of runner %s cannot be read", r.RunnerID)
	}
	return p, nil
}

// deploymentOf returns what is known of a runner's deployment.
func (s *Service) deploymentOf(r *core.Runner) (Deployment, error) {
	d := Deployment{Target: r.Deployment.Target(), Offered: s.releases[channelNames[r.Managed.ReleaseChannel]]}
	policy, err := policyOf(r)
	if err != nil {
		return d, err
	}
	w, err := wantedOf(r)
	if err != nil {
		return d, err
	}
	now := s.now()
	if next := policy.Next(now); next.After(now) { // "now" would be another time whenever somebody looks
		d.Next = next
	}
	k, known := s.contacts.get(r.ID)
	if !known || k.link == nil {
		return d, nil
	}
	d.State = k.link.Deployment()
	d.Active, d.runs = max(d.State.Revision, 1), d.State.Runs(w)
	d.waits = d.InProgress() && d.State.Trying != d.Target && r.Deployment.ByPolicy && d.State.Image != r.Deployment.Image && !policy.Allowed(s.now())
	spec := rollout.Resolve(d.State.Installed, w)
	d.Spec = &spec
	d.Available = d.State.Differs(d.Offered) && !d.underWay(r) && !d.took(r)
	d.pending(r, w, k.inContact())
	return d, nil
}

// underWay reports whether what is offered is being rolled out. A runner that does not change its own deployment any more rolls out nothing,
// nor does one that could not do it, until it tries again; one that waits for its window does not yet.
func (d *Deployment) underWay(r *core.Runner) bool {
	return takes(r, d.Offered) && d.InProgress() && d.State.SelfUpdate && !d.waits && !d.State.Failed(d.Target)
}

// took reports whether what is offered is what runs, by its identity, whatever the process says of its image: once more is nothing else.
func (d *Deployment) took(r *core.Runner) bool {
	return takes(r, d.Offered) && d.runs && d.State.Identity != ""
}

// takes reports whether a release is what is wanted of a runner already.
func takes(r *core.Runner, offered rollout.Release) bool {
	return r.Deployment.Version == offered.Version && r.Deployment.Image == offered.Image
}

// pending says why the target does not run.
func (d *Deployment) pending(r *core.Runner, w rollout.Wanted, there bool) {
	if !d.InProgress() {
		return
	}
	p := d.State.Problem
	switch {
	case !d.State.SelfUpdate:
		d.Pending, d.Hints = "this runner does not change its own deployment"+notApplied(w), d.byHand(r, w)
	case p != nil && p.Revision == d.Target:
		d.Pending, d.Hints = fmt.Sprintf("revision %d could not be rolled out: %s", p.Revision, p.Message), p.Hints
		if d.waits {
			d.Pending += "; it is not tried again until its maintenance policy lets it" + d.from()
		}
	case d.waits:
		d.Pending = fmt.Sprintf("revision %d has an update, which waits until its maintenance policy lets it%s", d.Target, d.from())
		d.Hints = []string{"Roll it out now: berm runner upgrade " + r.RunnerID}
	case there && d.State.Identity == "" && d.Active > d.Target && d.State.Name != "":
		d.Pending = fmt.Sprintf("the runner says that it runs revision %d, which is not known here, and was told %d", d.Active, d.Target)
		d.Hints = []string{"A runner of a release before this only goes forward. If it stays so, run, in a clone of Berm's repository: " + d.upgrade(w)}
	case !there:
		d.Pending = "the runner is out of contact since before it said that it runs the target"
		if d.State.Name == "" {
			return
		}
		d.Hints = []string{
			fmt.Sprintf("Look at it: kubectl describe pod --namespace %s %s-0", d.State.Namespace, d.State.Name),
			fmt.Sprintf("Go back: kubectl rollout undo --namespace %[1]s statefulset/%[2]s; then kubectl delete pod --namespace %[1]s %[2]s-0", d.State.Namespace, d.State.Name),
			fmt.Sprintf("Change what is wanted first where it can be: the runner does not try revision %d again, and as long as that is wanted the rollout has no end", d.Target),
		}
	}
}

// from says when an update may be applied next, as far as that can be seen.
func (d *Deployment) from() string {
	if d.Next.IsZero() {
		return ""
	}
	return ", from " + d.Next.UTC().Format(time.RFC3339)
}

func notApplied(w rollout.Wanted) string {
	fields := w.Overrides.Deployed()
	if len(fields) == 0 {
		return ""
	}
	return ": " + strings.Join(fields, ", ") + " of its overrides are not applied"
}

// byHand says how the owner of a runner that does not change its own deployment makes it what is wanted.
func (d *Deployment) byHand(r *core.Runner, w rollout.Wanted) []string {
	switch d.State.Kind {
	case rollout.KindServer:
		return []string{"It is part of the server, and is started and updated together with it."}
	case rollout.KindStatefulSet:
		if d.State.Name == "" {
			break // It did not say a name that one has.
		}
		return []string{
			"Run, in a clone of Berm's repository: " + d.upgrade(w),
			"Or let the runner do it: the same with --set selfUpdate.enabled=true",
		}
	}
	return []string{"Start it again as what this prints says: berm runner join " + r.RunnerID + "; a runner that is enrolled needs no token"}
}

// upgrade is the command that makes a release what is wanted. A release keeps a revision that is higher, of another document, unless told.
func (d *Deployment) upgrade(w rollout.Wanted) string {
	line := deploy.Upgrade(d.State.Namespace, d.State.Name, w)
	if w.Revision <= 1 && d.Active > 1 {
		line += " --set revision=1"
	}
	return line
}

// deploymentWarnings says what of the overrides that an edit brings is not applied.
func (s *Service) deploymentWarnings(next *core.Runner, was core.ManagedSpec) []string {
	if next.Managed.OverridesJSON == was.OverridesJSON {
		return nil
	}
	w, err := wantedOf(next)
	if err != nil {
		return nil // It was read a moment ago.
	}
	var out []string
	if why := w.Overrides.Ignored(); why != "" {
		out = append(out, why)
	}
	k, known := s.contacts.get(next.ID)
	fields := w.Overrides.Deployed()
	if !known || k.link == nil || len(fields) == 0 {
		return out
	}
	d := Deployment{State: k.link.Deployment(), Target: w.Revision}
	if d.State.SelfUpdate {
		return out
	}
	for _, f := range fields {
		why := "is not applied: this runner does not change its own deployment"
		if onMachine := f == "env" || f == "args"; !onMachine && d.State.Kind != rollout.KindStatefulSet {
			why = "has no effect: it is for a runner on Kubernetes, and this one is a process on a machine"
		}
		out = append(out, "managed_spec.overrides."+f+" "+why)
	}
	return append(out, d.byHand(next, w)...)
}

// redeploy checks what a runner says of its deployment, where it is something else than before, and counts what is wanted.
func redeploy(r *core.Runner, was core.ManagedSpec) error {
	e := fault.Invalidf(fault.ReasonFieldInvalid, "invalid runner")
	if r.Managed.MaintenancePolicyJSON != was.MaintenancePolicyJSON {
		p, err := rollout.ParsePolicy(r.Managed.MaintenancePolicyJSON)
		if err != nil {
			return fault.Invalidf(fault.ReasonFieldInvalid, "invalid runner").WithField("managed_spec.maintenance_policy", "cannot be read: %v", err)
		}
		p.Check(e, "managed_spec.maintenance_policy")
	}
	if r.Managed.OverridesJSON == was.OverridesJSON {
		return orNil(e)
	}
	o, err := rollout.ParseOverrides(r.Managed.OverridesJSON)
	if err != nil {
		return fault.Invalidf(fault.ReasonFieldInvalid, "invalid runner").WithField("managed_spec.overrides", "cannot be read: %v", err)
	}
	o.Check(e, "managed_spec.overrides")
	before, err := rollout.ParseOverrides(was.OverridesJSON)
	if err != nil {
		return fault.Internalf(err, "the deployment overrides of runner %s cannot be read", r.RunnerID)
	}
	if !rollout.SameDeployment(before, o) {
		r.Deployment.Revision = r.Deployment.Target() + 1
	}
	return orNil(e)
}
