//go:build cluster

package kube_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core/fault"
)

// routed is a work that exposes port 8080 at the Gateway "edge" of the namespace "gateways".
func routed(t *testing.T, id string) *backend.Work {
	w := exposing(t, id, "ClusterIP")
	mode := w.Spec.Network.Ingress.Modes["m"]
	mode.ExpectsExternalAddress = true
	mode.Ingress = &specpb.IngressRoute{Template: "{{.SandboxID}}.sandboxes.example", Gateway: &specpb.IngressGateway{Name: "edge", Namespace: "gateways"}}
	return w
}

// gatewayCRDs installs what the Gateway API is made of, and returns how it is removed.
func gatewayCRDs(t *testing.T) func() {
	t.Helper()
	dir := os.Getenv("BERM_GATEWAY_API")
	if dir == "" {
		t.Fatal("BERM_GATEWAY_API is not set: test/cluster/kube.sh says where the resources of the Gateway API are")
	}
	var files []string
	for _, kind := range []string{"gatewayclasses", "gateways", "httproutes"} {
		files = append(files, "-f", dir+"/gateway.networking.k8s.io_"+kind+".yaml")
	}
	kubectl(t, "", append([]string{"create"}, files...)...)
	installed := true
	remove := func() {
		if installed {
			installed = false
			kubectl(t, "", append([]string{"delete"}, files...)...)
		}
	}
	t.Cleanup(remove)
	kubectl(t, "", append([]string{"wait", "--for=condition=Established", "--timeout=2m"}, files...)...)
	return remove
}

// ruling is what a controller writes of a route, here the test.
func ruling(t *testing.T, id, accepted, reason, message string) {
	t.Helper()
	generation := kubectl(t, "", "-n", "org-ns-org-fault", "get", "httproute", "sandbox-"+id, "-o", "jsonpath={.metadata.generation}")
	condition := func(name, status, reason, message string) string {
		return fmt.Sprintf(`{"type":%q,"status":%q,"reason":%q,"message":%q,"lastTransitionTime":"2026-01-01T00:00:00Z","observedGeneration":%s}`, name, status, reason, message, generation)
	}
	kubectl(t, "", "-n", "org-ns-org-fault", "patch", "httproute", "sandbox-"+id, "--subresource=status", "--type=merge", "-p",
		`{"status":{"parents":[{"controllerName":"example.test/edge","parentRef":{"group":"gateway.networking.k8s.io","kind":"Gateway","namespace":"gateways","name":"edge"},"conditions":[`+
			condition("Accepted", accepted, reason, message)+","+condition("ResolvedRefs", "True", "ResolvedRefs", "")+`]}]}}`)
}

