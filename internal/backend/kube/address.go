package kube

import (
	"encoding/json"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
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

// tellAddress makes where a sandbox is reached part of what is observed of it, if that is something else than before. The store is asked first: it is
// newer than what the API server answered when the Service was made.
func (b *Backend) tellAddress(s *sandbox, answer *corev1.Service) {
	b.mu.Lock()
	w := b.exposed
	b.mu.Unlock()
	found := answer
	if w != nil {
		if o, ok, err := w.store.GetByKey(cache.ObjectName{Namespace: s.namespace, Name: s.name}.String()); err == nil && ok {
			found, _ = o.(*corev1.Service)
		}
	}
	pod := s.podNow()
	if found == nil || pod == nil {
		return
	}
	now := addressOf(pod.Annotations[AnnotationIngress], found, pod)
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

// answered reads what the API server answered to a Service, nil for what is none.
func answered(body []byte) *corev1.Service {
	s := &corev1.Service{}
	if json.Unmarshal(body, s) != nil || s.Name == "" {
		return nil
	}
	return s
}

// watchExposed begins to follow Services, once one sandbox has one: most runners need no permission to.
func (b *Backend) watchExposed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.exposed != nil || b.closed {
		return
	}
	look := func(o any) {
		svc, ok := o.(*corev1.Service)
		if !ok {
			return
		}
		b.mu.Lock()
		s := b.sandboxes[either(svc.Annotations[LabelSandbox], svc.Labels[LabelSandbox])]
		b.mu.Unlock()
		if s != nil {
			b.tellAddress(s, nil)
		}
	}
	b.exposed = b.watch(b.cluster.core, services, b.ownObjects(), &corev1.Service{}, trimService, cache.ResourceEventHandlerFuncs{
		AddFunc: look, UpdateFunc: func(_, o any) { look(o) },
	})
}

// trimService keeps of a Service what an address is made of.
func trimService(object any) (any, error) {
	s, ok := object.(*corev1.Service)
	if !ok {
		return object, nil
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: s.Name, Namespace: s.Namespace, UID: s.UID, ResourceVersion: s.ResourceVersion,
			Labels: keep(s.Labels, LabelSandbox), Annotations: keep(s.Annotations, LabelSandbox),
		},
		Spec:   corev1.ServiceSpec{Type: s.Spec.Type, ClusterIP: s.Spec.ClusterIP, Ports: s.Spec.Ports},
		Status: corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer},
	}, nil
}
