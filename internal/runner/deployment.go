package runner

import (
	"context"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
)

// Deployment is the process of a runner as something that is deployed. What changes itself also checks what it is asked for: rollout has
// the rules.
type Deployment interface {
	// State says how the process is deployed, and how far a change of that is.
	State() rollout.State
	// Want says what is wanted. It does not wait for the change.
	Want(ctx context.Context, w rollout.Wanted) error
}

// Deployed returns a deployment that somebody else changes.
func Deployed(s rollout.State) Deployment { return fixed{s} }

type fixed struct{ state rollout.State }

// State implements Deployment.
func (f fixed) State() rollout.State { return f.state }

// Want implements Deployment.
func (f fixed) Want(context.Context, rollout.Wanted) error {
	return fault.Preconditionf(fault.ReasonUpdateByHand, "this runner does not change its own deployment")
}

// Deployment returns what the process says of its deployment.
func (a *Agent) Deployment() rollout.State { return a.deployment.State() }

// SetDeployment says which deployment is wanted.
func (a *Agent) SetDeployment(ctx context.Context, w rollout.Wanted) error {
	return a.deployment.Want(ctx, w)
}
