package kube_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend/kube"
)

func TestCheckSpec(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"empty":       {"{}", ""},
		"partial":     {"{namespace: {namespace_prefix: a-}, pod: {metadata: {labels: {team: ml}}, spec: {tolerations: null, nodeSelector: {a: b}}}}", ""},
		"node labels": {"{node_selector: {a: b, c: d}, pod: {spec: {nodeSelector: {a: b, e: f}}}}", ""},
		"node labels with two values": {
			"{node_selector: {a: b, c: d}, pod: {spec: {nodeSelector: {a: x, c: d}}}}",
			`INVALID FIELD_INVALID: the spec makes no pod
  node_selector[a]: is "b" here and "x" in pod.spec.nodeSelector: no node has both
hint: pod.spec is a part of a Kubernetes PodSpec, merged onto the pod that Berm makes
`},
		"routes": {
			`{network: {ingress: {modes: {web: {ingress: {template: "{{.SandboxID}}.example", controller_name: traefik, gateway: {name: Edge, section_name: "a_b"}}}}}}}`,
			`INVALID FIELD_INVALID: the spec makes no pod
  network.ingress.modes[web].ingress.controllerName: is the class of an Ingress, and with gateway there is none; leave one of them out
  network.ingress.modes[web].ingress.gateway.name: "Edge" is no name: a-z, 0-9, - and ., the first and the last alphanumeric
  network.ingress.modes[web].ingress.gateway.sectionName: "a_b" is no name: a-z, 0-9, - and ., the first and the last alphanumeric
hint: pod.spec is a part of a Kubernetes PodSpec, merged onto the pod that Berm makes
`},
		"all at once": {
			"{namespace: {namespace_prefix: kube-, static_namespace: Up}, pod: {metadata: {labels: {berm.dev/x: a}, annotations: {app.kubernetes.io/managed-by: me}}, spec: {hostnetwork: true}}}",
			`INVALID FIELD_INVALID: the spec makes no pod
  namespace.static_namespace: "Up" is no namespace: at most 63 of a-z, 0-9 and -, the first and the last no -
  namespace.namespace_prefix: "kube-" belongs to Kubernetes: names that begin with "kube-" are not for sandboxes
  pod.metadata.annotations[app.kubernetes.io/managed-by]: is set by Berm alone: it says whose the pod is
  pod.metadata.labels[berm.dev/x]: is set by Berm alone: it says whose the pod is
  pod.spec.hostnetwork: unknown field "hostnetwork"; did you mean "hostNetwork"?
hint: pod.spec is a part of a Kubernetes PodSpec, merged onto the pod that Berm makes
`},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &specpb.ProfileSpec{}
			decode(t, []byte(c.spec), spec)
			got := ""
			if err := kube.CheckSpec(spec); err != nil {
				got = faultText(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
