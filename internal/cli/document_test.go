package cli

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/spec"
	"github.com/bermhq/berm/internal/specfile"
)

func TestProfileDocument(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	raw := `{"id": "i", "etag": "e", "revision": 3, "displayName": "agent", "description": "", "labels": {}, "updatedAt": "2026-01-02T03:04:05Z",
	"warnings": [], "spec": {"nodeSelector": {"dashed-key": "1", "camelKey": "x"}, "tags": [], "containerImage": "host", "podTemplateJson": null,
	"networkConfigJson": "{\"egress\": {\"modes\": {\"myMode\": {\"dnsNames\": [\"a\"], \"type\": \"allowlist\"}}}}", "resourceDefaults": {"memoryLimit": "1Gi", "cpuLimit": "1"}}}`
	got, err := profileDocument([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	want := "# profile agent: revision 3, " + at.Local().Format(time.DateTime) + "\n# id i, etag e\n" + `display_name: agent
spec:
  container_image: host
  resource_defaults:
    cpu_limit: "1"
    memory_limit: 1Gi
  node_selector:
    camelKey: x
    dashed-key: "1"
  tags: []
  network:
    egress:
      modes:
        myMode:
          type: allowlist
          dns_names:
            - a
  pod: null
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// What is printed reads as what was stored.
	n, err := specfile.Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := spec.DecodeLayer(n.Get("spec"), "spec")
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"containerImage":"host","network":{"egress":{"modes":{"myMode":{"dnsNames":["a"],"type":"allowlist"}}}},"nodeSelector":{"camelKey":"x","dashed-key":"1"},"pod":null,"resourceDefaults":{"cpuLimit":"1","memoryLimit":"1Gi"},"tags":[]}`; layer.String() != want {
		t.Errorf("reads as %s", layer)
	}
}

func TestRunnerDocument(t *testing.T) {
	raw := `{"id": "i", "revision": 2, "displayName": "", "updatedAt": "x", "lastHeartbeatAt": "z", "installStatus": "RUNNER_INSTALL_STATUS_READY",
	"installError": {"reason": "CLUSTER_UNREACHABLE", "message": "it is\naway", "remediationHints": ["Look."], "occurredAt": "w"}, "connectionStatus": "RUNNER_CONNECTION_STATUS_CONNECTED",
	"identity": {"runnerId": "east", "zone": "us", "clusterId": ""}, "managedSpec": {"enforceResourceLimits": true, "allowPrivilegedProfileAnnotations": false},
	"profileBindings": [{"profileTemplateId": "p1", "profileName": "agent", "isDefault": true, "overridesJson": "{\"resourceDefaults\":{\"cpuLimit\":\"2\"},\"podTemplateJson\":\"{\\\"spec\\\":{\\\"hostNetwork\\\":true}}\"}"},
		{"profileTemplateId": "p1", "profileName": "other", "isDefault": false, "overridesJson": "", "warm": {"size": 3}}, {"profileTemplateId": "gone", "profileName": "x"}],
	"warmPools": [{"profileName": "other", "size": 3, "ready": 1, "preparing": 1, "hits": "7", "misses": "0", "problem": "it\nfails", "retryAt": "y"}],
	"deployment": {"pending": "revision 2 could not be rolled out: no image", "hints": ["Push it."], "error": {"reason": "IMAGE_PULL_FAILED", "occurredAt": "v", "diagnosticDetail": "not\nfound"}}}`
	got, err := runnerDocument([]byte(raw), map[string]string{"p1": "agent"})
	if err != nil {
		t.Fatal(err)
	}
	want := `# runner east: revision 2, x, ready, connected
# last heard of at z
# problem: it is away (CLUSTER_UNREACHABLE, since w)
# hint: Look.
# deployment: revision 2 could not be rolled out: no image
# seen: IMAGE_PULL_FAILED at v: not found
# hint: Push it.
# warm pool of other: 1 of 3 ready, 1 being prepared, 7 hits, 0 misses; it fails (tried again at y)
# id i
identity:
  runner_id: east
  zone: us
managed_spec:
  enforce_resource_limits: true
profile_bindings:
  - profile: agent
    is_default: true
    overrides:
      resource_defaults:
        cpu_limit: "2"
      pod:
        spec:
          hostNetwork: true
  - profile: agent
    profile_name: other
    warm:
      size: 3
  - profile_template_id: gone
    profile_name: x
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWhatAnEditDrops(t *testing.T) {
	old := []byte(`{"spec": {"containerImage": "host", "tags": ["a"], "resourceDefaults": {"cpuLimit": "1", "cpuRequest": "1"}, "networkConfigJson": "{\"egress\": {\"default\": \"none\"}}"}}`)
	for text, want := range map[string]string{
		"description: x":   "",
		"spec: {wrong: 1}": "", // refused anyway
		"spec: {container_image: other, tags: null, resource_defaults: {cpu_limit: 2, cpu_request: 1}, network: {egress: {default: none}}}": "",
		"spec: {container_image: host, resource_defaults: {cpu_limit: 1}}":                                                                  "network.egress.default, resource_defaults.cpu_request, tags",
	} {
		n, err := specfile.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		gone := dropped(old, n)
		slices.Sort(gone)
		if got := strings.Join(gone, ", "); got != want {
			t.Errorf("%s: drops %q, want %q", text, got, want)
		}
	}
	n, err := specfile.Parse([]byte("labels: {}\nspec: {}\ndisplay_name: x\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := wholeFields(n); got != "labels,spec" {
		t.Errorf("mask %q", got)
	}
}

func TestWhatAnEditOfARunnerDrops(t *testing.T) {
	raw := `{"displayName": "East", "identity": {"runnerId": "east", "zone": "us", "clusterName": "c", "runnerGroupId": "g"},
	"managedSpec": {"releaseChannel": "RELEASE_CHANNEL_STABLE", "enforceResourceLimits": true, "allowPrivilegedProfileAnnotations": false,
		"overrides": {"cpuRuntimeClass": "runc", "env": {"A": "1"}}}, "profileBindings": [{"profileTemplateId": "p", "isDefault": true}]}`
	old, err := answer([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]struct{ drops, mask, edited string }{
		"display_name: x": {"", "display_name", "display_name,managed_spec,profile_bindings"},
		"managed_spec: {enforce_resource_limits: true, overrides: {cpu_runtime_class: crun, env: {}}}": {"", "managed_spec", "display_name,managed_spec,profile_bindings"},
		"managed_spec: {overrides: {env: {A: '2'}}}":                                                   {"managed_spec.overrides.cpu_runtime_class, managed_spec.enforce_resource_limits", "managed_spec", "display_name,managed_spec,profile_bindings"},
		"managedSpec: {}": {"managed_spec.overrides, managed_spec.enforce_resource_limits", "managed_spec", "display_name,managed_spec,profile_bindings"},
		"identity: {runner_id: east, cluster_name: c, zone: eu}":           {"identity.runner_group_id", "identity.zone,identity.runner_group_id", ""},
		"identity: {runner_id: west, cluster_name: c, runner_group_id: g}": {"", "identity.runner_id", ""},
		"identity: {runner_id: east, zone: us, runner_group_id: g}":        {"", "", ""},
		"identity: {zone: eu, runnerGroupId: h}\nprofile_bindings: []\n":   {"", "profile_bindings,identity.zone,identity.runner_group_id", ""},
	} {
		n, err := specfile.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(droppedOfRunner(n, old), ", "); got != want.drops {
			t.Errorf("%s: drops %q, want %q", text, got, want.drops)
		}
		if got := runnerMask(n, old, false); got != want.mask {
			t.Errorf("%s: mask %q, want %q", text, got, want.mask)
		}
		if got := runnerMask(n, old, true); want.edited != "" && got != want.edited {
			t.Errorf("%s, from an editor: mask %q, want %q", text, got, want.edited)
		}
	}
}
