package kube

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// networkNote says why network modes do not count.
const networkNote = "network modes are not enforced on this cluster: its owner has them recorded alone (--kube-network recorded)"

// probe looks at nodes and runtime classes.
func (b *Backend) probe(ctx context.Context) (backend.Info, error) {
	info := backend.Info{
		Kind: Kind, RuntimeClasses: []string{DefaultRuntimeClass}, DefaultRuntimeClass: DefaultRuntimeClass,
		Isolation: "what the node's container runtime gives a pod: namespaces of the node's kernel, unless a runtime class says otherwise",
	}
	nodes := &corev1.NodeList{}
	if err := b.cluster.core.Get().Resource("nodes").Do(ctx).Into(nodes); err != nil {
		return info, err
	}
	info.Capacity, info.Architecture = capacityOf(nodes.Items)
	classes := &nodev1.RuntimeClassList{}
	err := b.cluster.node.Get().Resource("runtimeclasses").Do(ctx).Into(classes)
	if err != nil && !apierrors.IsForbidden(err) {
		return info, err
	}
	for i := range classes.Items {
		if name := classes.Items[i].Name; !slices.Contains(info.RuntimeClasses, name) {
			info.RuntimeClasses = append(info.RuntimeClasses, name)
		}
	}
	if b.cfg.Options.Network == NetworkRecorded {
		info.Unenforced = map[string]string{
			"network.egress.default": networkNote, "network.egress.selected": networkNote, "network.egress.modes": networkNote,
		}
	}
	info.Features = b.cfg.Options.Network.features()
	if b.cfg.Options.InitImage == "" {
		info.Refusal = "no image of Berm's init is named (--kube-init-image): without it nothing can be run or reached in a pod"
	}
	return info, nil
}

// capacityOf adds up what nodes that take pods can give, and returns the architecture of most of them.
func capacityOf(nodes []corev1.Node) (total core.Amounts, arch string) {
	count := map[string]int{}
	for i := range nodes {
		n := &nodes[i]
		if n.Spec.Unschedulable || !isReady(n) || isClosed(n) {
			continue
		}
		a := n.Status.Allocatable
		total.CPUMillis += a.Cpu().MilliValue()
		total.MemoryBytes += a.Memory().Value()
		total.Sandboxes += a.Pods().Value()
		gpus := a[ResourceGPU]
		total.GPUs += gpus.Value()
		if own := n.Status.NodeInfo.Architecture; own != "" {
			if count[own]++; count[own] > count[arch] {
				arch = own
			}
		}
	}
	if arch == "" {
		arch = "unknown"
	}
	return total, arch
}

func isReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// isClosed reports a node that takes only pods which tolerate it.
func isClosed(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	})
}
