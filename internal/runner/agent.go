package runner

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"strconv"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/guard"
	"github.com/bermhq/berm/internal/core/launch"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/tracing"
)

// Agent is a Link over a backend in the same process: the embedded runner. It trusts a gateway with what to run and when, not
// with what that means: it folds the layers again and holds the result to the guardrails of the cluster's owner.
type Agent struct {
	backend.Execs
	backend backend.Backend
	owner   *resolve.Input

	deployment Deployment
}

var _ Link = (*Agent)(nil)

// NewAgent returns an agent. owner is the guardrails of the cluster's owner, nil for none; of its layer only guardrails count.
func NewAgent(b backend.Backend, owner *resolve.Input) *Agent {
	return &Agent{Execs: b, backend: b, owner: owner, deployment: Deployed(rollout.State{Kind: rollout.KindServer})}
}

// DeployedAs says how the process is deployed; without it, it is part of a server. Call it before the agent is used.
func (a *Agent) DeployedAs(d Deployment) *Agent {
	a.deployment = d
	return a
}

// Info returns what the backend can do.
func (a *Agent) Info() backend.Info { return a.backend.Info() }

// InfoChanged tells when the backend can do something else.
func (a *Agent) InfoChanged() <-chan struct{} { return a.backend.InfoChanged() }

// Guardrails returns those of the cluster's owner.
func (a *Agent) Guardrails() *resolve.Input { return a.owner }

// Check reports what the backend would refuse.
func (a *Agent) Check(w *backend.Work) error { return a.backend.Check(w) }

// Apply verifies an assignment and creates its sandbox. What is run is what the layers say here, not the spec that came along.
func (a *Agent) Apply(ctx context.Context, as *Assignment) (err error) {
	ctx, span := tracing.Start(ctx, "runner.apply")
	defer func() { span.End(err) }()
	span.Set("berm.sandbox", as.Work.SandboxID)
	resolved, lifetime, err := a.verify(as)
	if err != nil {
		return err
	}
	if err := verifySecrets(as); err != nil {
		return err
	}
	w := as.Work
	w.Spec, w.LifetimeSeconds = resolved.Message(), lifetime
	if err := a.backend.Check(&w); err != nil {
		return err
	}
	return a.create(ctx, &w)
}

func (a *Agent) create(ctx context.Context, w *backend.Work) (err error) {
	ctx, span := tracing.Start(ctx, "backend.create")
	defer func() { span.End(err) }()
	span.Set("berm.backend", a.backend.Info().Kind)
	return a.backend.Create(ctx, w)
}

// verify folds the layers of an assignment and refuses what a gateway may not ask for. It returns what is to be run, and for how
// many seconds at most.
func (a *Agent) verify(as *Assignment) (*resolve.Resolved, int32, error) {
	request, err := launch.New(as.Work.Launch)
	if err != nil {
		return nil, 0, err
	}
	n := len(as.Layers) - 1
	if n < 0 || as.Layers[n].Origin.Layer != resolve.LayerRequest {
		return nil, 0, mismatch(as, "the last layer is not that of the request")
	}
	if as.Layers[n].Layer.String() != request.Layer.String() {
		return nil, 0, mismatch(as, "the layer of the request is not what the request says")
	}
	for i := 1; i < n; i++ {
		if as.Layers[i].Origin.Layer < as.Layers[i-1].Origin.Layer || as.Layers[i].Origin.Layer == resolve.LayerRequest {
			return nil, 0, mismatch(as, "the layers are not in their order")
		}
	}
	folded := resolve.Fold(as.Layers[:n])
	resolved := folded.Overlay(as.Layers[n])
	if digest := resolved.Digest(); digest != as.Work.Digest {
		return nil, 0, mismatch(as, "the layers give "+digest+" here and "+as.Work.Digest+" at the gateway")
	}
	var owner []resolve.Input
	if a.owner != nil {
		owner = append(owner, *a.owner)
	}
	limits := guard.Compile(folded, owner...)
	lifetime, _ := limits.Lifetime(as.Work.Launch.GetMaxLifetimeSeconds())
	return resolved, lifetime, a.withinOwners(as, request, limits)
}

