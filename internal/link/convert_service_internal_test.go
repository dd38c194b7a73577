package link

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bermhq/berm/internal/core"
)

// TestService: where a sandbox is reached arrives as it was said, within bounds.
func TestService(t *testing.T) {
	said := &core.Service{
		Mode: "web", Address: "box.example", Through: core.AudienceOrg, Problem: "no Gateway",
		Ports: []core.ServicePort{{Name: "web", ContainerPort: 8080, Port: 30080, Protocol: "TCP"}},
	}
	if diff := cmp.Diff(said, serviceOf(serviceMessage(said))); diff != "" {
		t.Errorf("-said +arrived:\n%s", diff)
	}
	m := serviceMessage(said)
	m.Problem = strings.Repeat("x", 2*core.MaxEventText)
	if n := len(serviceOf(m).Problem); n > core.MaxEventText+len("…") {
		t.Errorf("a problem of %d bytes is kept", n)
	}
	m.Address = strings.Repeat("x", core.MaxServiceAddress+1)
	if got := serviceOf(m); got != nil {
		t.Errorf("an address that is too long is %+v", got)
	}
}
