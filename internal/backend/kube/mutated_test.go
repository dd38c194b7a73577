//go:build cluster

package kube_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
)

// mutating is a webhook of the cluster that applies a JSON patch to the pod of one sandbox.
func mutating(t *testing.T, pod, patch string) {
	t.Helper()
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			APIVersion, Kind string
			Request          struct{ UID string }
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Errorf("a review: %v", err)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": review.APIVersion, "kind": review.Kind, "response": map[string]any{
			"uid": review.Request.UID, "allowed": true, "patchType": "JSONPatch", "patch": []byte(patch),
		}})
	}))
	t.Cleanup(hook.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw})
	kubectl(t, fmt.Sprintf(`{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "mutated"}, "webhooks": [{
		"name": "mutated.example.test", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
		"clientConfig": {"url": %q, "caBundle": %q},
		"matchConditions": [{"name": "one", "expression": "object.metadata.name == '%s'"}],
		"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]}]}`,
		hook.URL, base64.StdEncoding.EncodeToString(authority), pod), "create", "-f", "-")
	t.Cleanup(func() { kubectl(t, "", "delete", "mutatingwebhookconfiguration", "mutated") })
}

// TestFaultMutated: what a webhook makes of a pod, and what somebody changes later, is told apart from what was submitted, and by whom.
func TestFaultMutated(t *testing.T) {
	b, _ := world(t, nil)
	mutating(t, "sandbox-mutated", `[{"op": "add", "path": "/metadata/labels/mutated", "value": "yes"}, {"op": "replace", "path": "/spec/terminationGracePeriodSeconds", "value": 7},
		{"op": "add", "path": "/spec/tolerations/-", "value": {"key": "spot", "operator": "Exists"}}]`)
	w := job(t, "mutated", "sleep", "infinity")
	w.Launch.EnvironmentVariables = map[string]string{"TOKEN": "5ecret"}
	wait := seen(t, b)
	for end := time.Now().Add(limit); ; { // A webhook is asked a moment after it was registered.
		if err := b.Create(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if o := wait("mutated", "it runs", runs); strings.Contains(kubectl(t, "", "-n", "org-ns-org-fault", "get", "pod", "sandbox-mutated", "-o", "json"), `"mutated": "yes"`) || time.Now().After(end) {
			kubectl(t, "", "-n", "org-ns-org-fault", "label", "pod", "sandbox-mutated", "team=red")
			told(t, b, o)
			clear(t, b, "mutated")
			return
		}
		clear(t, b, "mutated")
	}
}

func told(t *testing.T, b *kube.Backend, o *backend.Observation) {
	t.Helper()
	d, err := b.Drift(t.Context(), o.SandboxID, o.Submitted)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range d.Fields {
		if strings.Contains(string(f.Held)+string(f.Submitted), "5ecret") {
			t.Errorf("a secret is in %s", f.Path)
		}
		if !f.Filled {
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s -> %s %s", f.Kind, f.Path, f.Submitted, f.Held, f.By)))
		}
	}
	want := []string{
		`added metadata.labels.mutated  -> "yes"`, `added metadata.labels.team  -> "red" kubectl-label`,
		`changed spec.terminationGracePeriodSeconds 1 -> 7 berm`, `added spec.tolerations[]  -> {"key":"spot","operator":"Exists"}`,
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}