// withinOwners holds a launch to the guardrails of the cluster's owner, together with those of all layers.
func (a *Agent) withinOwners(as *Assignment, request *launch.Request, limits *guard.Limits) error {
	if a.owner == nil {
		return nil
	}
	n := len(as.Layers) - 1
	violations := guard.Check(limits, &guard.Subject{
		Request: request, Origin: &as.Layers[n].Origin, RuntimeClass: a.backend.Info().DefaultRuntimeClass,
	})
	if len(violations) == 0 {
		return nil
	}
	e := fault.Preconditionf(fault.ReasonGuardrailViolated, "runner %s refuses the sandbox: it is outside the guardrails that hold on it", as.Work.RunnerID)
	for _, v := range violations {
		e.WithField(v.Path, "%s", v.Message)
	}
	return e
}

// verifySecrets holds what a gateway gives against what the launch asks for: neither more nor less.
func verifySecrets(as *Assignment) error {
	asked := map[string]bool{}
	for _, use := range as.Work.Launch.GetSecretStores() {
		for _, s := range use.GetSecrets() {
			asked[s.GetEnvVar()] = true
		}
	}
	n := len(asked)
	for _, s := range as.Work.Secrets {
		if !asked[s.EnvVar] {
			return mismatch(as, "it has a secret that the launch does not ask for")
		}
		delete(asked, s.EnvVar)
	}
	if len(asked) > 0 {
		return mismatch(as, strconv.Itoa(len(asked))+" of its "+strconv.Itoa(n)+" secrets are missing")
	}
	return nil
}

func mismatch(as *Assignment, why string) error {
	return fault.Preconditionf(fault.ReasonDigestMismatch, "runner %s refuses sandbox %s: %s", as.Work.RunnerID, as.Work.SandboxID, why).
		WithHint("gateway and runner must be of versions that resolve specs alike")
}

// Stop asks the backend to stop a sandbox.
func (a *Agent) Stop(ctx context.Context, id string, grace time.Duration, why string) error {
	return a.backend.Stop(ctx, id, grace, why)
}

// Pause makes every process of a sandbox stand still.
func (a *Agent) Pause(ctx context.Context, id string) error { return a.backend.Pause(ctx, id) }

// Suspend saves a sandbox on disk and ends its processes.
func (a *Agent) Suspend(ctx context.Context, id string) error { return a.backend.Suspend(ctx, id) }

// Resume lets a paused sandbox go on.
func (a *Agent) Resume(ctx context.Context, id string) error { return a.backend.Resume(ctx, id) }

// Delete removes an ended sandbox from the backend.
func (a *Agent) Delete(ctx context.Context, id string) error { return a.backend.Delete(ctx, id) }

// Exec starts a command in a sandbox.
func (a *Agent) Exec(ctx context.Context, id string, e backend.Exec) (backend.Process, error) {
	return a.backend.Exec(ctx, id, e)
}

// ReadFile opens a file of a sandbox.
func (a *Agent) ReadFile(ctx context.Context, id, path string, limit int64) (io.ReadCloser, int64, error) {
	return a.backend.ReadFile(ctx, id, path, limit)
}

// WriteFile writes a file of a sandbox.
func (a *Agent) WriteFile(ctx context.Context, id, path string, mode uint32, r io.Reader) error {
	return a.backend.WriteFile(ctx, id, path, mode, r)
}

// ReadArchive packs what is at a path of a sandbox.
func (a *Agent) ReadArchive(ctx context.Context, id, path string, part backend.ArchivePart) (io.ReadCloser, error) {
	return a.backend.ReadArchive(ctx, id, path, part)
}

// WriteArchive unpacks an archive in a sandbox.
func (a *Agent) WriteArchive(ctx context.Context, id, path, name string, r io.Reader) error {
	return a.backend.WriteArchive(ctx, id, path, name, r)
}

// Logs reads what the main process of a sandbox printed.
func (a *Agent) Logs(ctx context.Context, id string, q backend.LogQuery) (backend.LogReader, error) {
	return a.backend.Logs(ctx, id, q)
}

// Observe follows the sandboxes of the backend.
func (a *Agent) Observe(ctx context.Context) iter.Seq[*backend.Observation] {
	return a.backend.Observe(ctx)
}

// Network returns what is known of the network of a sandbox.
func (a *Agent) Network(ctx context.Context, id string, target egress.Target) (*backend.Network, error) {
	return a.backend.Network(ctx, id, target)
}

// Drift compares what was submitted with what is held.
func (a *Agent) Drift(ctx context.Context, id string, submitted json.RawMessage) (*backend.Drift, error) {
	return a.backend.Drift(ctx, id, submitted)
}

// Usage samples what a sandbox uses.
func (a *Agent) Usage(ctx context.Context, id string) (core.Usage, error) {
	return a.backend.Usage(ctx, id)
}
