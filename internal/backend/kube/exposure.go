package kube

import (
	"encoding/json"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"

	"github.com/bermhq/berm/internal/backend"
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

// tellAddress makes where a sandbox is reached part of what is observed of it, if that is something else than before. The stores are asked
// first: they are newer than what the API server answered when the objects were made.
func (b *Backend) tellAddress(s *sandbox, made exposure) {
	pod := s.podNow()
	if pod == nil || pod.Annotations[AnnotationService] == "" {
		return
	}
	b.fill(&made, s)
	now := made.address(pod)
	if now == nil {
		return
	}
	var again *backend.Observation
	s.change(func() {
		if now.Equal(s.service) {
			return
		}
		s.service = now
		if last := s.last; last.Phase != "" {
			again = &last
		}
	})
	if again != nil {
		b.publish(s, *again)
	}
}

// fill adds what is followed.
func (b *Backend) fill(e *exposure, s *sandbox) {
	b.mu.Lock()
	exposed, routes, httpRoutes, gateways := b.exposed, b.routes, b.httpRoutes, b.gateways
	barred := b.troubles.attempts[gatewayapi.Gateways].err
	b.mu.Unlock()
	own := cache.ObjectName{Namespace: s.namespace, Name: s.name}
	if o, ok := stored(exposed, own).(*corev1.Service); ok {
		e.service = o
	}
	if o, ok := stored(routes, own).(*networkingv1.Ingress); ok {
		e.ingress = o
	}
	if o, ok := stored(httpRoutes, own).(*gatewayapi.HTTPRoute); ok {
		e.route = o
	}
	if e.route == nil || len(e.route.Spec.ParentRefs) == 0 {
		return
	}
	at := e.route.Spec.ParentRefs[0]
	e.gateway, _ = stored(gateways, cache.ObjectName{Namespace: at.Namespace, Name: at.Name}).(*gatewayapi.Gateway)
	switch {
	case e.gateway != nil:
	case apierrors.IsForbidden(barred):
		e.unknown = "the account of the runner may not list and watch gateways, so that Gateway " + at.Namespace + "/" + at.Name + " cannot be seen"
	case gateways == nil || !gateways.controller.HasSynced():
		e.gateway = &gatewayapi.Gateway{} // It is told of once the cluster has said which there are.
	}
}

// stored returns an object that is followed, nil for none.
func stored(w *watched, name cache.ObjectName) any {
	if w == nil {
		return nil
	}
	o, _, _ := w.store.GetByKey(name.String())
	return o
}

// watchExposed begins to follow what a pod is exposed by, Services, Ingresses, or HTTPRoutes and Gateways, once one has it: most runners need
// no permission to.
func (b *Backend) watchExposed(pod *corev1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	look := func(o any) {
		m, err := meta.Accessor(o)
		if err != nil {
			return
		}
		b.mu.Lock()
		s := b.sandboxes[either(m.GetAnnotations()[LabelSandbox], m.GetLabels()[LabelSandbox])]
		b.mu.Unlock()
		if s != nil {
			b.tellAddress(s, exposure{})
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: look, UpdateFunc: func(_, o any) { look(o) }}
	if b.exposed == nil {
		b.exposed = b.watch(b.cluster.core, services, b.ownObjects(), &corev1.Service{}, trimService, handler)
	}
	if b.routes == nil && pod.Annotations[AnnotationRoute] != "" {
		b.routes = b.watch(b.cluster.network, ingresses, b.ownObjects(), &networkingv1.Ingress{}, trimIngress, handler)
	}
	if b.httpRoutes == nil && pod.Annotations[AnnotationHTTPRoute] != "" {
		b.httpRoutes = b.watch(b.cluster.gateway, gatewayapi.HTTPRoutes, b.ownObjects(), &gatewayapi.HTTPRoute{}, trimRoute, handler)
		again := cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { b.lookRouted() }, DeleteFunc: func(any) { b.lookRouted() }, UpdateFunc: func(was, now any) {
				if !reflect.DeepEqual(statusOf(was), statusOf(now)) { // It changes with every route.
					b.lookRouted()
				}
			},
		}
		b.gateways = b.watch(b.cluster.gateway, gatewayapi.Gateways, "", &gatewayapi.Gateway{}, trimGateway, again)
		synced := b.gateways.controller.HasSyncedChecker().Done()
		b.work.Go(func() {
			select { // There may be none.
			case <-synced:
				b.lookRouted()
			case <-b.ctx.Done():
			}
		})
	}
}

func statusOf(gateway any) gatewayapi.GatewayStatus {
	if g, ok := gateway.(*gatewayapi.Gateway); ok {
		return g.Status
	}
	return gatewayapi.GatewayStatus{}
}

// lookRouted looks again at where sandboxes with an HTTPRoute are reached: a Gateway is not what it was.
func (b *Backend) lookRouted() {
	b.mu.Lock()
	all := make([]*sandbox, 0, len(b.sandboxes))
	for _, s := range b.sandboxes {
		all = append(all, s)
	}
	b.mu.Unlock()
	for _, s := range all {
		if pod := s.podNow(); pod != nil && pod.Annotations[AnnotationHTTPRoute] != "" {
			b.tellAddress(s, exposure{})
		}
	}
}
