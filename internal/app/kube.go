package app

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/backend/local"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// Kube is how runners of this process run sandboxes on Kubernetes.
type Kube struct {
	// Clusters are the runners that do, by name; the others run them on this machine.
	Clusters map[string]KubeCluster
	// InitImage is the image of Berm's init, as `berm kube-image` makes it.
	InitImage string
	// NetworkRecorded accepts that network modes are recorded and not enforced there.
	NetworkRecorded bool
	// InstanceTypeLabel is the label of nodes that instance types are values of; "" is Kubernetes' own.
	InstanceTypeLabel string
}

// KubeCluster names a cluster: a file, and a context in it; "" are the usual ones.
type KubeCluster struct{ Kubeconfig, Context string }

// check finds what is wrong by itself.
func (k *Kube) check(runners []Runner) error {
	for name := range k.Clusters {
		if !slices.ContainsFunc(runners, func(r Runner) bool { return r.Name == name }) {
			return fault.Invalidf("USAGE", "--kube %s: there is no such runner", name).WithHint("Add it: --runner %s=ZONE.", name)
		}
	}
	if len(k.Clusters) > 0 && k.InitImage == "" {
		return fault.Invalidf("USAGE", "--kube needs --kube-init-image: the image that Berm's init is taken from in every pod").
			WithHint("Make it with berm kube-image, and push it to where the nodes pull from.")
	}
	return nil
}

// attachKube starts the backend of a runner on a cluster.
func (a *app) attachKube(ctx context.Context, r *core.Runner, c KubeCluster) (backend.Backend, error) {
	b, err := kube.New(ctx, kube.Config{
		Dir: filepath.Join(a.cfg.DataDir, "runners", r.RunnerID), RunnerName: r.RunnerID, Kubeconfig: c.Kubeconfig, Context: c.Context,
		Options: kube.Options{
			InitImage: a.cfg.Kube.InitImage, InstanceTypeLabel: a.cfg.Kube.InstanceTypeLabel, AllowPrivileged: r.Managed.AllowPrivilegedProfileAnnotation,
		},
		NetworkRecorded: a.cfg.Kube.NetworkRecorded, Logger: a.log.With("runner", r.RunnerID),
		OutputLimit: a.cfg.OutputLimit, OutputRetention: a.cfg.OutputRetention,
	})
	if err != nil {
		return nil, err
	}
	info := b.Info()
	fmt.Fprintf(a.cfg.Out, "Runner %s runs sandboxes on Kubernetes: %d pods, %d millicores, %d bytes of memory; runtime classes: %v\n",
		r.RunnerID, info.Capacity.Sandboxes, info.Capacity.CPUMillis, info.Capacity.MemoryBytes, info.RuntimeClasses)
	return b, nil
}

// WriteInitImage writes the image of Berm's init that is in this binary.
func WriteInitImage(w io.Writer, ref string) error {
	program, err := local.EmbeddedShim()
	if err != nil {
		return err
	}
	return kube.WriteInitImage(w, ref, program)
}
