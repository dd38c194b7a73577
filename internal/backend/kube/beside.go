package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core/fault"
)

// beside is an object that a sandbox has besides its pod.
type beside struct {
	// kind is what messages call it.
	kind, resource, namespace, name string
	object                          any
}

// beside returns what a pod needs to find, or must not run without.
func (o *Objects) beside() []beside {
	var out []beside
	if o.Secret != nil {
		out = append(out, beside{"Secret", "secrets", o.Secret.Namespace, o.Secret.Name, o.Secret})
	}
	if o.Policy != nil {
		out = append(out, beside{"NetworkPolicy", policies, o.Policy.Namespace, o.Policy.Name, o.Policy})
	}
	if o.Service != nil {
		out = append(out, beside{"Service", services, o.Service.Namespace, o.Service.Name, o.Service})
	}
	if o.Ingress != nil {
		out = append(out, beside{"Ingress", ingresses, o.Ingress.Namespace, o.Ingress.Name, o.Ingress})
	}
	if o.HTTPRoute != nil {
		out = append(out, beside{gatewayapi.KindRoute, gatewayapi.HTTPRoutes, o.HTTPRoute.Namespace, o.HTTPRoute.Name, o.HTTPRoute})
	}
	return out
}

// withdraw deletes what was made for a sandbox that the cluster then refused. One whose fate is not known will be tried again.
func (b *Backend) withdraw(ctx context.Context, w *backend.Work, made []beside, why error) {
	if fault.Is(why, fault.Unavailable) {
		return
	}
	for _, x := range made {
		if err := b.cluster.delete(context.WithoutCancel(ctx), x.namespace, x.resource, x.name, metav1.DeleteOptions{}); err != nil {
			b.log.Warn("what was made for a sandbox that was refused could not be deleted", "sandbox", w.SandboxID, "resource", x.resource, "error", err)
		}
	}
}

// exposedKinds are the kinds of what ports are reached by, with the annotation that a pod has then.
var exposedKinds = []struct{ annotation, kind, resource string }{
	{AnnotationHTTPRoute, gatewayapi.KindRoute, gatewayapi.HTTPRoutes}, {AnnotationRoute, "Ingress", ingresses}, {AnnotationService, "Service", services},
}

// exposedOf returns what the ports of a pod are reached by, the last that was made first.
func exposedOf(pod *corev1.Pod) []beside {
	var out []beside
	for _, x := range exposedKinds {
		if pod.Annotations[x.annotation] != "" {
			out = append(out, beside{kind: x.kind, resource: x.resource, namespace: pod.Namespace, name: pod.Name})
		}
	}
	return out
}
