package backend

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/core"
)

// TestExpose: what a mode and the ports of a request come to, and what of them only a cluster has.
func TestExpose(t *testing.T) {
	const web = `{"ports":[{"containerPort":80,"name":"web"},{"containerPort":90},{"containerPort":53,"protocol":"UDP"}],"exposedPorts":[80]}`
	ports := []core.ServicePort{{Name: "web", ContainerPort: 80, Protocol: "TCP"}}
	for name, c := range map[string]struct {
		mode, launch string
		want         *core.Service
		refused      string
	}{
		"everybody":          {`{"scope":"any","expectsExternalAddress":true,"service":{"serviceType":"ClusterIP"}}`, web, &core.Service{Mode: "m", Ports: ports, Through: core.AudiencePublic}, ""},
		"any":                {`{"scope":"any"}`, web, &core.Service{Mode: "m", Ports: ports, Through: core.AudienceTokens}, ""},
		"nothing said":       {`{}`, web, &core.Service{Mode: "m", Ports: ports, Through: core.AudienceTokens}, ""},
		"user":               {`{"scope":"user","expectsExternalAddress":true}`, web, &core.Service{Mode: "m", Ports: ports, Through: core.AudienceOrg}, ""},
		"org":                {`{"scope":"org"}`, web, &core.Service{Mode: "m", Ports: ports, Through: core.AudienceOrg}, ""},
		"profile":            {`{"scope":"profile"}`, web, &core.Service{Mode: "m", Ports: ports, Through: core.AudienceOrg}, ""},
		"nothing is exposed": {`{}`, `{"ports":[{"containerPort":80}]}`, nil, ""},
		"no mode":            {``, web, nil, ""},
		"a node's port":      {`{"service":{"serviceType":"NodePort"}}`, web, nil, "network.ingress.selected: mode \"m\" has a Service of type NodePort"},
		"a load balancer":    {`{"service":{"serviceType":"LoadBalancer"}}`, `{}`, nil, "say ClusterIP"},
		"a controller":       {`{"ingress":{"template":"{{.SandboxID}}.x"}}`, web, nil, "leave it out"},
		"datagrams":          {`{}`, strings.Replace(web, `"exposedPorts":[80]`, `"exposedPorts":[80,53]`, 1), nil, "network.exposed_ports[1]: 53 is declared for UDP"},
		"not declared":       {`{}`, `{"exposedPorts":[80]}`, nil, "network.exposed_ports[0]: 80 is not one of ports"},
	} {
		n, l := &specpb.Network{}, &specpb.Launch{}
		if c.mode != "" {
			if err := protojson.Unmarshal([]byte(`{"ingress":{"default":"m","modes":{"m":`+c.mode+`}}}`), n); err != nil {
				t.Fatal(err)
			}
		}
		if err := protojson.Unmarshal([]byte(c.launch), l); err != nil {
			t.Fatal(err)
		}
		got, refused := Expose(n, l)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		says := ""
		for _, f := range refused {
			says += f.Path + ": " + f.Description
		}
		if (says != "") != (c.refused != "") || !strings.Contains(says, c.refused) {
			t.Errorf("%s: refused %q", name, says)
		}
	}
	if _, refused := Expose(&specpb.Network{Ingress: &specpb.Ingress{Selected: new("x")}}, &specpb.Launch{}); len(refused) != 1 {
		t.Errorf("a mode that is not declared: %v", refused)
	}
}
