package kube

import (
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// Labels of nodes, unless Options name others: Kubernetes' own, and those of the GPU maker's feature discovery.
const (
	DefaultInstanceTypeLabel = corev1.LabelInstanceTypeStable
	DefaultGPUProductLabel   = "nvidia.com/gpu.product"
	DefaultGPUMemoryLabel    = "nvidia.com/gpu.memory"
)

// constrain makes the spec's demands on nodes hold on the merged pod, whatever affinity the fragment brought along.
func constrain(pod *corev1.PodSpec, in PodInput) error {
	var p tree.Problems
	for _, key := range slices.Sorted(maps.Keys(in.Spec.GetNodeSelector())) {
		value := in.Spec.GetNodeSelector()[key]
		if other, set := pod.NodeSelector[key]; set && other != value {
			p.Add(nil, "node_selector["+key+"]", "is %q here and %q in pod.spec.nodeSelector: no node has both", value, other)
			continue
		}
		if pod.NodeSelector == nil {
			pod.NodeSelector = map[string]string{}
		}
		pod.NodeSelector[key] = value
	}
	if err := p.Err("the node selectors contradict each other"); err != nil {
		return err
	}
	gpu, err := gpuNodes(in.Spec.GetResourceDefaults().GetGpu(), in.Options)
	if err != nil {
		return err
	}
	requireNodes(pod, append(instanceNodes(in), gpu...))
	return nil
}

func instanceNodes(in PodInput) []corev1.NodeSelectorRequirement {
	types := in.Spec.GetInstanceTypes()
	if len(types) == 0 {
		return nil
	}
	return []corev1.NodeSelectorRequirement{{
		Key: either(in.Options.InstanceTypeLabel, DefaultInstanceTypeLabel), Operator: corev1.NodeSelectorOpIn, Values: slices.Clone(types),
	}}
}

// gpuNodes returns what the GPU model or memory that was asked for demands of a node. A count of 0 asks for no GPU.
func gpuNodes(gpu *specpb.Gpu, o Options) ([]corev1.NodeSelectorRequirement, error) {
	if gpu.GetCount() == 0 {
		return nil, nil
	}
	var out []corev1.NodeSelectorRequirement
	if t := gpu.GetType(); t != "" {
		products := o.GPUProducts[t]
		if len(products) == 0 {
			products = []string{t}
		}
		out = append(out, corev1.NodeSelectorRequirement{
			Key: either(o.GPUProductLabel, DefaultGPUProductLabel), Operator: corev1.NodeSelectorOpIn, Values: slices.Clone(products),
		})
	}
	switch gb := gpu.GetMemoryGb(); {
	case gb < 0 || gb > maxGPUMemoryGB:
		return nil, fault.Invalidf(fault.ReasonFieldInvalid, "the GPU asked for makes no pod").
			WithField("resource_defaults.gpu.memory_gb", "%d is not between 0 and %d", gb, int64(maxGPUMemoryGB))
	case gb > 0:
		// The label is in MiB and there is no "at least" for nodes, hence "more than one less".
		out = append(out, corev1.NodeSelectorRequirement{
			Key: either(o.GPUMemoryLabel, DefaultGPUMemoryLabel), Operator: corev1.NodeSelectorOpGt,
			Values: []string{strconv.FormatInt(mebibytes(gb)-1, 10)},
		})
	}
	return out, nil
}

// maxGPUMemoryGB is the schema's bound, repeated because a larger number would overflow.
const maxGPUMemoryGB = 1 << 20

// mebibytes returns GB, of 10^9 bytes as GPU makers count, in whole MiB.
func mebibytes(gb int64) int64 { return gb * 1_000_000_000 >> 20 }

// requireNodes adds the requirements to every term of the required node affinity. Terms are alternatives, so that one
// without the requirements would be a way around them.
func requireNodes(pod *corev1.PodSpec, need []corev1.NodeSelectorRequirement) {
	if len(need) == 0 {
		return
	}
	if pod.Affinity == nil {
		pod.Affinity = &corev1.Affinity{}
	}
	if pod.Affinity.NodeAffinity == nil {
		pod.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	node := pod.Affinity.NodeAffinity
	if node.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		node.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{}
	}
	required := node.RequiredDuringSchedulingIgnoredDuringExecution
	if len(required.NodeSelectorTerms) == 0 {
		required.NodeSelectorTerms = []corev1.NodeSelectorTerm{{}}
	}
	for i := range required.NodeSelectorTerms {
		term := &required.NodeSelectorTerms[i]
		term.MatchExpressions = append(term.MatchExpressions, need...)
	}
}
