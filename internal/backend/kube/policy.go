package kube

import (
	"net/netip"
	"slices"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/bermhq/berm/internal/core/egress"
)

// LabelScope is on pods whose egress mode reaches others of the same user, organization or profile, and names which.
const LabelScope = "berm.dev/scope"

// AnnotationPolicy names the NetworkPolicy that was made for a pod.
const AnnotationPolicy = "berm.dev/network-policy"

// policyFor returns the NetworkPolicy of a sandbox: what its egress mode opens, nothing that begins elsewhere, but for the
// ports of its Service and for sandboxes of the same scope. Whether the cluster acts on it is another question.
//
// A policy has no order. What a mode closes inside of a range is taken out of it beforehand, and ports of name services are left out by
// naming all others. The pod's own node cannot be closed: Kubernetes lets it through whatever a policy says.
func policyFor(in PodInput, n Namespace, service *corev1.Service) (*networkingv1.NetworkPolicy, error) {
	if !in.Options.Network.Policies() {
		return nil, nil
	}
	p, err := egressPolicy(in)
	if err != nil {
		return nil, err
	}
	labels, annotations := ownMetadata(in)
	if service == nil {
		delete(annotations, AnnotationIngress)
	}
	out := &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: podName(in.SandboxID), Namespace: n.Name, Labels: labels, Annotations: annotations},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: ownSelector(labels)},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	}
	if open := openedBy(service); len(open) > 0 {
		rule := networkingv1.NetworkPolicyIngressRule{Ports: open}
		if _, mode := ingressMode(in); either(mode.GetScope(), scopeAny) != scopeAny {
			rule.From = []networkingv1.NetworkPolicyPeer{peersWith(callers(in, mode.GetScope()), n)}
		}
		out.Spec.Ingress = append(out.Spec.Ingress, rule)
	}
	if p.Type == egress.None {
		return out, nil
	}
	out.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{names()}
	if p.Type.Scoped() {
		peers := []networkingv1.NetworkPolicyPeer{scopePeers(scopeLabel(in, p.Type), n)}
		out.Spec.Egress = append(out.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: peers, Ports: withoutNames()})
		out.Spec.Ingress = append(out.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: peers})
		return out, nil
	}
	if blocks := blocksOf(p); len(blocks) > 0 {
		out.Spec.Egress = append(out.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: blocks, Ports: withoutNames()})
	}
	return out, nil
}

// openedBy are the ports of a Service.
func openedBy(service *corev1.Service) []networkingv1.NetworkPolicyPort {
	if service == nil {
		return nil
	}
	var out []networkingv1.NetworkPolicyPort
	for i := range service.Spec.Ports {
		p := &service.Spec.Ports[i]
		out = append(out, networkingv1.NetworkPolicyPort{Protocol: new(p.Protocol), Port: new(p.TargetPort)})
	}
	return out
}

// holdPod does what a pod itself needs for its egress mode: the labels and the annotation of its policy, and rules from within.
func holdPod(pod *corev1.Pod, in PodInput, policy *networkingv1.NetworkPolicy, service *corev1.Service) error {
	if policy == nil {
		return guardPod(&pod.Spec, in, service)
	}
	if pod.Spec.HostNetwork {
		return cannotHold().WithField(fragmentPath+".hostNetwork", "the pod would be in the network of its node, which no policy is about")
	}
	pod.Annotations[AnnotationPolicy] = policy.Name
	_, mode := egress.Selected(in.Spec.GetNetwork().GetEgress())
	if scope := scopeLabel(in, egress.Type(mode.GetType())); scope != "" {
		pod.Labels[LabelScope] = scope
	}
	return guardPod(&pod.Spec, in, service)
}

// scopeLabel is the value of LabelScope for a mode of a type, "" for one that reaches no others. Whoever has the same value is in the scope:
// both sides are in a mode of the same type.
func scopeLabel(in PodInput, t egress.Type) string {
	switch t {
	case egress.Org:
		return hashedName("org-", "scope", string(t), in.OrgID)
	case egress.User:
		return hashedName("user-", "scope", string(t), in.OrgID, in.UserID)
	case egress.Profile:
		return hashedName("profile-", "scope", string(t), in.OrgID, in.ProfileName)
	default:
		return ""
	}
}

// scopePeers are the pods of a scope. In namespaces that Berm made nobody else has pods; in one that was there, only it counts.
func scopePeers(scope string, n Namespace) networkingv1.NetworkPolicyPeer {
	return peersWith(map[string]string{LabelManagedBy: managedBy, LabelScope: scope}, n)
}

// peersWith are the pods with labels.
func peersWith(labels map[string]string, n Namespace) networkingv1.NetworkPolicyPeer {
	peer := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: labels}}
	if n.Create {
		peer.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{LabelManagedBy: managedBy}}
	}
	return peer
}

// names lets the resolver of the cluster be asked, by the labels that it has everywhere.
func names() networkingv1.NetworkPolicyEgressRule {
	r := networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{{
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: metav1.NamespaceSystem}},
		PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}},
	}}}
	for _, proto := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
		r.Ports = append(r.Ports, networkingv1.NetworkPolicyPort{Protocol: &proto, Port: new(intstr.FromInt32(egress.PortDNS))})
	}
	return r
}

// withoutNames are all ports but those of name services, of the protocols that modes let through and policies know.
func withoutNames() []networkingv1.NetworkPolicyPort {
	const last = 65535
	var out []networkingv1.NetworkPolicyPort
	for _, proto := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		from := int32(1)
		for _, skip := range []int32{egress.PortDNS, egress.PortDNSOverTLS, last + 1} {
			out = append(out, networkingv1.NetworkPolicyPort{Protocol: &proto, Port: new(intstr.FromInt32(from)), EndPort: new(skip - 1)})
			from = skip + 1
		}
	}
	return out
}

// blocksOf are the ranges that the rules of a policy open, each without what an earlier rule closes in it.
func blocksOf(p *egress.Policy) []networkingv1.NetworkPolicyPeer {
	_, opened := p.Opened()
	if p.Rules[len(p.Rules)-1].Allow { // internet: everything that no rule closes.
		var closed netipx.IPSetBuilder
		for i := range p.Rules {
			for _, r := range p.Rules[i].Ranges {
				closed.AddPrefix(r)
			}
		}
		set, err := closed.IPSet()
		if err != nil {
			return nil
		}
		return []networkingv1.NetworkPolicyPeer{without(netip.MustParsePrefix("0.0.0.0/0"), set), without(netip.MustParsePrefix("::/0"), set)}
	}
	var out []networkingv1.NetworkPolicyPeer
	for _, r := range opened.Prefixes() {
		if !r.Addr().Is4In6() {
			out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: r.String()}})
		}
	}
	return out
}

// without is a family without a set of addresses.
func without(all netip.Prefix, closed *netipx.IPSet) networkingv1.NetworkPolicyPeer {
	block := &networkingv1.IPBlock{CIDR: all.String()}
	for _, r := range closed.Prefixes() {
		if r.Addr().Is4() == all.Addr().Is4() && !r.Addr().Is4In6() { // Kubernetes takes no IPv4 in the form of IPv6.
			block.Except = append(block.Except, r.String())
		}
	}
	slices.Sort(block.Except)
	return networkingv1.NetworkPolicyPeer{IPBlock: block}
}
