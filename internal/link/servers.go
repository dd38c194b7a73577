package link

import (
	"net"
	"slices"
	"strings"

	linkv1 "github.com/bermhq/berm/gen/berm/link/v1"
)

// Server is one of the servers that are a gateway together.
type Server struct {
	ID string
	// Address is the HOST:PORT where it is reached, and no other.
	Address string
}

// ServersMessage makes a message of servers; self is the one that says so.
func ServersMessage(self string, all []Server) *linkv1.Servers {
	out := &linkv1.Servers{Self: self, Servers: make([]*linkv1.Server, len(all))}
	for i, s := range all {
		out.Servers[i] = &linkv1.Server{Id: s.ID, Address: s.Address}
	}
	return out
}

// ServersOf reads what ServersMessage made. What cannot be a server is left out.
func ServersOf(m *linkv1.Servers) (self string, all []Server) {
	for _, s := range m.GetServers() {
		host, port, err := net.SplitHostPort(s.GetAddress())
		if err == nil && host != "" && port != "" && s.GetId() != "" && max(len(s.GetId()), len(s.GetAddress())) <= MaxAddress {
			all = append(all, Server{ID: s.GetId(), Address: s.GetAddress()})
		}
	}
	slices.SortFunc(all, func(a, b Server) int { return strings.Compare(a.ID, b.ID) })
	all = slices.CompactFunc(all, func(a, b Server) bool { return a.ID == b.ID })
	return m.GetSelf(), all[:min(len(all), MaxServers)]
}
