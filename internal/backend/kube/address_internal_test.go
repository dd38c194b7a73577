package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/bermhq/berm/internal/core"
)

// TestAddress: an address is told when it was assigned, and by whom the type of the Service says.
func TestAddress(t *testing.T) {
	web := corev1.ServicePort{Port: 8080, TargetPort: intstr.FromInt32(8080), Protocol: corev1.ProtocolTCP}
	names := corev1.ServicePort{Port: 53, TargetPort: intstr.FromInt32(53), Protocol: corev1.ProtocolUDP}
	atNode := web
	atNode.NodePort = 30080
	balanced := func(at ...corev1.LoadBalancerIngress) corev1.Service {
		return corev1.Service{
			Spec:   corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{web}},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: at}},
		}
	}
	for name, c := range map[string]struct {
		service corev1.Service
		pod     corev1.PodStatus
		address string
		port    int32
	}{
		"within":                {service: corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{web}}}, address: "10.96.0.7:8080", port: 8080},
		"six":                   {service: corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "fd00::7", Ports: []corev1.ServicePort{web}}}, address: "[fd00::7]:8080", port: 8080},
		"two ports":             {service: corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{web, names}}}, address: "10.96.0.7", port: 8080},
		"no node yet":           {service: corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{atNode}}}, port: 30080},
		"node":                  {service: corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{atNode}}}, pod: corev1.PodStatus{HostIP: "192.0.2.1"}, address: "192.0.2.1:30080", port: 30080},
		"no load balancer yet":  {service: balanced(), pod: corev1.PodStatus{HostIP: "192.0.2.1"}, port: 8080},
		"load balancer":         {service: balanced(corev1.LoadBalancerIngress{IP: "198.51.100.7"}), address: "198.51.100.7:8080", port: 8080},
		"load balancer by name": {service: balanced(corev1.LoadBalancerIngress{}, corev1.LoadBalancerIngress{IP: "198.51.100.7", Hostname: "lb.example"}), address: "lb.example:8080", port: 8080},
	} {
		t.Run(name, func(t *testing.T) {
			got := addressOf("public", &c.service, &corev1.Pod{Status: c.pod})
			want := &core.Service{Mode: "public", Address: c.address, Ports: []core.ServicePort{{ContainerPort: 8080, Port: c.port, Protocol: "TCP"}}}
			if len(got.Ports) == 2 {
				want.Ports = append(want.Ports, core.ServicePort{ContainerPort: 53, Port: 53, Protocol: "UDP"})
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
