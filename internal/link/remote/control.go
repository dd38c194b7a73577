package remote

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"google.golang.org/grpc/metadata"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/resolve"
	"github.com/bermhq/berm/internal/link"
	"github.com/bermhq/berm/internal/runner"
	"github.com/bermhq/berm/internal/tracing"
)

// maxKnown is how many sandboxes a runner may have when its line is opened.
const maxKnown = 100_000

// Info returns what the runner said last: when the line was opened, or since.
func (l *Link) Info() backend.Info { return l.told.Info() }

// InfoChanged tells when it said something else.
func (l *Link) InfoChanged() <-chan struct{} { return l.told.InfoChanged() }

// Guardrails returns those of the cluster's owner.
func (l *Link) Guardrails() *resolve.Input { return l.owner }

// Pools returns what the runner said last.
func (l *Link) Pools() []backend.PoolStatus {
	if p := l.pools.Load(); p != nil {
		return *p
	}
	return nil
}

func (l *Link) fault(ctx context.Context, err error) error {
	return link.FromStatus(ctx, l.cfg.RunnerID, err)
}

// work returns a work as this runner understands it: those of machines may be older than privileges, which mean nothing there, and
// refuse what they do not know.
func (l *Link) work(w *backend.Work) *linkv1.Work {
	out := link.WorkMessage(w)
	out.Privileged = out.GetPrivileged() && l.Info().Kind == backend.KindKube
	return out
}

// Apply hands an assignment over.
func (l *Link) Apply(ctx context.Context, a *runner.Assignment) error {
	if parent := tracing.Parent(ctx); parent != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, tracing.Header, parent)
	}
	_, err := l.control.Apply(ctx, &linkv1.ApplyRequest{Work: l.work(&a.Work), Layers: link.LayerMessages(a.Layers)})
	return l.fault(ctx, err)
}

// Stop ends a sandbox.
func (l *Link) Stop(ctx context.Context, id string, grace time.Duration, why string) error {
	_, err := l.control.Stop(ctx, &linkv1.StopRequest{SandboxId: id, GraceMillis: grace.Milliseconds(), Why: why})
	return l.fault(ctx, err)
}

// Pause makes a sandbox stand still.
func (l *Link) Pause(ctx context.Context, id string) error {
	_, err := l.control.Pause(ctx, &linkv1.PauseRequest{SandboxId: id})
	return l.fault(ctx, err)
}

// Suspend saves a sandbox on the runner's disk.
func (l *Link) Suspend(ctx context.Context, id string) error {
	_, err := l.control.Suspend(ctx, &linkv1.SuspendRequest{SandboxId: id})
	return l.fault(ctx, err)
}

// Resume lets a sandbox go on.
func (l *Link) Resume(ctx context.Context, id string) error {
	_, err := l.control.Resume(ctx, &linkv1.ResumeRequest{SandboxId: id})
	return l.fault(ctx, err)
}

// Delete removes an ended sandbox.
func (l *Link) Delete(ctx context.Context, id string) error {
	_, err := l.control.Delete(ctx, &linkv1.DeleteRequest{SandboxId: id})
	return l.fault(ctx, err)
}

// SetPools replaces the pools.
func (l *Link) SetPools(ctx context.Context, pools []runner.Pool) error {
	in := &linkv1.SetPoolsRequest{Pools: make([]*linkv1.Pool, len(pools))}
	for i := range pools {
		in.Pools[i] = link.PoolMessage(&pools[i])
	}
	out, err := l.control.SetPools(ctx, in)
	if err != nil {
		return l.fault(ctx, err)
	}
	l.setPools(out.GetPools())
	return nil
}

// Network tells what is known of a network.
func (l *Link) Network(ctx context.Context, id string, target egress.Target) (*backend.Network, error) {
	out, err := l.control.Network(ctx, &linkv1.NetworkRequest{SandboxId: id, Target: link.TargetMessage(&target)})
	if err != nil {
		return nil, l.fault(ctx, err)
	}
	return link.NetworkOf(out), nil
}

// Drift compares what was submitted with what is held.
func (l *Link) Drift(ctx context.Context, id string, submitted json.RawMessage) (*backend.Drift, error) {
	out, err := l.control.Drift(ctx, &linkv1.DriftRequest{SandboxId: id, Submitted: submitted})
	if err != nil {
		return nil, l.fault(ctx, err)
	}
	return link.DriftOf(out), nil
}

// Usage samples a sandbox.
func (l *Link) Usage(ctx context.Context, id string) (core.Usage, error) {
	out, err := l.control.Usage(ctx, &linkv1.UsageRequest{SandboxId: id})
	if err != nil {
		return core.Usage{}, l.fault(ctx, err)
	}
	return link.UsageOf(out), nil
}

// Observe follows the sandboxes of the runner. A runner that names more of them than one can have ends it.
func (l *Link) Observe(ctx context.Context) iter.Seq[*backend.Observation] {
	return func(yield func(*backend.Observation) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := l.control.Observe(ctx, &linkv1.ObserveRequest{})
		if err != nil {
			return
		}
		first := map[string]bool{}
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			var o *backend.Observation
			switch {
			case m.GetObservation() != nil:
				if o = link.ObservationOf(m.GetObservation(), l.cfg.Now()); o == nil {
					l.cfg.Logger.WarnContext(ctx, "a runner said something that cannot be of a sandbox; it is passed over", "runner", l.cfg.RunnerID)
					continue
				}
			case first == nil:
				continue // the first pass ends once
			}
			if o == nil {
				first = nil
			} else if first != nil {
				if first[o.SandboxID] = true; len(first) > maxKnown {
					l.end(link.Lied(l.cfg.RunnerID, "it has more than %d sandboxes", maxKnown))
					return
				}
			}
			if !yield(o) {
				return
			}
		}
	}
}
