//go:build cluster

package kube_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	specpb "github.com/bermhq/berm/gen/berm/spec"
	"github.com/bermhq/berm/internal/backend"
	"github.com/bermhq/berm/internal/backend/kube"
	"github.com/bermhq/berm/internal/core/fault"
)

// webhook has the cluster ask about the pod of one sandbox: kind is Mutating or Validating, answer what is added to what it is told.
func webhook(t *testing.T, kind, pod string, answer map[string]any) {
	t.Helper()
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			APIVersion, Kind string
			Request          struct{ UID string }
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Errorf("a review: %v", err)
		}
		response := map[string]any{"uid": review.Request.UID}
		maps.Copy(response, answer)
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": review.APIVersion, "kind": review.Kind, "response": response})
	}))
	t.Cleanup(hook.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw})
	name := strings.TrimPrefix(pod, "sandbox-")
	kubectl(t, fmt.Sprintf(`{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "%sWebhookConfiguration", "metadata": {"name": %q}, "webhooks": [{
		"name": "%s.example.test", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 30,
		"clientConfig": {"url": %q, "caBundle": %q},
		"matchConditions": [{"name": "one", "expression": "object.metadata.name == '%s'"}],
		"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]}]}`,
		kind, name, name, hook.URL, base64.StdEncoding.EncodeToString(authority), pod), "create", "-f", "-")
	t.Cleanup(func() { kubectl(t, "", "delete", strings.ToLower(kind)+"webhookconfiguration", name) })
}

// TestFaultWebhookRefuses: its words are the reason of the refusal, and nothing is left of the sandbox. So it is where it cannot be asked,
// but that this may pass.
func TestFaultWebhookRefuses(t *testing.T) {
	b, _ := world(t, nil)
	refusal := func(id string) error {
		w := job(t, id, "true")
		w.Launch.MountedFiles = []*specpb.MountedFile{{Path: "/a", Content: []byte("a")}}
		for end := time.Now().Add(limit); time.Now().Before(end); { // A webhook is asked a moment after it was registered.
			if err := b.Create(t.Context(), w); err != nil {
				return err
			}
			clear(t, b, id)
		}
		return nil
	}
	webhook(t, "Validating", "sandbox-unwanted", map[string]any{"allowed": false, "status": map[string]any{"code": 403, "message": "images come from mirror.test"}})
	if err := refusal("unwanted"); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "images come from mirror.test") {
		t.Errorf("refused: %v", err)
	}
	webhook(t, "Validating", "sandbox-unasked", map[string]any{"uid": "of something else", "allowed": true})
	if err := refusal("unasked"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("could not be asked: %v", err)
	}
	if left := kubectl(t, "", "-n", "org-ns-org-fault", "get", "secrets,pods", "-o", "name"); strings.Contains(left, "unwanted") {
		t.Errorf("left behind: %s", left)
	}
}

// TestFaultMutated: what a webhook makes of a pod, and what somebody changes later, is told apart from what was submitted, and by whom.
func TestFaultMutated(t *testing.T) {
	b, _ := world(t, nil)
	webhook(t, "Mutating", "sandbox-mutated", map[string]any{"allowed": true, "patchType": "JSONPatch", "patch": []byte(`[{"op": "add", "path": "/metadata/labels/mutated", "value": "yes"}, {"op": "replace", "path": "/spec/terminationGracePeriodSeconds", "value": 7},
		{"op": "add", "path": "/spec/tolerations/-", "value": {"key": "spot", "operator": "Exists"}}]`)})
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
