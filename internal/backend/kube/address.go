package kube

import (
	"encoding/json"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/core"
)

// addressOf says where a sandbox is reached, as far as its Service and its pod say. It is pure.
//
// A ClusterIP is assigned at once. A node port is open on every node; told is the one that the pod is on. A load balancer is told of once the
// cluster has it.
func addressOf(mode string, s *corev1.Service, pod *corev1.Pod) *core.Service {
	out := &core.Service{Mode: mode}
	nodePort := s.Spec.Type == corev1.ServiceTypeNodePort
	for _, p := range s.Spec.Ports {
		port := p.Port
		if nodePort {
			port = p.NodePort
		}
		out.Ports = append(out.Ports, core.ServicePort{ContainerPort: p.TargetPort.IntVal, Port: port, Protocol: string(p.Protocol)})
	}
	switch {
	case s.Spec.Type == corev1.ServiceTypeLoadBalancer:
		for _, at := range s.Status.LoadBalancer.Ingress {
			if out.Address = either(at.Hostname, at.IP); out.Address != "" {
				break
			}
		}
	case nodePort:
		out.Address = pod.Status.HostIP
	case s.Spec.ClusterIP != corev1.ClusterIPNone:
		out.Address = s.Spec.ClusterIP
	}
	if out.Address != "" && len(out.Ports) == 1 && out.Ports[0].Port != 0 {
		out.Address = net.JoinHostPort(out.Address, strconv.Itoa(int(out.Ports[0].Port)))
	}
	return out
}

// exposure is what a sandbox is reached by, as far as that is known.
type exposure struct {
	service *corev1.Service
	ingress *networkingv1.Ingress
}

// answered takes what the API server answered to an object of a sandbox.
func (e *exposure) answered(resource string, body []byte) {
	switch s, i := (&corev1.Service{}), (&networkingv1.Ingress{}); resource {
	case services:
		if json.Unmarshal(body, s) == nil {
			e.service = s
		}
	case ingresses:
		if json.Unmarshal(body, i) == nil {
			e.ingress = i
		}
	}
}

// address says where a sandbox is reached, nil while too little is known. The host of an Ingress leads to one port, at whatever port its
// controller listens.
func (e *exposure) address(pod *corev1.Pod) *core.Service {
	mode, routed := pod.Annotations[AnnotationIngress], pod.Annotations[AnnotationRoute] != ""
	if !routed && e.service != nil {
		return addressOf(mode, e.service, pod)
	}
	if !routed || e.ingress == nil || len(e.ingress.Spec.Rules) == 0 || e.ingress.Spec.Rules[0].HTTP == nil {
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

// tellAddress makes where a sandbox is reached part of what is observed of it, if that is something else than before. The stores are asked
// first: they are newer than what the API server answered when the objects were made.
func (b *Backend) tellAddress(s *sandbox, made exposure) {
	b.mu.Lock()
	exposed, routes := b.exposed, b.routes
	b.mu.Unlock()
	if o, ok := stored(exposed, s).(*corev1.Service); ok {
		made.service = o
	}
	if o, ok := stored(routes, s).(*networkingv1.Ingress); ok {
		made.ingress = o
	}
	pod := s.podNow()
	if pod == nil || pod.Annotations[AnnotationService] == "" {
		return
	}
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

// stored returns the object of a sandbox that is followed, nil for none.
func stored(w *watched, s *sandbox) any {
	if w == nil {
		return nil
	}
	o, _, _ := w.store.GetByKey(cache.ObjectName{Namespace: s.namespace, Name: s.name}.String())
	return o
}

// watchExposed begins to follow Services, and Ingresses, once one sandbox has one: most runners need no permission to.
func (b *Backend) watchExposed(routed bool) {
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
	if b.routes == nil && routed {
		b.routes = b.watch(b.cluster.network, ingresses, b.ownObjects(), &networkingv1.Ingress{}, trimIngress, handler)
	}
}

// trimMeta keeps what an object is found by.
func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Labels: keep(m.Labels, LabelSandbox), Annotations: keep(m.Annotations, LabelSandbox),
	}
}

// trimService keeps of a Service what an address is made of.
func trimService(object any) (any, error) {
	s, ok := object.(*corev1.Service)
	if !ok {
		return object, nil
	}
	return &corev1.Service{
		ObjectMeta: trimMeta(&s.ObjectMeta),
		Spec:       corev1.ServiceSpec{Type: s.Spec.Type, ClusterIP: s.Spec.ClusterIP, Ports: s.Spec.Ports},
		Status:     corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer},
	}, nil
}
