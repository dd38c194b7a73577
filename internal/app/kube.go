package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core/fault"
)

// Kube is how runners of this process run sandboxes on Kubernetes.
type Kube struct {
	// Clusters are the runners that do, by name; the others run them on this machine.
	Clusters map[string]KubeCluster
	// InitImage is the image of Berm's init, as `berm kube-image` makes it.
	InitImage string
	// InitFrom is how it gets into pods.
	InitFrom kube.InitFrom
	// Network says what becomes of egress modes there, DeniedEgress what no sandbox reaches.
	Network      kube.Network
	DeniedEgress []netip.Prefix
	// AllowPrivileged is the word of the clusters' owner that profiles may carry privileges; a runner's own setting must say so, too.
	AllowPrivileged bool
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
	if len(k.Clusters) > 0 {
		return k.needsInit("--kube")
	}
	return nil
}

func (k *Kube) needsInit(flag string) error {
	if k.InitImage != "" {
		return nil
	}
	return fault.Invalidf("USAGE", "%s needs --kube-init-image: the image that Berm's init is taken from in every pod", flag).
		WithHint("Make it with berm kube-image, and push it to where the nodes pull from.")
}

// kube is the configuration of a backend on a cluster.
func (c *Config) kube(dir, runnerID string, cluster KubeCluster, log *slog.Logger) kube.Config {
	return kube.Config{
		Dir: dir, RunnerName: runnerID, Kubeconfig: cluster.Kubeconfig, Context: cluster.Context,
		Options: c.Kube.options(),
		Logger:  log.With("runner", runnerID), OutputLimit: c.OutputLimit, OutputRetention: c.OutputRetention,
	}
}

// options are the conventions of the clusters, and what their owner allows.
func (k *Kube) options() kube.Options {
	return kube.Options{
		InitImage: k.InitImage, InitFrom: k.InitFrom, InstanceTypeLabel: k.InstanceTypeLabel, AllowPrivileged: k.AllowPrivileged, Network: k.Network, DeniedEgress: k.DeniedEgress,
	}
}

// openKube starts the backend of a runner on a cluster, and tells who started the process what is there.
func (c *Config) openKube(ctx context.Context, cfg kube.Config) (*kube.Backend, error) {
	b, err := kube.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	info := b.Info()
	if info.Refusal != "" {
		fmt.Fprintf(c.Out, "Runner %s cannot run sandboxes on Kubernetes yet: %s\n", cfg.RunnerName, info.Refusal)
		return b, nil
	}
	fmt.Fprintf(c.Out, "Runner %s runs sandboxes on Kubernetes: %d pods, %d millicores, %d bytes of memory; runtime classes: %v\n",
		cfg.RunnerName, info.Capacity.Sandboxes, info.Capacity.CPUMillis, info.Capacity.MemoryBytes, info.RuntimeClasses)
	return b, nil
}
