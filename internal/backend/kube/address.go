package kube

import (
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
