package kube

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bermhq/berm/internal/core/tree"
)

// Labels and annotations that Berm sets. Nothing else may: they say whose a pod is, and network policies select by them.
// A value that is no label value is replaced by a readable stand-in with a hash; the annotation of the same name has the text.
const (
	LabelSandbox   = "berm.dev/sandbox-id"
	LabelOrg       = "berm.dev/org-id"
	LabelUser      = "berm.dev/user-id"
	LabelProfile   = "berm.dev/profile"
	LabelRunner    = "berm.dev/runner"
	LabelManagedBy = "app.kubernetes.io/managed-by"

	// AnnotationDigest identifies the resolved spec, and through it the layers that it came from.
	AnnotationDigest = "berm.dev/spec-digest"
	AnnotationZone   = "berm.dev/zone"
	// AnnotationEgress and AnnotationIngress name the network modes in force.
	AnnotationEgress  = "berm.dev/egress-mode"
	AnnotationIngress = "berm.dev/ingress-mode"

	// VendorLabelSandbox and VendorLabelOrg are what tools of the compatible platform select by.
	VendorLabelSandbox = "sandbox.coreweave.com/sandbox-id"
	VendorLabelOrg     = "sandbox.coreweave.com/sandbox-organization-id"
)

const managedBy = "berm"

// objectMeta returns the metadata of the pod: the profile's and the request's, then Berm's own.
func objectMeta(in PodInput, namespace string) (metav1.ObjectMeta, error) {
	var p tree.Problems
	meta := in.Spec.GetPod().GetMetadata()
	checkOwn(&p, "pod.metadata.labels", meta.GetLabels())
	checkOwn(&p, "pod.metadata.annotations", meta.GetAnnotations())
	if err := p.Err("the pod's metadata is not allowed"); err != nil {
		return metav1.ObjectMeta{}, err
	}
	labels, annotations := ownMetadata(in)
	return metav1.ObjectMeta{
		Name: podName(in.SandboxID), Namespace: namespace,
		Labels: over(meta.GetLabels(), labels), Annotations: over(meta.GetAnnotations(), annotations),
	}, nil
}

func podName(sandboxID string) string { return dnsName("sandbox-", sandboxID) }

// ownMetadata returns what Berm sets on every object of a sandbox.
func ownMetadata(in PodInput) (labels, annotations map[string]string) {
	labels, annotations = map[string]string{LabelManagedBy: managedBy}, map[string]string{}
	for key, value := range map[string]string{
		LabelSandbox: in.SandboxID, LabelOrg: in.OrgID, LabelUser: in.UserID, LabelProfile: in.ProfileName, LabelRunner: in.RunnerID,
	} {
		if value == "" {
			continue
		}
		labels[key] = labelValue(value)
		if labels[key] != value {
			annotations[key] = value
		}
	}
	if !in.Options.OmitVendorLabels {
		labels[VendorLabelSandbox], labels[VendorLabelOrg] = labels[LabelSandbox], labels[LabelOrg]
	}
	network := in.Spec.GetNetwork()
	for key, value := range map[string]string{
		AnnotationDigest: in.Digest, AnnotationZone: in.ZoneName,
		AnnotationEgress:  either(network.GetEgress().GetSelected(), network.GetEgress().GetDefault()),
		AnnotationIngress: either(network.GetIngress().GetSelected(), network.GetIngress().GetDefault()),
	} {
		if value != "" {
			annotations[key] = value
		}
	}
	return labels, annotations
}

// checkOwn refuses keys that are Berm's to set.
func checkOwn(p *tree.Problems, path string, set map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(set)) {
		if own(key) {
			p.Add(nil, path+"["+key+"]", "is set by Berm alone: it says whose the pod is")
		}
	}
}

func over(base, top map[string]string) map[string]string {
	out := make(map[string]string, len(base)+len(top))
	maps.Copy(out, base)
	maps.Copy(out, top)
	return out
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
