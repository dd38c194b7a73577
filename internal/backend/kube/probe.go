package kube

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// networkNote says why network modes do not count.
const networkNote = "network modes are not enforced on this cluster: its owner has them recorded alone (--kube-network recorded)"

// noInit is why nothing runs without the image of the init.
const noInit = "no image of Berm's init is named (--kube-init-image): without it nothing can be run or reached in a pod"

// describe says what can be run, by the nodes and runtime classes that are known.
func (b *Backend) describe() backend.Info {
	info := backend.Info{
		Kind: Kind, RuntimeClasses: []string{DefaultRuntimeClass}, DefaultRuntimeClass: DefaultRuntimeClass,
		Isolation: "what the node's container runtime gives a pod: namespaces of the node's kernel, unless a runtime class says otherwise",
	}
	info.Capacity, info.Architecture = capacityOf(b.nodes.store.List())
	var names []string
	for _, c := range b.classes.store.List() {
		if c, ok := c.(*nodev1.RuntimeClass); ok && c.Name != DefaultRuntimeClass {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	info.RuntimeClasses = append(info.RuntimeClasses, names...)
	if b.cfg.Options.Network == NetworkRecorded {
		info.Unenforced = map[string]string{
			"network.egress.default": networkNote, "network.egress.selected": networkNote, "network.egress.modes": networkNote,
		}
	}
	b.tell(&info)
	if b.cfg.Options.InitImage == "" {
		info.Refusal = noInit
	}
	b.refuse(&info)
	return info
}

// capacityOf adds up what nodes that take pods can give, and returns the architecture of most of them.
func capacityOf(nodes []any) (total core.Amounts, arch string) {
	count := map[string]int{}
	for _, o := range nodes {
		n, ok := o.(*corev1.Node)
		if !ok || n.Spec.Unschedulable || !isReady(n) || isClosed(n) {
			continue
		}
		a := n.Status.Allocatable
		total.CPUMillis += a.Cpu().MilliValue()
		total.MemoryBytes += a.Memory().Value()
		total.Sandboxes += a.Pods().Value()
		gpus := a[ResourceGPU]
		total.GPUs += gpus.Value()
		if own := n.Status.NodeInfo.Architecture; own != "" {
			count[own]++
		}
	}
	arch = "unknown"
	for _, own := range slices.Sorted(maps.Keys(count)) { // in a fixed order, so that nothing changes between equals
		if count[own] > count[arch] {
			arch = own
		}
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
