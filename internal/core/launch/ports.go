package launch

import (
	"slices"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core/tree"
)

func (p *problems) ports(l *specpb.Launch) {
	ports := l.GetPorts()
	if !p.count("ports", len(ports), MaxPorts) || !p.count("network.exposed_ports", len(l.GetExposedPorts()), MaxPorts) {
		return
	}
	for i, port := range ports {
		at := index("ports", i)
		p.port(at+".container_port", port.GetContainerPort())
		switch port.GetProtocol() {
		case "", "TCP", "UDP", "SCTP":
		default:
			p.add(at+".protocol", "%s", tree.NoneOf(port.GetProtocol(), []string{"TCP", "UDP", "SCTP"}))
		}
		if name := port.GetName(); name != "" && !portName(name) {
			p.add(at+".name", "%q is not a port name: at most %d of a-z, 0-9 and -, with a letter", name, MaxPortName)
		}
		for _, other := range ports[:i] {
			if other.GetContainerPort() == port.GetContainerPort() && protocol(other) == protocol(port) {
				p.add(at, "port %d/%s is given twice", port.GetContainerPort(), protocol(port))
			}
			if port.GetName() != "" && other.GetName() == port.GetName() {
				p.add(at+".name", "%q is given twice", port.GetName())
			}
		}
	}
	for i, n := range l.GetExposedPorts() {
		at := index("network.exposed_ports", i)
		if !slices.ContainsFunc(ports, func(o *specpb.Port) bool { return o.GetContainerPort() == n }) {
			p.add(at, "%d is not one of ports: declare it there too", n)
		} else if slices.Contains(l.GetExposedPorts()[:i], n) {
			p.add(at, "%d is given twice", n)
		}
	}
}

func (p *problems) port(at string, n int32) {
	if n < 1 || n > 65535 {
		p.add(at, "%d is not between 1 and 65535", n)
	}
}

func protocol(p *specpb.Port) string {
	if p.GetProtocol() == "" {
		return "TCP"
	}
	return p.GetProtocol()
}

// portName reports whether Kubernetes takes the name for a port.
func portName(s string) bool {
	letter := false
	for i, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z':
			letter = true
		case c >= '0' && c <= '9':
		case c == '-' && i > 0 && i < len(s)-1 && s[i-1] != '-':
		default:
			return false
		}
	}
	return letter && len(s) <= MaxPortName
}
