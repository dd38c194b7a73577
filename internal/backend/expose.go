package backend

import (
	"fmt"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// Expose says how the gateway leads to the exposed ports of a work, for backends that have nothing else that does: nil without an ingress
// mode or without such ports, and the fields that only a cluster could honour. It is pure.
func Expose(n *specpb.Network, l *specpb.Launch) (*core.Service, []fault.Field) {
	name := n.GetIngress().GetSelected()
	if name == "" {
		name = n.GetIngress().GetDefault()
	}
	if name == "" {
		return nil, nil
	}
	mode, ok := n.GetIngress().GetModes()[name]
	ports, refused := exposedPorts(l)
	refuse := func(is bool, format string, args ...any) {
		if is {
			refused = append(refused, fault.Field{Path: "network.ingress.selected", Description: fmt.Sprintf(format, args...)})
		}
	}
	const override = "in an override of this runner's binding, and its gateway leads to the ports"
	refuse(!ok, "mode %q is not declared", name)
	typ := mode.GetService().GetServiceType()
	refuse(typ != "" && typ != "ClusterIP", "mode %q has a Service of type %s, which only a cluster gives; say ClusterIP "+override, name, typ)
	refuse(mode.GetIngress() != nil, "mode %q has an ingress of a cluster's controller; leave it out "+override+", each at a host of its own", name)
	if len(refused) > 0 || len(ports) == 0 {
		return nil, refused
	}
	return &core.Service{Mode: name, Ports: ports, Through: audience(mode)}, nil
}

// audience is who may come to the ports of a mode through the gateway. Nobody without a token comes unless the mode is for everybody and
// expects an address outside: what is open to all within a cluster is not for the internet.
func audience(m *specpb.IngressMode) core.Audience {
	switch {
	case m.GetScope() != "" && m.GetScope() != "any":
		return core.AudienceOrg
	case m.GetExpectsExternalAddress():
		return core.AudiencePublic
	}
	return core.AudienceTokens
}

// exposedPorts are the exposed ports of a request. The gateway carries TCP alone.
func exposedPorts(l *specpb.Launch) (out []core.ServicePort, refused []fault.Field) {
	for i, n := range l.GetExposedPorts() {
		at := fmt.Sprintf("network.exposed_ports[%d]", i)
		declared := false
		for _, p := range l.GetPorts() {
			if p.GetContainerPort() != n {
				continue
			}
			declared = true
			if proto := p.GetProtocol(); proto != "" && proto != "TCP" {
				refused = append(refused, fault.Field{Path: at, Description: fmt.Sprintf("%d is declared for %s, and this runner exposes TCP alone; leave it out, or name a runner on a cluster", n, proto)})
				continue
			}
			out = append(out, core.ServicePort{Name: p.GetName(), ContainerPort: n, Protocol: "TCP"})
		}
		if !declared {
			refused = append(refused, fault.Field{Path: at, Description: fmt.Sprintf("%d is not one of ports", n)})
		}
	}
	return out, refused
}
