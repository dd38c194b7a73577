package control

import "github.com/bermhq/berm/internal/core"

// visitor is the actor of whoever comes to an exposed port of another's sandbox.
const visitor = "visitor"

// Visitor returns whom a caller counts as at a port of a sandbox: a visitor of its organization, where the sandbox exposes the port to him,
// else himself. p is the zero value for a caller without a token; public says whether such a one may come at all.
func (s *Service) Visitor(p core.Principal, id string, port int32, public bool) core.Principal {
	s.live.look(id, func(e *liveSandbox) {
		to := e.row.Service
		if e.unwritten != nil && e.unwritten.Service != nil {
			to = e.unwritten.Service
		}
		if p.OrgID == e.row.OrgID || !to.Exposes(port) {
			return
		}
		known := p.OrgID != "" && (to.Through == core.AudienceTokens || to.Through == core.AudiencePublic)
		if known || public && to.Through == core.AudiencePublic {
			p = core.Principal{OrgID: e.row.OrgID, Actor: visitor, Role: core.RoleUser}
		}
	})
	return p
}

// addressed is a service with the address that the gateway gives it: the host of the first port. The others differ in their number.
func (s *Service) addressed(id string, to *core.Service) *core.Service {
	if to == nil || to.Through == "" || s.portHost == nil || len(to.Ports) == 0 {
		return to
	}
	out := *to
	out.Address = s.portHost(id, to.Ports[0].ContainerPort)
	return &out
}
