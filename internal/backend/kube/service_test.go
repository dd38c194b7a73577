//go:build cluster

package kube_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core/fault"
)

// exposing is a work that exposes port 8080 of two, by a Service of a type.
func exposing(t *testing.T, id, typ string) *backend.Work {
	w := job(t, id, "sleep", "infinity")
	w.Spec.Network = &specpb.Network{Ingress: &specpb.Ingress{Default: proto.String("m"), Modes: map[string]*specpb.IngressMode{
		"m": {Scope: "any", Service: &specpb.IngressService{ServiceType: typ}, ExpectsExternalAddress: typ == "LoadBalancer"},
	}}}
	w.Launch.Ports, w.Launch.ExposedPorts = []*specpb.Port{{ContainerPort: 8080}, {ContainerPort: 9090}}, []int32{8080}
	return w
}

// begin makes a sandbox and waits until it runs.
func begin(t *testing.T, b *kube.Backend, w *backend.Work) *backend.Observation {
	t.Helper()
	if err := b.Create(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	o := seen(t, b)(w.SandboxID, "it runs", func(o *backend.Observation) bool { return runs(o) || over(o) })
	if over(o) {
		t.Fatalf("it ended: %s: %s", o.Reason, o.Message)
	}
	return o
}

// withdrawn ends a sandbox, whose Service goes with it.
func withdrawn(t *testing.T, b *kube.Backend, id string) {
	t.Helper()
	clear(t, b, id)
	if left := kubectl(t, "", "-n", "org-ns-org-fault", "get", "services,ingresses", "-o", "name", "-l", "berm.dev/sandbox-id="+id); left != "" {
		t.Errorf("left is %s", left)
	}
}

// TestNetworkExposed: what a sandbox exposes is reached by the address of its Service, and with rules in the pod nothing else of it is.
func TestNetworkExposed(t *testing.T) {
	free, _ := world(t, func(c *kube.Config) { c.RunnerName = "exposed-caller" })
	launch(t, free, "exposed-caller", nil)
	b, cfg := world(t, guarded)
	o := begin(t, b, exposing(t, "exposed", "ClusterIP"))
	ip, port, _ := strings.Cut(o.Service.Address, ":")
	if o.Service.Mode != "m" || port != "8080" || ip != kubectl(t, "", "-n", "org-ns-org-fault", "get", "service", "sandbox-exposed", "-o", "jsonpath={.spec.clusterIP}") {
		t.Fatalf("it is reached at %+v", o.Service)
	}
	for _, port := range []string{"8080", "9090"} {
		execute(t, b, "exposed", "/bin/sh", "-c", "(while :; do echo here is "+port+" | /bin/busybox nc -l -p "+port+"; done) </dev/null >/dev/null 2>&1 &")
		eventually(t, port+" is listened at", func() bool {
			out, _, _ := execute(t, b, "exposed", "/bin/busybox", "nc", "-w", "3", "127.0.0.1", port)
			return strings.Contains(out, "here is "+port)
		})
	}
	pod := kubectl(t, "", "-n", "org-ns-org-fault", "get", "pod", "sandbox-exposed", "-o", "jsonpath={.status.podIP}")
	call := func(host, port string) string {
		out, _, _ := execute(t, free, "exposed-caller", "/bin/busybox", "nc", "-w", "3", host, port)
		return out
	}
	eventually(t, "the exposed port is reached", func() bool { return strings.Contains(call(pod, "8080"), "here is 8080") })
	eventually(t, "the Service has the pod behind it", func() bool {
		return strings.Contains(kubectl(t, "", "-n", "org-ns-org-fault", "get", "endpointslices", "-l", "kubernetes.io/service-name=sandbox-exposed", "-o", "jsonpath={.items[*].endpoints[*].addresses}"), pod)
	})
	if out := call(pod, "9090"); out != "" {
		t.Errorf("a port that is not exposed is reached: %s", out)
	}
	// A runner that was started anew finds the address again.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, cfg)
	t.Cleanup(func() { _ = again.Close() })
	seen(t, again)("exposed", "its address is known", func(n *backend.Observation) bool { return n.Service.Equal(o.Service) })
	withdrawn(t, again, "exposed")
}

// TestNetworkLoadBalancer: the address of a load balancer is told when the cluster has one, and not before, and not once its Service was deleted.
func TestNetworkLoadBalancer(t *testing.T) {
	b, _ := world(t, nil)
	o := begin(t, b, exposing(t, "balanced", "LoadBalancer"))
	if o.Service == nil || o.Service.Address != "" || len(o.Service.Ports) != 1 {
		t.Fatalf("before there is a load balancer it is reached at %+v", o.Service)
	}
	kubectl(t, "", "-n", "org-ns-org-fault", "patch", "service", "sandbox-balanced", "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.7"}]}}}`)
	seen(t, b)("balanced", "its address is told", func(o *backend.Observation) bool { return o.Service.Address == "198.51.100.7:8080" && runs(o) })
	was := kubectl(t, "", "-n", "org-ns-org-fault", "get", "service", "sandbox-balanced", "-o", "json")
	kubectl(t, "", "-n", "org-ns-org-fault", "delete", "service", "sandbox-balanced")
	seen(t, b)("balanced", "it is said that the Service is gone", withdrawnFor("Service"))
	kubectl(t, was, "create", "-f", "-")
	seen(t, b)("balanced", "the new one counts", func(o *backend.Observation) bool {
		return o.Service.Problem == "" && len(o.Service.Ports) == 1 && runs(o)
	})
	withdrawn(t, b, "balanced")
}

// withdrawnFor is what is told once somebody deleted what led to a sandbox.
func withdrawnFor(kind string) func(*backend.Observation) bool {
	return func(o *backend.Observation) bool {
		return o.Service.Address == "" && strings.Contains(o.Service.Problem, "the "+kind+" that led to it is gone") && runs(o)
	}
}

// TestFaultServiceQuota: a Service that the cluster refuses is the end of the launch, and there is no pod.
func TestFaultServiceQuota(t *testing.T) {
	b, _ := world(t, nil)
	launch(t, b, "quota-first", nil) // Makes the namespace.
	kubectl(t, "", "-n", "org-ns-org-fault", "create", "quota", "services", "--hard=services=0")
	t.Cleanup(func() { kubectl(t, "", "-n", "org-ns-org-fault", "delete", "quota", "services") })
	kubectl(t, "", "-n", "org-ns-org-fault", "wait", "quota/services", "--for=jsonpath={.status.hard.services}=0", "--timeout=2m")
	err := b.Create(t.Context(), exposing(t, "quota-second", "ClusterIP"))
	if !fault.Is(err, fault.Exhausted) || !strings.Contains(err.Error(), "Service") {
		t.Errorf("%v", err)
	}
	if left := kubectl(t, "", "-n", "org-ns-org-fault", "get", "pods,services", "-l", "berm.dev/sandbox-id=quota-second", "-o", "name"); left != "" {
		t.Errorf("left is %s", left)
	}
}

// TestNetworkIngress: the API server takes the Ingress as it was meant, and its host is told once the controller, here the test, has an address.
func TestNetworkIngress(t *testing.T) {
	b, cfg := world(t, nil)
	w := exposing(t, "routed", "ClusterIP")
	mode := w.Spec.Network.Ingress.Modes["m"]
	mode.ExpectsExternalAddress, mode.Ingress = true, &specpb.IngressRoute{ControllerName: "nobody", Template: "{{.SandboxID}}.sandboxes.example"}
	o := begin(t, b, w)
	if o.Service == nil || o.Service.Address != "" || len(o.Service.Ports) != 1 || o.Service.Ports[0].ContainerPort != 8080 {
		t.Fatalf("before there is an address it is reached at %+v", o.Service)
	}
	got := kubectl(t, "", "-n", "org-ns-org-fault", "get", "ingress", "sandbox-routed", "-o",
		"jsonpath={.spec.ingressClassName} {.spec.rules[*].host} {.spec.rules[*].http.paths[*].backend.service.name} {.spec.rules[*].http.paths[*].backend.service.port.number}")
	if got != "nobody routed.sandboxes.example sandbox-routed 8080" {
		t.Errorf("the Ingress is %s", got)
	}
	kubectl(t, "", "-n", "org-ns-org-fault", "patch", "ingress", "sandbox-routed", "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.8"}]}}}`)
	seen(t, b)("routed", "its host is told", func(o *backend.Observation) bool { return o.Service.Address == "routed.sandboxes.example" && runs(o) })
	// It is told also when no runner saw it go.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "", "-n", "org-ns-org-fault", "delete", "ingress", "sandbox-routed")
	again := open(t, cfg)
	t.Cleanup(func() { _ = again.Close() })
	seen(t, again)("routed", "it is said that the Ingress is gone", withdrawnFor("Ingress"))
	withdrawn(t, again, "routed")
}
