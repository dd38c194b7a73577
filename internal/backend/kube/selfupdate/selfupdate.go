// Package selfupdate is a runner on Kubernetes that changes its own deployment: the StatefulSet that its pod is of. A gateway says what is
// wanted, and is not believed: package rollout says what can be overridden, the owner of the cluster from where images come. What may not
// work is tried in a pod of its own first, because the pod that runs is gone before its successor is there.
package selfupdate

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

const (
	// rehearseTimeout is how long the pod that tries a deployment may take: a node may have to be made for it, and an image be pulled.
	rehearseTimeout = 5 * time.Minute
	// replaceTimeout is how long this pod may live on once its StatefulSet says something else.
	replaceTimeout = 5 * time.Minute
	// lookEvery is how often that pod is looked at.
	lookEvery = time.Second
	// callTimeout bounds one call of the API server.
	callTimeout = 30 * time.Second
)

// Reasons of problems.
const (
	ReasonImagePullFailed = fault.ReasonImagePullFailed
	ReasonUnschedulable   = "UNSCHEDULABLE"
	ReasonRehearsalFailed = "REHEARSAL_FAILED"
	ReasonForbidden       = fault.ReasonClusterForbidden
	ReasonNotReplaced     = "POD_NOT_REPLACED"
	ReasonFailed          = "ROLLOUT_FAILED"
)

// Config says which StatefulSet this process is of, and what its owner lets a gateway do with it.
type Config struct {
	// Client is any client of the cluster's API server.
	Client rest.Interface
	// State is what is known from the start: who the process is, what was installed, and which images are taken.
	State  rollout.State
	Logger *slog.Logger
	// Now is the clock; LookEvery, RehearseTimeout and ReplaceTimeout are the defaults where they are 0.
	Now                                        func() time.Time
	LookEvery, RehearseTimeout, ReplaceTimeout time.Duration
}

// Updater implements runner.Deployment.
type Updater struct {
	cfg  Config
	poke chan struct{}

	mu    sync.Mutex
	state rollout.State
	// wanted is the last one that was asked for, and not begun.
	wanted *rollout.Wanted
	// trying is the identity of what state.Trying is the revision of.
	trying string
}

// New returns an updater. Nothing happens before Run.
func New(cfg Config) *Updater {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.LookEvery <= 0 {
		cfg.LookEvery = lookEvery
	}
	if cfg.RehearseTimeout <= 0 {
		cfg.RehearseTimeout = rehearseTimeout
	}
	if cfg.ReplaceTimeout <= 0 {
		cfg.ReplaceTimeout = replaceTimeout
	}
	cfg.State.SelfUpdate = true
	return &Updater{cfg: cfg, poke: make(chan struct{}, 1), state: cfg.State}
}

// State implements runner.Deployment.
func (u *Updater) State() rollout.State {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

// Want implements runner.Deployment: what is refused is refused here, by the rules of this program.
func (u *Updater) Want(_ context.Context, w rollout.Wanted) error {
	e := fault.Preconditionf(fault.ReasonUpdateRefused, "the runner does not let its deployment be changed like that")
	w.Overrides.Check(e, "managed_spec.overrides")
	if len(e.Fields) > 0 {
		return e
	}
	if w.Image != "" && !rollout.Takes(u.cfg.State.Images, w.Image) {
		return fault.Preconditionf(fault.ReasonUpdateRefused, "the runner takes no image %.200s: its owner allows %s", w.Image, strings.Join(u.cfg.State.Images, ", "))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known(w) {
		return nil
	}
	u.wanted = &w
	select {
	case u.poke <- struct{}{}:
	default:
	}
	return nil
}

// known reports whether a deployment runs, or is on its way: several servers say the same. What is another one is not told by its number,
// which another runner of the same name, or another database, counts anew. A gateway of a release before says no more than the number.
func (u *Updater) known(w rollout.Wanted) bool {
	if w.Identity == "" {
		return w.Revision <= max(u.state.Revision, 1) || w.Revision <= u.state.Trying || u.wanted != nil && w.Revision <= u.wanted.Revision
	}
	if u.wanted != nil {
		return u.wanted.Identity == w.Identity
	}
	if u.state.Trying > 0 {
		return u.trying == w.Identity
	}
	return u.state.Runs(w)
}

// Run does what is wanted, one after the other, until ctx ends: as a rule because this pod is replaced.
func (u *Updater) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.poke:
		}
		if w := u.begin(); w != nil {
			u.end(w.Revision, u.roll(ctx, *w))
		}
	}
}

func (u *Updater) begin() *rollout.Wanted {
	u.mu.Lock()
	defer u.mu.Unlock()
	w := u.wanted
	if w != nil {
		u.wanted, u.state.Trying, u.trying = nil, w.Revision, w.Identity
	}
	return w
}

func (u *Updater) end(revision int32, p *rollout.Problem) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.Trying = 0
	if p == nil {
		return
	}
	p.Revision, p.At = revision, u.cfg.Now()
	u.state.Problem = p
	u.cfg.Logger.Error("the deployment could not be changed; this one goes on", "revision", revision, "reason", p.Reason, "problem", p.Message, "detail", p.Detail)
}

// roll tries a deployment and then makes it the StatefulSet's. When that has worked, this process is ended before it returns.
func (u *Updater) roll(ctx context.Context, w rollout.Wanted) *rollout.Problem {
	u.cfg.Logger.InfoContext(ctx, "the deployment is to be changed", "revision", w.Revision, "image", w.Image)
	set, err := u.get(ctx)
	if err != nil {
		return u.problem(err, "the StatefulSet cannot be read")
	}
	if set.container() == nil {
		return &rollout.Problem{Reason: ReasonFailed, Message: "the StatefulSet " + u.cfg.State.Name + " has no container " + containerName, Hints: []string{"Install the runner from its chart."}}
	}
	if set.undone(w.Identity) {
		return &rollout.Problem{
			Reason: rollout.ReasonUndone, Message: "it was made the deployment once and was taken back; it is not tried again by itself",
			Hints: []string{"Change what is wanted: berm runner edit.", "Or try a release once more: berm runner upgrade."},
		}
	}
	installed := u.cfg.State.Installed
	installed.Env, installed.Args, installed.Annotations, installed.Labels = nil, nil, nil, nil // They are the chart's, entry by entry.
	want := change{spec: rollout.Resolve(installed, w), revision: w.Revision, identity: w.Identity}
	if p := u.rehearse(ctx, set, want); p != nil {
		return p
	}
	if err := u.apply(ctx, want); err != nil {
		return u.problem(err, "the StatefulSet cannot be changed")
	}
	u.cfg.Logger.InfoContext(ctx, "the deployment was changed; this pod is about to be replaced", "revision", w.Revision)
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(u.cfg.ReplaceTimeout):
	}
	return &rollout.Problem{
		Reason: ReasonNotReplaced, Message: "the StatefulSet was changed, and the pod of before is still there after " + u.cfg.ReplaceTimeout.String(),
		Hints: []string{"Its updateStrategy must be RollingUpdate; else delete the pod: kubectl delete pod --namespace " + u.cfg.State.Namespace + " " + u.cfg.State.Name + "-0"},
	}
}
