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

// restricted is a job that keeps to level restricted, in the namespace of an organization of its own.
func restricted(t *testing.T, id, org string, command ...string) *backend.Work {
	w := job(t, id, command...)
	w.OrgID = org
	w.Spec.Namespace = &specpb.Namespace{
		Labels: map[string]string{"team.example/cost-center": "ml"}, PodSecurity: proto.String("restricted"),
		Quota: &specpb.NamespaceQuota{Pods: proto.Int32(1), CpuLimit: proto.String("8")},
	}
	w.Spec.Pod.Spec = podFragment(t, `{"terminationGracePeriodSeconds": 1, "securityContext": {"runAsUser": 1000}}`)
	return w
}

// space is what the cluster has of a namespace.
func space(t *testing.T, name, path string) string {
	t.Helper()
	return kubectl(t, "", "get", "namespace", name, "-o", "jsonpath="+path)
}

func TestFaultNamespaceMade(t *testing.T) {
	const org, namespace = "org-made", "org-ns-org-made"
	b, _ := world(t, nil)
	wait := seen(t, b)
	if err := b.Create(t.Context(), restricted(t, "made-first", org, "sleep", "infinity")); err != nil {
		t.Fatal(err)
	}
	defer kubectl(t, "", "delete", "namespace", namespace, "--wait=false")
	running := wait("made-first", "it runs", runs)
	for path, want := range map[string]string{
		`{.metadata.labels.team\.example/cost-center}`:            "ml",
		`{.metadata.labels.pod-security\.kubernetes\.io/enforce}`: "restricted",
		`{.metadata.labels.app\.kubernetes\.io/managed-by}`:       "berm",
	} {
		if got := space(t, namespace, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if got := kubectl(t, "", "-n", namespace, "get", "quota", kube.QuotaName, "-o", "jsonpath={.status.hard.pods} {.status.hard.limits\\.cpu}"); got != "1 8" {
		t.Errorf("the quota counts up to %q", got)
	}
	if err := b.Create(t.Context(), restricted(t, "made-second", org, "true")); !fault.HasReason(err, fault.ReasonLimitExceeded) || !strings.Contains(err.Error(), "exceeded quota: berm") {
		t.Errorf("beyond the quota: %v", err)
	}
	rights := restricted(t, "made-rights", org, "true")
	rights.Spec.Pod.Spec = podFragment(t, `{"containers": [{"name": "main", "securityContext": {"capabilities": {"add": ["CHOWN"]}}}]}`)
	rights.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/a", Content: []byte("a")}}
	if err := b.Create(t.Context(), rights); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), `container "main" must not include "CHOWN"`) || fault.From(err).Hint == "" {
		t.Errorf("more than the level gives: %v", err)
	}
	if left := kubectl(t, "", "-n", namespace, "get", "secrets,pods", "-o", "name"); strings.Contains(left, "made-rights") || strings.Contains(left, "made-second") {
		t.Errorf("left behind: %s", left)
	}
	kubectl(t, "", "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=baseline", "--overwrite")
	d, err := b.Drift(t.Context(), "made-first", running.Submitted)
	if err != nil {
		t.Fatal(err)
	}
	told := ""
	for _, f := range d.Fields {
		if strings.HasPrefix(f.Path, "namespace.") || strings.HasPrefix(f.Path, "resourcequota.") {
			told += f.Path + " " + string(f.Submitted) + " " + string(f.Held) + " " + f.By + "\n"
		}
	}
	if want := "namespace.metadata.labels.pod-security.kubernetes.io/enforce \"restricted\" \"baseline\" kubectl-label\n"; told != want {
		t.Errorf("what changed: %s", told)
	}
	// A runner that was started anew finds a namespace that allows more than the profile wants.
	clear(t, b, "made-first")
	again, _ := world(t, func(c *kube.Config) { c.RunnerName += "-again" })
	if err := again.Create(t.Context(), restricted(t, "made-third", org, "true")); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "says baseline") {
		t.Errorf("a level that allows more: %v", err)
	}
	// One that was deleted is made again, as the profile says.
	kubectl(t, "", "delete", "namespace", namespace)
	w := restricted(t, "made-anew", org, "sleep", "infinity")
	err = b.Create(t.Context(), w)
	if fault.Is(err, fault.Precondition) { // The first to find it gone.
		err = b.Create(t.Context(), w)
	}
	if err != nil {
		t.Fatal(err)
	}
	wait("made-anew", "it runs", runs)
	if got := space(t, namespace, `{.metadata.labels.pod-security\.kubernetes\.io/enforce}`); got != "restricted" {
		t.Errorf("made again with level %q", got)
	}
	clear(t, b, "made-anew")
}

// TestFaultNamespaceTheirs: nothing of a namespace that was there is changed, and nothing is said to hold that does not.
func TestFaultNamespaceTheirs(t *testing.T) {
	const org, namespace = "org-their-own", "org-ns-org-their-own"
	kubectl(t, "", "create", "namespace", namespace)
	defer kubectl(t, "", "delete", "namespace", namespace, "--wait=false")
	before := space(t, namespace, "{.metadata.labels} {.metadata.annotations}")
	b, _ := world(t, nil)
	err := b.Create(t.Context(), restricted(t, "their-own", org, "true"))
	if f := fault.From(err); !fault.Is(err, fault.Precondition) || len(f.Fields) != 2 || f.Hint == "" {
		t.Errorf("%v", err)
	}
	w := restricted(t, "their-own", org, "true")
	w.Spec.Namespace.PodSecurity, w.Spec.Namespace.Quota = nil, nil
	if err := b.Create(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	seen(t, b)("their-own", "it ends", over)
	if err := b.Delete(t.Context(), "their-own"); err != nil {
		t.Error(err)
	}
	if after := space(t, namespace, "{.metadata.labels} {.metadata.annotations}"); after != before {
		t.Errorf("changed to %s", after)
	}
	if got := kubectl(t, "", "-n", namespace, "get", "quota", "-o", "name"); got != "" {
		t.Errorf("it has %s", got)
	}
}
