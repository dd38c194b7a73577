package kube

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/fault"
)

// AnnotationService names the Service that was made for a pod.
const AnnotationService = "berm.dev/service"

// services is the name of the resource of Services.
const services = "services"

// scopeAny is the scope of an ingress mode that lets everybody connect.
const scopeAny = "any"

// ingressMode returns the ingress mode in force, nil for none.
func ingressMode(in PodInput) (string, *specpb.IngressMode) {
	ingress := in.Spec.GetNetwork().GetIngress()
	name := either(ingress.GetSelected(), ingress.GetDefault())
	return name, ingress.GetModes()[name]
}

// serviceFor returns the Service of a sandbox: nil without an ingress mode, or without ports that are to be exposed.
//
// It is made before the pod, as everything that a sandbox has besides: a runner that dies between the two makes both again, and one that the
// cluster refuses leaves no pod that runs. So it has no owner, which would have to be the pod, and is deleted by name.
func serviceFor(in PodInput, n Namespace) (*corev1.Service, error) {
	name, mode := ingressMode(in)
	if name == "" {
		return nil, nil
	}
	typ := corev1.ServiceType(either(mode.GetService().GetServiceType(), string(corev1.ServiceTypeClusterIP)))
	e := fault.Preconditionf(fault.ReasonBackendUnsupported, "Kubernetes cannot expose the ports of this sandbox")
	refuse := func(is bool, format string, args ...any) {
		if is {
			e.WithField("network.ingress.selected", format, args...)
		}
	}
	refuse(mode == nil, "mode %q is not declared", name)
	if scoped := either(mode.GetScope(), scopeAny) != scopeAny; scoped {
		refuse(!in.Options.Network.Policies(), "mode %q is for the scope %q, which only network policies can hold connections to (--kube-network); choose %s", name, mode.GetScope(), scopeAny)
		refuse(typ != corev1.ServiceTypeClusterIP || mode.GetIngress() != nil, "mode %q is for the scope %q, and what comes through a node or a controller is of nobody; choose ClusterIP without ingress", name, mode.GetScope())
		refuse(len(callers(in, mode.GetScope())) == 0, "mode %q is for the scope %q, which this sandbox is in none of", name, mode.GetScope())
	}
	refuse(mode.GetExpectsExternalAddress() && typ != corev1.ServiceTypeLoadBalancer && mode.GetIngress() == nil,
		"mode %q expects an address outside of the cluster, which a Service of type %s does not get; choose LoadBalancer, or give it an ingress", name, typ)
	ports, err := servicePorts(in.Launch)
	if err != nil {
		e.Fields = append(e.Fields, fault.From(err).Fields...)
	}
	if len(e.Fields) > 0 {
		return nil, e
	}
	if len(ports) == 0 {
		return nil, nil
	}
	labels, annotations := ownMetadata(in)
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Name: podName(in.SandboxID), Namespace: n.Name, Labels: labels, Annotations: annotations},
		Spec:       corev1.ServiceSpec{Type: typ, Selector: ownSelector(labels), Ports: ports},
	}, nil
}

// callers are the labels of those who may connect in a scope, which only Berm sets; nil where the scope is nobody's. Whether they may leave
// their own pod is their egress mode's to say.
func callers(in PodInput, scope string) map[string]string {
	labels, _ := ownMetadata(in)
	keys := []string{LabelManagedBy, LabelOrg}
	switch scope {
	case "org":
	case "user":
		keys = append(keys, LabelUser)
	case "profile":
		keys = append(keys, LabelProfile)
	default:
		return nil
	}
	out := keep(labels, keys...)
	if len(out) < len(keys) {
		return nil
	}
	return out
}

// ownSelector selects the pod of a sandbox by labels that only Berm sets.
func ownSelector(labels map[string]string) map[string]string {
	return keep(labels, LabelSandbox, LabelRunner)
}

// servicePorts are the exposed ports of a request. A number that is declared for TCP and UDP is exposed for both.
func servicePorts(l *specpb.Launch) ([]corev1.ServicePort, error) {
	var out []corev1.ServicePort
	e := fault.Invalidf(fault.ReasonFieldInvalid, "ports cannot be exposed")
	for i, n := range l.GetExposedPorts() {
		at := "network.exposed_ports[" + strconv.Itoa(i) + "]"
		was := len(out)
		for _, p := range l.GetPorts() {
			proto := corev1.Protocol(either(p.GetProtocol(), string(corev1.ProtocolTCP)))
			switch {
			case p.GetContainerPort() != n:
			case proto == corev1.ProtocolSCTP:
				e.WithField(at, "%d is declared for SCTP, which no network mode lets through", n)
			default:
				// Names are not those of the request, which need not be there for each.
				out = append(out, corev1.ServicePort{
					Name: strings.ToLower(string(proto)) + "-" + strconv.Itoa(int(n)), Port: n, TargetPort: intstr.FromInt32(n), Protocol: proto,
				})
			}
		}
		if len(out) == was && len(e.Fields) == 0 {
			e.WithField(at, "%d is not one of ports", n)
		}
	}
	if len(e.Fields) > 0 {
		return nil, e
	}
	return out, nil
}

// exposedBy are the ports of one protocol that a Service exposes, nil for no Service.
func exposedBy(s *corev1.Service, proto corev1.Protocol) []uint16 {
	var out []uint16
	if s == nil {
		return nil
	}
	for _, p := range s.Spec.Ports {
		if p.Protocol == proto {
			out = append(out, uint16(p.Port)) //nolint:gosec // a port
		}
	}
	slices.Sort(out)
	return out
}
