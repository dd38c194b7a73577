package core

import "slices"

// Limits of a Service.
const (
	// MaxServiceAddress is the longest address, in bytes; MaxServicePorts is how many ports one has at most.
	MaxServiceAddress = 512
	MaxServicePorts   = 64
)

// Service is where the exposed ports of a sandbox are reached, as its backend saw it. Nothing is in it that was not assigned.
type Service struct {
	// Mode is the ingress mode that it came from.
	Mode string `json:"mode,omitempty"`
	// Address is a host, or a host and a port; empty until one is assigned.
	Address string        `json:"address,omitempty"`
	Ports   []ServicePort `json:"ports,omitempty"`
	// Through is set where the gateway itself leads to the ports, and says to whom besides those who may connect to any port. Its address is
	// then the gateway's to tell, and not stored.
	Through Audience `json:"through,omitempty"`
	// Problem is what keeps the ports from being reached at an address, in the words of what should lead there; empty while it says nothing.
	Problem string `json:"problem,omitempty"`
}

// Audience is who may come to exposed ports through the gateway.
type Audience string

// The audiences.
const (
	// AudienceOrg: nobody besides.
	AudienceOrg Audience = "org"
	// AudienceTokens: whoever has a valid token, of any organization.
	AudienceTokens Audience = "tokens"
	// AudiencePublic: everybody, where a browser tells the port from every other one; elsewhere as AudienceTokens.
	AudiencePublic Audience = "public"
)

// Exposes reports whether a port is one of those exposed through the gateway.
func (s *Service) Exposes(port int32) bool {
	return s != nil && s.Through != "" && slices.ContainsFunc(s.Ports, func(p ServicePort) bool { return p.ContainerPort == port })
}

// ServicePort is one exposed port.
type ServicePort struct {
	Name string `json:"name,omitempty"`
	// ContainerPort is the sandbox's own, Port where it is reached at the address; 0 while that is not known.
	ContainerPort int32 `json:"containerPort"`
	Port          int32 `json:"port,omitempty"`
	// Protocol is TCP or UDP.
	Protocol string `json:"protocol"`
}

// Equal reports whether two say the same; either may be nil.
func (s *Service) Equal(o *Service) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.Mode == o.Mode && s.Address == o.Address && s.Through == o.Through && s.Problem == o.Problem && slices.Equal(s.Ports, o.Ports)
}
