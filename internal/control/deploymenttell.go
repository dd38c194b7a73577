package control

import (
	"context"
	"sync"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const (
	// deploymentBeat is how often the maintenance windows are looked at. A window is at least a minute.
	deploymentBeat = 10 * time.Second
	// deploymentRetry is when a runner that could not be, or would not be, rolled out is told again: twice as long each time, up to
	// deploymentRetryMax.
	deploymentRetry, deploymentRetryMax = 5 * time.Minute, time.Hour
	// tellTimeout is how long a runner may take to take note.
	tellTimeout = 10 * time.Second
	// byPolicy is who applies an update in a maintenance window.
	byPolicy = "maintenance policy"
)

// deploymentTeller remembers which deployment runners were told.
type deploymentTeller struct {
	poked chan struct{}
	mu    sync.Mutex
	told  map[string]toldDeployment
}

// toldDeployment is what a runner was told last. Its processes share the wait: one that ends each time it tries is told no more often.
type toldDeployment struct {
	identity string
	at       time.Time
	wait     time.Duration
}

func newDeploymentTeller() *deploymentTeller {
	return &deploymentTeller{poked: make(chan struct{}, 1), told: map[string]toldDeployment{}}
}

// poke has runners looked at soon.
func (t *deploymentTeller) poke() {
	select {
	case t.poked <- struct{}{}:
	default:
	}
}

// begin notes that a runner is told a deployment, unless it is too soon for the same again.
func (t *deploymentTeller) begin(runnerUUID, identity string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, next := t.told[runnerUUID], toldDeployment{identity, now, deploymentRetry}
	if was.identity == identity {
		if now.Sub(was.at) < was.wait {
			return false
		}
		next.wait = min(2*was.wait, deploymentRetryMax)
	}
	t.told[runnerUUID] = next
	return true
}

// keep forgets runners that are not in contact for longer than they would have to wait.
func (t *deploymentTeller) keep(up []contact, now time.Time) {
	there := make(map[string]bool, len(up))
	for _, k := range up {
		there[k.runnerUUID] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, told := range t.told {
		if !there[id] && now.Sub(told.at) > deploymentRetryMax {
			delete(t.told, id)
		}
	}
}

// tendDeployments applies updates in their windows and tells runners what is wanted of them, until ctx ends. Of several servers each does:
// a revision is written once, and told twice is once.
func (s *Service) tendDeployments(ctx context.Context) {
	tick := time.NewTicker(deploymentBeat)
	defer tick.Stop()
	for {
		s.lookAtDeployments(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.deployments.poked:
		}
	}
}

// lookAtDeployments looks once at every runner that changes its own deployment and is in contact.
func (s *Service) lookAtDeployments(ctx context.Context) {
	up := s.contacts.up(func(k *contact) bool { return k.link.Deployment().SelfUpdate })
	s.deployments.keep(up, s.now())
	for _, k := range up {
		if err := s.tendDeployment(ctx, k); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "the deployment of a runner could not be looked after", "runner", k.runnerID, "error", err)
		}
	}
}

func (s *Service) tendDeployment(ctx context.Context, k contact) error {
	r, err := s.updatedRunner(ctx, k)
	if err != nil || r.DeletingSince != nil {
		return err
	}
	w, err := wantedOf(r)
	if err != nil {
		return err
	}
	d, err := s.deploymentOf(r)
	if err != nil || d.waits {
		return err
	}
	if st := k.link.Deployment(); st.Runs(w) || st.Trying == w.Revision {
		return nil
	}
	if !s.deployments.begin(k.runnerUUID, w.Identity, s.now()) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	return k.link.SetDeployment(ctx, w)
}

// updatedRunner reads a runner, once what its policy allows now is written.
func (s *Service) updatedRunner(ctx context.Context, k contact) (r *core.Runner, err error) {
	read := func() error {
		return s.store.View(ctx, func(tx store.Reader) error {
			r, err = readRunner(ctx, tx, k.orgID, k.runnerUUID)
			return err
		})
	}
	if err := read(); err != nil {
		return nil, err
	}
	d, err := s.deploymentOf(r)
	if err != nil {
		return nil, err
	}
	policy, err := policyOf(r)
	if err != nil {
		return nil, err
	}
	// A rollout that is under way, or does not come to its end, is not followed by another on its own; one that failed is by another release.
	if !d.Available || d.InProgress() && (!d.State.Failed(d.Target) || takes(r, d.Offered)) || !policy.Allowed(s.now()) || s.mayUpdate(r, &d) != nil {
		return r, nil
	}
	p := core.Principal{OrgID: k.orgID, Actor: byPolicy, Role: core.RoleAdmin}
	_, err = s.takeRelease(ctx, p, k.runnerUUID, true, func(d *Deployment) string { return "update to " + d.Offered.String() + " applied by its " + byPolicy })
	if err != nil && !fault.Is(err, fault.Conflict) { // Another server has.
		return nil, err
	}
	return r, read()
}
