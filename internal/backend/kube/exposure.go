package kube

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core"
)

// exposure is what a sandbox is reached by, as far as that is known.
type exposure struct {
	service *corev1.Service
	ingress *networkingv1.Ingress
	route   *gatewayapi.HTTPRoute
	// gateway is that of the route, nil where there is none. unknown: why that cannot be told, "" when it can.
	gateway *gatewayapi.Gateway
	unknown string
	// missing is the kind of what was there and is not any more, "" for nothing.
	missing string
}

// answered takes what the API server answered to an object of a sandbox.
func (e *exposure) answered(resource string, body []byte) {
	switch s, i, r := (&corev1.Service{}), (&networkingv1.Ingress{}), (&gatewayapi.HTTPRoute{}); resource {
	case services:
		if json.Unmarshal(body, s) == nil {
			e.service = s
		}
	case ingresses:
		if json.Unmarshal(body, i) == nil {
			e.ingress = i
		}
	case gatewayapi.HTTPRoutes:
		if json.Unmarshal(body, r) == nil {
			e.route = r
		}
	}
}

// address says where a sandbox is reached, nil while too little is known. The host of an Ingress or HTTPRoute leads to one port, at whatever
// port its controller listens.
func (e *exposure) address(pod *corev1.Pod) *core.Service {
	mode := pod.Annotations[AnnotationIngress]
	switch {
	case e.missing != "":
		return &core.Service{Mode: mode, Problem: "the " + e.missing + " that led to it is gone from the cluster: somebody deleted it"}
	case pod.Annotations[AnnotationHTTPRoute] != "":
		return e.atGateway(mode)
	case pod.Annotations[AnnotationRoute] != "":
		return e.atIngress(mode)
	case e.service != nil:
		return addressOf(mode, e.service, pod)
	}
	return nil
}

func (e *exposure) atIngress(mode string) *core.Service {
	if e.ingress == nil || len(e.ingress.Spec.Rules) == 0 || e.ingress.Spec.Rules[0].HTTP == nil {
		return nil
	}
	out := &core.Service{Mode: mode}
	if r := e.ingress.Spec.Rules[0]; !isAwaited(e.ingress) {
		out.Address = r.Host
	}
	for _, p := range e.ingress.Spec.Rules[0].HTTP.Paths {
		if p.Backend.Service != nil {
			out.Ports = append(out.Ports, core.ServicePort{ContainerPort: p.Backend.Service.Port.Number, Protocol: string(corev1.ProtocolTCP)})
		}
	}
	return out
}

// atGateway tells the host once a controller has taken the route, which every one must say, and why not when it says so.
func (e *exposure) atGateway(mode string) *core.Service {
	if e.route == nil || len(e.route.Spec.Hostnames) == 0 || len(e.route.Spec.ParentRefs) == 0 {
		return nil
	}
	out := &core.Service{Mode: mode}
	for _, rule := range e.route.Spec.Rules {
		for _, p := range rule.BackendRefs {
			out.Ports = append(out.Ports, core.ServicePort{ContainerPort: p.Port, Protocol: string(corev1.ProtocolTCP)})
		}
	}
	at := e.route.Spec.ParentRefs[0]
	problem, said := routeProblem(e.route)
	switch expects := e.route.Annotations[annotationExpects] != ""; {
	case problem != "":
		out.Problem = problem
	case e.unknown != "":
		out.Problem = e.unknown
	case e.gateway == nil:
		out.Problem = "the cluster has no Gateway " + at.Namespace + "/" + at.Name
	case said && (!expects || len(e.gateway.Status.Addresses) > 0):
		out.Address = e.route.Spec.Hostnames[0]
	}
	return out
}
