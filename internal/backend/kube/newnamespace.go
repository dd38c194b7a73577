package kube

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bermhq/berm/internal/core/tree"
)

// namespaceObject returns the object to create, nil when the namespace has to exist already. A namespace is shared, so it
// says only whose it is, and what its profile says of all in it.
func namespaceObject(in PodInput, n Namespace) *corev1.Namespace {
	if !n.Create {
		return nil
	}
	block := in.Spec.GetNamespace()
	labels := map[string]string{LabelManagedBy: managedBy}
	if block.GetStrategy() != strategyStatic {
		labels[LabelOrg] = labelValue(in.OrgID)
		if !in.Options.OmitVendorLabels {
			labels[VendorLabelOrg] = labelValue(in.OrgID)
		}
	}
	if level := block.GetPodSecurity(); level != "" {
		labels[levelLabel] = level
	}
	return &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: over(block.GetLabels(), labels)},
	}
}

// checkMade refuses what a profile says of a namespace that Berm does not make: it would have no effect.
func checkMade(in PodInput, n Namespace) error {
	if n.Create {
		return nil
	}
	block := in.Spec.GetNamespace()
	var p tree.Problems
	without := func(set bool, path string) {
		if set {
			p.Add(nil, path, "has no effect: namespace %q has to exist already, and stays as it is; set namespace.auto_create, or leave this out", n.Name)
		}
	}
	without(len(block.GetLabels()) > 0, "namespace.labels")
	without(block.GetPodSecurity() != "", levelPath)
	without(block.GetQuota() != nil, quotaPath)
	return p.Err("the sandbox's namespace is not one that Berm makes")
}

// checkNamespaceLabels refuses labels that are Berm's, or by which something in the cluster decides what namespaces may do: Pod Security
// levels, what is injected into pods. The level has a field of its own.
func checkNamespaceLabels(p *tree.Problems, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		path := "namespace.labels[" + key + "]"
		switch {
		case own(key):
			p.Add(nil, path, "is set by Berm alone: it says whose the namespace is")
		case privileged(key):
			p.Add(nil, path, "this label changes how the cluster treats all pods of the namespace; the Pod Security level is pod_security")
		}
	}
}
