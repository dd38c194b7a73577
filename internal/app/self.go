package app

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"sync"

	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/backend/kube/selfupdate"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/rollout"
	"github.com/bermhq/berm/internal/runner"
)

// Self is the deployment of a runner on Kubernetes, as its owner made it.
type Self struct {
	// Namespace and StatefulSet name it.
	Namespace   string `json:"namespace"`
	StatefulSet string `json:"statefulSet"`
	// SelfUpdate lets the server change it, with images of the repositories Images.
	SelfUpdate bool     `json:"selfUpdate"`
	Images     []string `json:"images"`
	// Installed is what it is without overrides.
	Installed rollout.Spec `json:"installed"`
}

// DecodeSelf reads a file.
func DecodeSelf(name string, raw []byte) (*Self, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	out := &Self{}
	if err := d.Decode(out); err != nil {
		return nil, fault.Invalidf("USAGE", "%s cannot be used: %v", name, err)
	}
	e := fault.Invalidf("USAGE", "%s cannot be used", name)
	for _, f := range []struct{ path, value string }{{"namespace", out.Namespace}, {"statefulSet", out.StatefulSet}, {"installed.image", out.Installed.Image}} {
		if f.value == "" {
			e.WithField(f.path, "must be given")
		}
	}
	if out.SelfUpdate && len(out.Images) == 0 {
		e.WithField("images", "must name a repository with selfUpdate: updates are images of it")
	}
	if len(e.Fields) > 0 {
		return nil, e
	}
	return out, nil
}

// state is what a process says of its deployment from the start.
func (c *RunnerConfig) state() rollout.State {
	state := rollout.State{Kind: rollout.KindProcess, Version: c.Version, Revision: c.Revision, Identity: c.Identity, Gateway: c.Gateway.URL}
	if self := c.Self; self != nil {
		state.Kind, state.Namespace, state.Name, state.Images = rollout.KindStatefulSet, self.Namespace, self.StatefulSet, self.Images
		// Chart and self-update give each process its image. Without, it is the one that was installed.
		state.Installed, state.Image = self.Installed, cmp.Or(c.Image, self.Installed.Image)
	}
	return state
}

// deployment is how this process is deployed, and what ends the work of that.
func (r *remoteRunner) deployment(ctx context.Context) (runner.Deployment, func(), error) {
	state := r.cfg.state()
	if r.cfg.Self == nil || !r.cfg.Self.SelfUpdate {
		return runner.Deployed(state), func() {}, nil
	}
	client, err := kube.Client(r.kube())
	if err != nil {
		return nil, nil, err
	}
	u := selfupdate.New(selfupdate.Config{Client: client, State: state, Logger: r.log})
	ctx, cancel := context.WithCancel(ctx)
	var over sync.WaitGroup
	over.Go(func() { u.Run(ctx) })
	return u, func() { cancel(); over.Wait() }, nil
}
