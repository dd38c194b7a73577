package kube

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core/fault"
)

// AnnotationWanted is what the profile says of the namespace.
const AnnotationWanted = "berm.dev/namespace"

// wanted is what a profile says of a namespace. It is kept with the pod, since the namespace may have been there, or be changed.
type wanted struct {
	Labels map[string]string         `json:"labels,omitempty"`
	Quota  *corev1.ResourceQuotaSpec `json:"quota,omitempty"`
}

// packWanted returns it for the annotation of the pod, "" where the profile leaves the namespace as Berm makes it.
func packWanted(w *backend.Work, o *Objects) (string, error) {
	block := w.Spec.GetNamespace()
	if o.Namespace == nil || len(block.GetLabels()) == 0 && block.GetPodSecurity() == "" && o.Quota == nil {
		return "", nil
	}
	out := wanted{Labels: o.Namespace.Labels}
	if o.Quota != nil {
		out.Quota = &o.Quota.Spec
	}
	text, err := json.Marshal(out)
	return string(text), err
}

// AnnotationExposed has the specs of what the ports are reached by, by resource.
const AnnotationExposed = "berm.dev/exposed"

// packExposed returns them for the annotation of the pod, "" for none.
func packExposed(o *Objects) (string, error) {
	out := map[string]any{}
	if o.Service != nil {
		out[services] = o.Service.Spec
	}
	if o.Ingress != nil {
		out[ingresses] = o.Ingress.Spec
	}
	if o.HTTPRoute != nil {
		out[gatewayapi.HTTPRoutes] = o.HTTPRoute.Spec
	}
	if len(out) == 0 {
		return "", nil
	}
	text, err := json.Marshal(out)
	return string(text), err
}

// compareNamespace adds in what the namespace of a pod differs from what its profile says. What others put there besides is theirs.
func (b *Backend) compareNamespace(ctx context.Context, c *comparison, s *sandbox, packed string) error {
	var want struct {
		Labels map[string]any
		Quota  map[string]any
	}
	if packed == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(packed), &want); err != nil {
		return fault.Preconditionf(fault.ReasonInvalidRequest, "somebody changed the annotation %s of the pod of sandbox %s", AnnotationWanted, s.id).WithCause(err)
	}
	held, err := b.cluster.read(ctx, "", "namespaces", s.namespace)
	if err != nil {
		return b.translate(err, "read the namespace of sandbox "+s.id)
	}
	c.beside("namespace.", held, func(c *comparison) {
		meta, _ := held["metadata"].(map[string]any)
		labels, _ := meta["labels"].(map[string]any)
		for key, value := range want.Labels {
			c.value("metadata.labels."+key, value, labels[key])
		}
	})
	if want.Quota == nil {
		return nil
	}
	held, err = b.cluster.read(ctx, s.namespace, quotas, QuotaName)
	if err != nil {
		return b.translate(err, "read the quota of the namespace of sandbox "+s.id)
	}
	c.beside("resourcequota.", held, func(c *comparison) { c.value("spec", any(want.Quota), held["spec"]) })
	return nil
}

// beside compares another object, whose paths begin with prefix.
func (c *comparison) beside(prefix string, held map[string]any, compare func(*comparison)) {
	other := &comparison{owners: ownersOf(held), held: held, of: prefix}
	compare(other)
	for _, f := range other.found {
		f.Path = prefix + f.Path
		c.found = append(c.found, f)
	}
}
