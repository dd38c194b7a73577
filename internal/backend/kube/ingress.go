package kube

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

const (
	// AnnotationRoute names the Ingress that was made for a pod.
	AnnotationRoute = "berm.dev/ingress"
	// annotationExpects is on an Ingress or HTTPRoute whose host is told of only once its controller has an address for it.
	annotationExpects = "berm.dev/expects-external-address"
	// ingresses is the name of the resource of Ingresses.
	ingresses = "ingresses"
)

// ingressFor returns the Ingress of a sandbox, nil where its mode has none. It leads to the first exposed port that is declared for TCP; others
// are reached by the Service alone: a host name is one port's, and paths would have to be known to what listens.
func ingressFor(in PodInput, service *corev1.Service) (*networkingv1.Ingress, error) {
	_, mode := ingressMode(in)
	route := mode.GetIngress()
	if service == nil || route == nil || route.GetGateway() != nil {
		return nil, nil
	}
	host, ok := spec.HostOf(route.GetTemplate(), in.SandboxID)
	first := firstTCP(service)
	if !ok || first < 0 {
		return nil, cannotRoute(route, in.SandboxID, ok)
	}
	labels, annotations := ownMetadata(in)
	if mode.GetExpectsExternalAddress() {
		annotations[annotationExpects] = "true"
	}
	out := &networkingv1.Ingress{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "Ingress"},
		ObjectMeta: metav1.ObjectMeta{Name: service.Name, Namespace: service.Namespace, Labels: labels, Annotations: annotations},
		Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
			Host: host,
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: "/", PathType: new(networkingv1.PathTypePrefix),
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
					Name: service.Name, Port: networkingv1.ServiceBackendPort{Number: service.Spec.Ports[first].Port},
				}},
			}}}},
		}}},
	}
	if class := route.GetControllerName(); class != "" {
		out.Spec.IngressClassName = &class
	}
	return out, nil
}

// firstTCP returns the index of the first port of TCP, -1 for none.
func firstTCP(service *corev1.Service) int {
	return slices.IndexFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Protocol == corev1.ProtocolTCP })
}

func cannotRoute(route *specpb.IngressRoute, id string, named bool) error {
	e := fault.Preconditionf(fault.ReasonBackendUnsupported, "Kubernetes cannot expose the ports of this sandbox")
	if !named {
		return e.WithField("network.ingress.selected", "the template %q gives sandbox %s no host name of its own", route.GetTemplate(), id)
	}
	return e.WithField("network.exposed_ports", "an %s leads to a port of TCP, and none is exposed", routedBy(route))
}

// routedBy is the kind of object that a route is made as.
func routedBy(route *specpb.IngressRoute) string {
	if route.GetGateway() != nil {
		return gatewayapi.KindRoute
	}
	return "Ingress"
}

// isAwaited reports that the host of an Ingress is not to be told yet: an address is expected, and its controller has none.
func isAwaited(i *networkingv1.Ingress) bool {
	return i.Annotations[annotationExpects] != "" && !slices.ContainsFunc(i.Status.LoadBalancer.Ingress, func(at networkingv1.IngressLoadBalancerIngress) bool {
		return at.IP != "" || at.Hostname != ""
	})
}

// trimIngress keeps of an Ingress what an address is made of.
func trimIngress(object any) (any, error) {
	i, ok := object.(*networkingv1.Ingress)
	if !ok {
		return object, nil
	}
	out := &networkingv1.Ingress{ObjectMeta: trimMeta(&i.ObjectMeta)}
	out.Annotations = keep(i.Annotations, LabelSandbox, annotationExpects)
	out.Spec.Rules, out.Status.LoadBalancer = i.Spec.Rules, i.Status.LoadBalancer
	return out, nil
}
