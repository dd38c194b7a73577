package kube

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/bermhq/berm/internal/core/egress"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/podguard"
)

// Capabilities of networks, as a container has them.
const (
	capNetAdmin corev1.Capability = "NET_ADMIN"
	capNetRaw   corev1.Capability = "NET_RAW"
)

// guardPod has the pod's network held to the egress mode from within: the init container writes the rules, before anything else of the pod
// runs, and no container of the sandbox has the right to change them, or to send what they do not see. Packet sockets are that: what
// goes out through them passes no rule.
func guardPod(pod *corev1.PodSpec, in PodInput, service *corev1.Service) error {
	policy, err := guardPolicy(in)
	if err != nil || policy == nil {
		return err
	}
	if err := checkGuarded(pod, policy.Mode); err != nil {
		return err
	}
	init := &pod.InitContainers[slices.IndexFunc(pod.InitContainers, func(c corev1.Container) bool { return c.Name == InitContainer })]
	for _, r := range GuardRules(policy) {
		init.Command = append(init.Command, r.String())
	}
	for _, in := range []podguard.Rule{
		{Allow: true, Kind: podguard.InboundTCP, Ports: exposedBy(service, corev1.ProtocolTCP)},
		{Allow: true, Kind: podguard.InboundUDP, Ports: exposedBy(service, corev1.ProtocolUDP)},
	} {
		if len(in.Ports) > 0 {
			init.Command = append(init.Command, in.String())
		}
	}
	init.Env = append(init.Env, corev1.EnvVar{Name: podguard.NodeEnv, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.hostIPs"}}})
	init.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	root := int64(0)
	s := init.SecurityContext
	s.RunAsUser, s.RunAsGroup, s.RunAsNonRoot = &root, &root, new(false)
	s.Capabilities.Add = []corev1.Capability{capNetAdmin, "SETGID", "SETUID"} // The last two to give the first up.
	for i := range pod.InitContainers {
		if pod.InitContainers[i].Name != InitContainer {
			takeNetwork(&pod.InitContainers[i])
		}
	}
	for i := range pod.Containers {
		takeNetwork(&pod.Containers[i])
	}
	return nil
}

// guardPolicy returns the policy that a pod is held to from within, nil for none: which pods are of a scope changes while the sandbox runs,
// and rules in its pod do not.
func guardPolicy(in PodInput) (*egress.Policy, error) {
	if !in.Options.Network.Guards() {
		return nil, nil
	}
	p, err := egressPolicy(in)
	if err != nil || p.Type.Scoped() {
		return nil, err
	}
	return p, nil
}

func cannotHold() *fault.Error {
	return fault.Preconditionf(fault.ReasonBackendUnsupported, "Kubernetes cannot hold this sandbox to its network mode")
}

// inPod says whether a volume is the cluster's to give, and leads nowhere that its fragment names: no file of the node, and no server that
// the node connects to, in its own network.
func inPod(s *corev1.VolumeSource) bool {
	return *s == corev1.VolumeSource{} || s.EmptyDir != nil || s.Secret != nil || s.ConfigMap != nil || s.DownwardAPI != nil || s.Projected != nil ||
		s.PersistentVolumeClaim != nil || s.Ephemeral != nil || s.Image != nil
}

// checkGuarded refuses a pod in which the rules would not be the pod's, or could be undone.
func checkGuarded(pod *corev1.PodSpec, mode string) error {
	e := cannotHold()
	bad := func(is bool, path, why string) {
		if is {
			e.WithField(fragmentPath+"."+path, "%s, so that the rules of egress mode %q would not hold", why, mode)
		}
	}
	bad(pod.HostNetwork, "hostNetwork", "the pod would be in the network of its node")
	// The pod's resolvers are open for questions, whatever else is closed.
	bad(pod.DNSConfig != nil && len(pod.DNSConfig.Nameservers) > 0, "dnsConfig.nameservers", "the pod would ask servers of the profile's choice")
	for i := range pod.Volumes {
		bad(!inPod(&pod.Volumes[i].VolumeSource), "volumes["+pod.Volumes[i].Name+"]", "its node would open a file, or a connection, for the pod")
	}
	check := func(list string, all []corev1.Container) {
		for i := range all {
			s := all[i].SecurityContext
			if all[i].Name == InitContainer || s == nil {
				continue
			}
			path := list + "[" + all[i].Name + "].securityContext"
			bad(s.Privileged != nil && *s.Privileged, path+".privileged", "the container would have all rights")
			if s.Capabilities == nil {
				continue
			}
			for _, add := range s.Capabilities.Add {
				bad(!usual(add), path+".capabilities.add["+string(add)+"]", "the container would have a right that may undo them")
			}
		}
	}
	check("initContainers", pod.InitContainers)
	check("containers", pod.Containers)
	if len(e.Fields) > 0 {
		return e
	}
	return nil
}

// takeNetwork takes the rights over networks from a container that it would have by default.
func takeNetwork(c *corev1.Container) {
	if c.SecurityContext == nil {
		c.SecurityContext = &corev1.SecurityContext{}
	}
	if c.SecurityContext.Capabilities == nil {
		c.SecurityContext.Capabilities = &corev1.Capabilities{}
	}
	s := c.SecurityContext.Capabilities
	if slices.Contains(s.Drop, "ALL") {
		return
	}
	for _, drop := range []corev1.Capability{capNetAdmin, capNetRaw} {
		if !slices.Contains(s.Drop, drop) {
			s.Drop = append(s.Drop, drop)
		}
	}
}

// GuardRules transcribes a policy into rules for the pod itself. What the policy could not know, the node and the pod's link, is closed
// where it stands in the order of classes; what opens a part of these is never told of.
func GuardRules(p *egress.Policy) []podguard.Rule {
	var out []podguard.Rule
	node, link := p.Type == egress.None, p.Type == egress.None // Nothing is open there.
	for i := range p.Rules {
		r := &p.Rules[i]
		within := r.Kind == egress.KindRanges
		if within && !node && r.Class != egress.ClassDenied && r.Class != egress.ClassMetadata {
			out, node = append(out, podguard.Rule{Kind: podguard.Node}), true
		}
		if !link && (within && r.Class == "" || r.Kind == egress.KindAny) {
			out, link = append(out, podguard.Rule{Kind: podguard.Link}), true
		}
		g := podguard.Rule{Allow: r.Allow, Ports: r.Ports, Ranges: r.Ranges}
		switch r.Kind {
		case egress.KindResolver:
			g.Kind = podguard.Resolver
		case egress.KindPorts:
			g.Kind = podguard.Ports
		case egress.KindProtocols:
			g.Kind = podguard.Protocols
		case egress.KindRanges:
			g.Kind, g.Label = podguard.Ranges, string(r.Class)
		case egress.KindAny:
			g.Kind = podguard.Any
		default:
			continue // A scope or a name, which guarded refuses: what is not let through is refused.
		}
		out = append(out, g)
	}
	return out
}