// TestNetworkGateway: a mode with a Gateway is refused where there is no such thing. Where there is, the API server takes the HTTPRoute as it was
// meant, and its host is told once the controller, here the test, has taken it and the Gateway has an address; until then, why not.
func TestNetworkGateway(t *testing.T) {
	b, cfg := world(t, nil)
	w := routed(t, "gated")
	refused(t, b, w)
	remove := gatewayCRDs(t)
	eventually(t, "the runner sees that there are HTTPRoutes", func() bool { return b.Check(w) == nil })
	if o := begin(t, b, w); o.Service == nil || o.Service.Address != "" || len(o.Service.Ports) != 1 || o.Service.Ports[0].ContainerPort != 8080 {
		t.Fatalf("before there is a Gateway it is reached at %+v", o.Service)
	}
	got := kubectl(t, "", "-n", "org-ns-org-fault", "get", "httproute", "sandbox-gated", "-o",
		"jsonpath={.spec.parentRefs[*].namespace} {.spec.parentRefs[*].name} {.spec.hostnames[*]} {.spec.rules[*].backendRefs[*].name} {.spec.rules[*].backendRefs[*].port}")
	if got != "gateways edge gated.sandboxes.example sandbox-gated 8080" {
		t.Errorf("the HTTPRoute is %s", got)
	}
	problem := func(what, part string) {
		t.Helper()
		seen(t, b)("gated", what, func(o *backend.Observation) bool {
			return o.Service.Address == "" && strings.Contains(o.Service.Problem, part) && (part != "" || o.Service.Problem == "")
		})
	}
	problem("it is said that there is no Gateway", "the cluster has no Gateway gateways/edge")
	kubectl(t, `{"apiVersion": "v1", "kind": "List", "items": [
		{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gateways"}},
		{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge", "namespace": "gateways"},
			"spec": {"gatewayClassName": "nobody", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}]}`, "create", "-f", "-")
	t.Cleanup(func() { kubectl(t, "", "delete", "namespace", "gateways", "--wait=false") })
	problem("there is one", "")
	ruling(t, "gated", "False", "NotAllowedByListeners", "routes of that namespace are not allowed")
	problem("the controller's words are told", "example.test/edge says of the route: Accepted is False: NotAllowedByListeners: routes of that namespace are not allowed")
	ruling(t, "gated", "True", "Accepted", "")
	problem("the controller takes it, and there is no address yet", "")
	kubectl(t, "", "-n", "gateways", "patch", "gateway", "edge", "--subresource=status", "--type=merge", "-p", `{"status":{"addresses":[{"type":"IPAddress","value":"198.51.100.9"}]}}`)
	reached := func(o *backend.Observation) bool {
		return o.Service != nil && o.Service.Address == "gated.sandboxes.example" && o.Service.Problem == "" && runs(o)
	}
	o := seen(t, b)("gated", "its host is told", reached)
	rerouted(t, b, o)
	problem("what was said of the route as it was does not count", "")
	ruling(t, "gated", "True", "Accepted", "")
	// A runner that was started anew finds the address again.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, cfg)
	t.Cleanup(func() { _ = again.Close() })
	seen(t, again)("gated", "its host is known", reached)
	if err := again.Check(w); err != nil {
		t.Error(err)
	}
	withdrawn(t, again, "gated")
	if left := kubectl(t, "", "-n", "org-ns-org-fault", "get", "httproutes", "-o", "name"); left != "" {
		t.Errorf("left is %s", left)
	}
	// The runner has no reason to believe that they are gone until one is not taken.
	remove()
	w = routed(t, "gated-late")
	eventually(t, "there are no HTTPRoutes any more", func() bool {
		return !strings.Contains(kubectl(t, "", "get", "--raw", "/apis"), "gateway.networking.k8s.io")
	})
	if err := again.Create(t.Context(), w); !fault.HasReason(err, fault.ReasonBackendUnsupported) || !strings.Contains(err.Error(), "HTTPRoute") {
		t.Errorf("without HTTPRoutes: %v", err)
	}
	refused(t, again, w)
}

// refused makes sure that a cluster without the Gateway API refuses a work with a Gateway before anything is made.
func refused(t *testing.T, b *kube.Backend, w *backend.Work) {
	t.Helper()
	const want = `mode "m" leads through Gateway edge, and the cluster does not serve httproutes of gateway.networking.k8s.io/v1`
	for what, err := range map[string]error{"check": b.Check(w), "create": b.Create(t.Context(), w)} {
		f := fault.From(err)
		if !fault.HasReason(err, fault.ReasonBackendUnsupported) || len(f.Fields) != 1 || f.Fields[0].Path != "network.ingress.selected" || !strings.Contains(f.Fields[0].Description, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if left := kubectl(t, "", "get", "services,pods", "-A", "-l", "berm.dev/sandbox-id="+w.SandboxID, "-o", "name"); left != "" {
		t.Errorf("left is %s", left)
	}
}

// rerouted leads the route of a sandbox elsewhere, and its Service to another port: the comparison shows both, and nothing that the API server
// fills in.
func rerouted(t *testing.T, b *kube.Backend, o *backend.Observation) {
	t.Helper()
	name := "sandbox-" + o.SandboxID
	drift := func() string {
		d, err := b.Drift(t.Context(), o.SandboxID, o.Submitted)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, f := range d.Fields {
			if !f.Filled && !strings.HasPrefix(f.Path, "spec.") && !strings.HasPrefix(f.Path, "metadata.") {
				lines = append(lines, fmt.Sprintf("%s %s %s -> %s %s", f.Kind, f.Path, f.Submitted, f.Held, f.By))
			}
		}
		return strings.Join(lines, "\n")
	}
	if got := drift(); got != "" {
		t.Errorf("nobody changed anything, and there is %s", got)
	}
	edit := func(kind, patch string) {
		kubectl(t, "", "-n", "org-ns-org-fault", "patch", kind, name, "--type=json", "-p", patch)
	}
	edit("httproute", `[{"op": "replace", "path": "/spec/hostnames/0", "value": "other.example"}]`)
	edit("service", `[{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 9090}]`)
	want := `changed httproute.spec.hostnames ["gated.sandboxes.example"] -> ["other.example"] kubectl-patch
changed service.spec.ports[8080].targetPort 8080 -> 9090 kubectl-patch`
	if got := drift(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	edit("httproute", `[{"op": "replace", "path": "/spec/hostnames/0", "value": "gated.sandboxes.example"}]`)
}
