package link

import (
	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
	"github.com/bermhq/berm/internal/core"
)

// serviceMessage returns where a sandbox is reached, nil for nothing known.
func serviceMessage(s *core.Service) *linkv1.Service {
	if s == nil {
		return nil
	}
	out := &linkv1.Service{Mode: s.Mode, Address: s.Address, Through: string(s.Through), Problem: core.ClipText(s.Problem)}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, &linkv1.ServicePort{Name: p.Name, ContainerPort: p.ContainerPort, Port: p.Port, Protocol: p.Protocol})
	}
	return out
}

// serviceOf is the reverse. What no honest runner says is not told of: an address that is cut off would be another.
func serviceOf(m *linkv1.Service) *core.Service {
	if m == nil || len(m.GetMode()) > maxIDText || len(m.GetThrough()) > maxIDText || len(m.GetAddress()) > core.MaxServiceAddress || len(m.GetPorts()) > core.MaxServicePorts {
		return nil
	}
	const lastPort = 65535
	out := &core.Service{Mode: m.GetMode(), Address: m.GetAddress(), Through: core.Audience(m.GetThrough()), Problem: core.ClipText(m.GetProblem())}
	for _, p := range m.GetPorts() {
		if len(p.GetName()) > maxIDText || len(p.GetProtocol()) > maxIDText || p.GetContainerPort() < 1 || p.GetContainerPort() > lastPort || p.GetPort() < 0 || p.GetPort() > lastPort {
			return nil
		}
		out.Ports = append(out.Ports, core.ServicePort{
			Name: p.GetName(), ContainerPort: p.GetContainerPort(), Port: p.GetPort(), Protocol: p.GetProtocol(),
		})
	}
	return out
}
