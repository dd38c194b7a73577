package kube

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// QuotaName is the name of the ResourceQuota in namespaces that Berm makes.
const QuotaName = "berm"

const quotaPath = "namespace.quota"

// quotaFor returns the quota of the namespace, nil for none.
func quotaFor(in PodInput, n Namespace) (*corev1.ResourceQuota, error) {
	q := in.Spec.GetNamespace().GetQuota()
	if q == nil {
		return nil, nil
	}
	var p tree.Problems
	hard := corev1.ResourceList{}
	quantity := func(name corev1.ResourceName, field, text string) {
		if text == "" {
			return
		}
		amount, err := resource.ParseQuantity(text)
		if err != nil || amount.Sign() < 0 {
			p.Add(nil, quotaPath+"."+field, "%q is no amount of %s", text, name)
			return
		}
		hard[name] = amount
	}
	count := func(name corev1.ResourceName, field string, n *int32) {
		switch {
		case n == nil:
		case *n < 0:
			p.Add(nil, quotaPath+"."+field, "%d is negative", *n)
		default:
			hard[name] = *resource.NewQuantity(int64(*n), resource.DecimalSI)
		}
	}
	count(corev1.ResourcePods, "pods", q.Pods)
	quantity(corev1.ResourceRequestsCPU, "cpu_request", q.GetCpuRequest())
	quantity(corev1.ResourceRequestsMemory, "memory_request", q.GetMemoryRequest())
	quantity(corev1.ResourceLimitsCPU, "cpu_limit", q.GetCpuLimit())
	quantity(corev1.ResourceLimitsMemory, "memory_limit", q.GetMemoryLimit())
	count(corev1.DefaultResourceRequestsPrefix+ResourceGPU, "gpus", q.Gpus)
	if err := p.Err("the namespace's quota makes no ResourceQuota"); err != nil || len(hard) == 0 {
		return nil, err
	}
	return &corev1.ResourceQuota{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ResourceQuota"},
		ObjectMeta: metav1.ObjectMeta{Name: QuotaName, Namespace: n.Name, Labels: map[string]string{LabelManagedBy: managedBy}},
		Spec:       corev1.ResourceQuotaSpec{Hard: hard},
	}, nil
}

// checkCounted refuses a pod that the quota could not count: Kubernetes refuses one with a container that does not say what it needs.
func checkCounted(pod *corev1.PodSpec, q *corev1.ResourceQuota) error {
	if q == nil || pod.Resources != nil { // What a pod says as a whole is counted in place of its containers'.
		return nil
	}
	e := fault.Preconditionf(fault.ReasonBackendUnsupported, "the quota of the namespace cannot count this sandbox")
	says := func(list corev1.ResourceList, name corev1.ResourceName) bool { _, ok := list[name]; return ok }
	check := func(list string, all []corev1.Container) {
		for i := range all {
			r := &all[i].Resources
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				where := list + "[" + all[i].Name + "]"
				if says(q.Spec.Hard, "requests."+name) && !says(r.Requests, name) && !says(r.Limits, name) { // A limit alone is the request, too.
					e.WithField(quotaPath+"."+string(name)+"_request", "%s says neither request nor limit of %s", where, name)
				}
				if says(q.Spec.Hard, "limits."+name) && !says(r.Limits, name) {
					e.WithField(quotaPath+"."+string(name)+"_limit", "%s has no limit of %s", where, name)
				}
			}
		}
	}
	check("initContainers", pod.InitContainers)
	check("containers", pod.Containers)
	if len(e.Fields) == 0 {
		return nil
	}
	return e.WithHint("set resource_defaults of the profile; further containers of its fragment have resources of their own")
}
