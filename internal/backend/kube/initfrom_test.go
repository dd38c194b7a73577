//go:build cluster

package kube_test

import (
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core/fault"
)

// TestFaultInitFrom: a sandbox whose init is mounted from its image is one like any other, and the init is as closed to it.
func TestFaultInitFrom(t *testing.T) {
	b, _ := world(t, func(c *kube.Config) { c.Options.InitFrom = kube.InitFromImage })
	wait := seen(t, b)
	w := job(t, "mounted", "sh", "-c", "echo hello; sleep infinity")
	w.Spec.Pod.Spec.Fields["securityContext"] = podFragment(t, `{"x": {"runAsUser": 1000, "runAsGroup": 1000}}`).Fields["x"]
	if err := b.Create(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	wait("mounted", "it runs", runs)
	if out := kubectl(t, "", "-n", "org-ns-org-fault", "get", "pod", "sandbox-mounted", "-o", "jsonpath={.spec.initContainers}"); out != "" {
		t.Errorf("it has init containers: %s", out)
	}
	for command, want := range map[string]string{
		"cat /.berm/berm-shim >/dev/null": "Permission denied",
		"cat /proc/1/maps":                "Permission denied",
		"echo x >/.berm/berm-shim":        "Read-only file system",
		"echo $((6*7))":                   "42",
	} {
		if out, says, _ := execute(t, b, "mounted", "sh", "-c", command); !strings.Contains(out+says, want) {
			t.Errorf("%s: %q and %q have no %q", command, out, says, want)
		}
	}
	clear(t, b, "mounted")

	ended := job(t, "ends", "sh", "-c", "exit 7")
	if err := b.Create(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	if o := wait("ends", "it ends", over); o.ExitCode == nil || *o.ExitCode != 7 || o.Failed {
		t.Errorf("%+v", o)
	}
	if err := b.Delete(t.Context(), "ends"); err != nil {
		t.Error(err)
	}
}

// TestFaultInitFromRestricted: with its init from its image a pod keeps to Pod Security level restricted, as the API server judges it.
func TestFaultInitFromRestricted(t *testing.T) {
	const org, namespace = "org-sealed", "org-ns-org-sealed"
	b, _ := world(t, func(c *kube.Config) { c.Options.InitFrom = kube.InitFromImage })
	t.Cleanup(func() { kubectl(t, "", "delete", "namespace", namespace, "--wait=false") })
	begin(t, b, restricted(t, "sealed", org, "sleep", "infinity"))
	if got := space(t, namespace, `{.metadata.labels.pod-security\.kubernetes\.io/enforce}`); got != "restricted" {
		t.Errorf("the level is %q", got)
	}
	if got := kubectl(t, "", "-n", namespace, "get", "pod", "sandbox-sealed", "-o", "jsonpath={.spec.initContainers}{.spec.volumes[*].image.reference} {.spec.containers[*].securityContext.capabilities.drop}"); got != initImage+` ["ALL"]` {
		t.Errorf("the pod has %s", got)
	}
	if out, says, code := execute(t, b, "sealed", "sh", "-c", "/bin/busybox id -u && /bin/busybox grep -E 'CapEff|NoNewPrivs' /proc/self/status"); code != 0 || strings.Join(strings.Fields(out), " ") != "1000 CapEff: 0000000000000000 NoNewPrivs: 1" {
		t.Errorf("it runs as %q %s, exit code %d", out, says, code)
	}
	clear(t, b, "sealed")
	rights := restricted(t, "sealed-rights", org, "true")
	rights.Spec.Pod.Spec = podFragment(t, `{"containers": [{"name": "main", "securityContext": {"capabilities": {"add": ["CHOWN"]}}}]}`)
	if err := b.Create(t.Context(), rights); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), `container "main" must not include "CHOWN"`) {
		t.Errorf("more than the level gives: %v", err)
	}
}
