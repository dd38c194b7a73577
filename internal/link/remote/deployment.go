package remote

import (
	"context"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/link"
)

// setDeployment keeps what the runner says of its deployment. One of the release before says nothing but its version.
func (l *Link) setDeployment(m *linkv1.DeploymentState) {
	state := link.DeploymentOf(m, l.cfg.Software)
	l.deployment.Store(&state)
}

// Deployment returns what the runner said last.
func (l *Link) Deployment() rollout.State { return *l.deployment.Load() }

// SetDeployment says which deployment is wanted.
func (l *Link) SetDeployment(ctx context.Context, w rollout.Wanted) error {
	resp, err := l.control.SetDeployment(ctx, link.WantedMessage(&w))
	if err != nil {
		return l.fault(ctx, err)
	}
	l.setDeployment(resp.GetDeployment())
	return nil
}
